"""Files on disk: written whole or not at all; temporary folders that know their owner."""
