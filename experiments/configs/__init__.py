"""Configurations: each file has get_config() -> Config."""
