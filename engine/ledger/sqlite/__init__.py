"""The ledger in SQLite: the one place that knows SQL."""
