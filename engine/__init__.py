"""Bulk audience sync for the MoEngage Cohort Sync API: every uid sent once, paced, accounted for.

    export ──► source ──► (planning) ──► payload ──► pacing ──► delivery ──► ledger ──► report
               uids       changes        requests    turns      outcomes     records    accounts

Values go from left to right; only decisions go back ("again in 4 s", "split", "stop"). A push sends
the uids of an export; a mirror sends the changes of a plan. Both use the same delivery.

A folder imports only from those below it; `lint-imports` checks that.

    cli/        the command line: arguments, signals, what is shown
    runs/       one job from request to result: push, mirror, plan, dry run, transfer, closing
    preflight/  checks before a run, without sending a uid
    config/     config.toml, environment and flags as one frozen Config, or every problem at once
    planning/   an export against a snapshot: staging, comparison, guards, forecast
    report/     accounts, figures and history of runs, from the ledger's rows
    snapshot/   what the API has acknowledged, generation by generation
    delivery/   response → outcome → decision; the pipeline, HTTP, retry, split, stop
    ledger/     runs, batches and attempts; intent before action; in sqlite/, all SQL
    payload/    uids as request bodies below the byte limit
    pacing/     the ceiling: the window limit, the gate after a 429, the waiting
    source/     exports as Arrow arrays of uids, with the place of each uid
    storage/    atomic files, temporary folders, DuckDB, Parquet; in `paths`, all paths with uids
    model/      values without I/O: cohort, endpoint, workspace, status
    clock, errors

    emulator/   the API itself, on loopback; shares no code with the rest and counts for itself

Laws, kept by tests: rows read = blank + invalid + planned; planned = accepted + rejected +
unconfirmed + pending; an attempt is durable before its first byte is sent; never more requests in
any window than the ceiling allows; memory is bounded by settings, not by the size of the export.
"""

__version__ = "0.1.0"
