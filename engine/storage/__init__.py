"""Files on disk, written atomically, and temporary folders with an owner."""
