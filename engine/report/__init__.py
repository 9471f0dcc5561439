"""Reports on runs and uids from the ledger, as values for people and for programs."""
