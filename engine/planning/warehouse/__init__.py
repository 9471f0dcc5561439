"""The comparison in Snowflake and BigQuery, in their SQL."""
