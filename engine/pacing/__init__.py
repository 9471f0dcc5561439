"""Keeps requests within the ceiling: arithmetic (`Schedule`, `Gate`, `Budget`), waits (`Pacer`).

aiolimiter's leaky bucket sets the pace: it leaks `requests` per `per_seconds`, and its small burst
catches up after a late wake-up. Alone, it would send a full bucket in addition to a window's
requests after each start and each pause. The window limit is therefore a log of send times: a
request may be sent when the `requests`-th request before it is a window and a margin old. The log
is built from the ledger's attempts, so it includes attempts before a restart.

The margin covers arrival jitter, which can reduce the spacing of requests at the server. The spread
of the round trips is an upper bound of that jitter. It is the margin, up to 1 % of the window; a
429 within the window limit widens the margin. If 429s continue, the ceiling is lower than
configured: the pace steps down to the accepted rate, and then up again in small steps.
"""
