"""Keeps requests within the ceiling: arithmetic (`Schedule`, `Gate`, `Budget`), waits (`Pacer`).

aiolimiter's leaky bucket sets the pace: it leaks `requests` per `per_seconds`, and its small burst
catches up after a late wake-up. Alone, it would send a full bucket in addition to a window's
requests after each start and each pause. The window limit (`Schedule`) therefore goes by when the
API can have counted each request at the latest: its answer or its failure, which is its end. A
request may be sent a window after the `requests`-th largest end, less the shortest round trip, with
some slack. The ends come from the ledger's attempts too, so they include attempts before a restart.

A 429 within the window limit widens the slack. If 429s continue, the ceiling is lower than
configured: the pace steps down to the accepted rate, and then up again in small steps.
"""
