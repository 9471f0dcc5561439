"""Tables of Delta Lake and Iceberg, read at one version."""
