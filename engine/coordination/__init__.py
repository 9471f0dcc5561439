"""What processes on several hosts share through Redis or Valkey: a ceiling, and leases of cohorts.

Each step is one script, which the server runs atomically, with its own clock. A process compares
only the server's times with each other, and its own monotonic times with each other; hosts' clocks
may differ. Without `limits.shared`, nothing here is used.
"""
