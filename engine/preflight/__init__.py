"""The checks before a run."""
