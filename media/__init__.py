"""Decoding of recordings: files, frames and sound, independent of any model."""
