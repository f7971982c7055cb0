"""Posteriors of any system: combined, calibrated and scored."""
