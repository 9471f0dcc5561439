"""Value classes without I/O: cohort, endpoint, workspace."""
