"""Finds, opens and reads the files of an export: files, folders, pipes and URLs."""
