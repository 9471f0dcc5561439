"""What changes tonight: the export against what the API acknowledged, and the guards before it."""
