"""config.toml and the environment into one frozen `Config`, or every problem at once."""
