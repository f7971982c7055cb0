"""Representation to emotion logits and dimensions, with their loss: one plain file per head."""
