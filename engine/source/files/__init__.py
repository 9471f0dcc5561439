"""Files, folders, pipes and URLs: which files an export is, and how each is opened and read."""
