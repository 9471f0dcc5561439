"""The ceiling: its arithmetic (`Schedule`, `Gate`, `Budget`) and the waiting (`Pacer`).

aiolimiter's leaky bucket sets the pace: it leaks `requests` per `per_seconds` and holds a few, so
that a late wake-up is caught up at once. By itself it would send a full bucket in addition to a
window's requests, after every start and every pause. The window limit is therefore a log of send
times: a request may be sent when the `requests`-th before it is a window and a margin old. The log
is the ledger's attempts, so it includes those before a restart.

The margin allows for jitter of arrival, which makes requests denser at the server. The spread of
the round trips is an upper bound of that jitter; it is the margin, up to 1 % of the window, and a
429 within the window limit widens it. If 429s continue, the ceiling is lower than configured: the
pace steps down to the rate that was accepted, and then up again in small steps.
"""
