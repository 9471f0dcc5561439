"""The record of what was planned, attempted and accepted: one SQLite file a workspace."""
