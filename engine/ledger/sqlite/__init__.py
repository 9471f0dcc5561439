"""The ledger in SQLite: all SQL is in this package."""
