"""Frozen encoders, media to features: one plain file per encoder family."""
