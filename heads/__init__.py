"""Heads: from a fused representation to emotion logits and dimensions, with their loss; one plug-in per file."""
