"""Streams to one representation: one plain file per fusion."""
