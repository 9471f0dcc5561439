"""The results of SQL queries: read once, kept in a spool, and read from there."""
