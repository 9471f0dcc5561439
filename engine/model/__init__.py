"""Values without I/O: cohort, endpoint, workspace."""
