"""One TOML per published system and baseline."""
