"""Recipes: one TOML file per published system or baseline, and their strict reader."""
