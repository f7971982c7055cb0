"""Engines that run the chunks of an extraction: a plain file here is an engine."""
