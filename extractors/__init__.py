"""Frozen encoders that turn media into features: one file per encoder family."""
