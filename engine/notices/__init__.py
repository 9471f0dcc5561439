"""What other systems and people learn of a sync.

Metrics, notifications, pings, marker files, and the commands that follow a complete cohort.
"""
