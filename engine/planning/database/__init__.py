"""The comparison in a database, which also keeps the snapshots."""
