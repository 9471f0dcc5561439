"""Reads config.toml and the environment into a frozen `Config`, or reports every problem."""
