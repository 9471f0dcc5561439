"""The comparison on Spark, and snapshots in Delta tables of a lake."""
