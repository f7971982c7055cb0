"""Decoding of recordings: it knows files, frames and sound, but no model."""
