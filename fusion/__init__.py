"""Fusion of several streams into one representation; one plug-in per file."""
