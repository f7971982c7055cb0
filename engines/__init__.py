"""Engines that run the chunks of an extraction: one file per engine."""
