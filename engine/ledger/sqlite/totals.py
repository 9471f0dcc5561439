"""The sums over a run's batches and attempts: counted, and stored with each run that is closed.

A count reads every batch and attempt of the run, so it is made outside of the transaction that
stores it: other processes must not have to wait for it. Stored totals are used as long as the run
stays closed, so that a list of runs is not slower with millions of attempts.
"""

import json
import sqlite3
import zlib
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from engine.ledger.run_records import PlannedTotal, RunTotals, SendSpan, StandingTotal


def stored(connection: sqlite3.Connection, run: int) -> RunTotals | None:
    """Return the totals stored with a closed run; None if there are no valid ones."""
    found = connection.execute(
        "SELECT totals, checksum FROM run_totals JOIN run USING (run) "
        "WHERE run = ? AND status <> 'running'",
        (run,),
    ).fetchone()
    if found is None or zlib.crc32(found[0].encode()) != found[1]:
        return None
    with suppress(TypeError, ValueError):  # Another version stores other totals.
        return _totals(**json.loads(found[0]))
    return None


def _totals(
    *, standings: list[list[Any]], planned: list[list[Any]], spans: list[list[Any]], **sums: int
) -> RunTotals:
    return RunTotals(
        standings=[StandingTotal(*each) for each in standings],
        planned=[PlannedTotal(*each) for each in planned],
        spans=[SendSpan(*each) for each in spans],
        **sums,
    )


def store(connection: sqlite3.Connection, run: int, execution: int, totals: RunTotals) -> None:
    """Store the totals of a closed run, counted when `execution` was its last one.

    Nothing is stored if they may differ from the sums by now: if another execution has begun, or if
    an attempt had no outcome when they were counted.
    """
    if not totals.are_settled:
        return
    text = json.dumps(asdict(totals), separators=(",", ":"))
    connection.execute(
        "INSERT OR REPLACE INTO run_totals (run, totals, checksum) SELECT ?1, ?2, ?3 "
        "FROM run WHERE run = ?1 AND status <> 'running' "
        "AND (SELECT max(sitting) FROM sitting WHERE run = ?1) = ?4",
        (run, text, zlib.crc32(text.encode()), execution),
    )


def without_totals(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return each closed run without stored totals, and its last execution."""
    return connection.execute(
        "SELECT run, max(sitting) FROM run JOIN sitting USING (run) WHERE status <> 'running' "
        "AND run NOT IN (SELECT run FROM run_totals) GROUP BY run"
    ).fetchall()


def count(connection: sqlite3.Connection, run: int) -> RunTotals:
    """Count the totals of a run from its batches and attempts."""

    def rows(query: str) -> list[list[Any]]:
        return [list(row) for row in connection.execute(query, (run,))]

    def sums(query: str) -> dict[str, int]:
        cursor = connection.execute(query, (run,))
        names = [column[0] for column in cursor.description]
        return dict(zip(names, cursor.fetchone(), strict=True))

    return _totals(
        **{name: count for query in _SUMS for name, count in sums(query).items()},
        standings=rows(_STANDINGS),
        planned=rows(_PLANNED),
        spans=rows(_SPANS),
    )


# Blank and invalid rows are counted by batch and once more by place. Both counts must agree, or the
# sum of the rows is wrong.
_ROWS = """
SELECT coalesce((SELECT records FROM reading WHERE run = ?1), max(records_through), 0)
         AS records,
       coalesce((SELECT sum(count) FROM skipped WHERE run = ?1 AND reason LIKE 'blank%'), 0)
         AS blank,
       coalesce((SELECT sum(count) FROM skipped WHERE run = ?1 AND reason = 'excluded'), 0)
         AS excluded,
       coalesce((SELECT invalid FROM reading WHERE run = ?1), 0) + coalesce(sum(invalid), 0)
         AS invalid
FROM batch WHERE run = ?1
"""

_STANDINGS = """
SELECT CASE
         WHEN state <> 'open' THEN state
         WHEN may_have_been_applied OR EXISTS (
           SELECT 1 FROM attempt AS a
           WHERE a.run = b.run AND a.batch = b.batch AND a.outcome IS NULL
         ) THEN 'unconfirmed'
         ELSE 'pending'
       END AS standing,
       leg, count(*), sum(uid_count)
FROM batch AS b WHERE run = ?1 AND state <> 'split' GROUP BY standing, leg
"""

# The planned uids are those cut from the export, even if their batch was split since.
_PLANNED = """
SELECT leg, sum(uid_count) FROM batch WHERE run = ?1 AND parent IS NULL GROUP BY leg
"""

_BATCHES = """
SELECT coalesce(sum(parent IS NULL), 0) AS roots, coalesce(sum(state = 'split'), 0) AS splits
FROM batch WHERE run = ?1
"""

_REQUESTS = """
SELECT count(*) AS sent,
       coalesce(sum(a.outcome = 'accepted'), 0) AS accepted,
       coalesce(sum(a.outcome = 'throttled'), 0) AS throttled,
       coalesce(sum(EXISTS (
         SELECT 1 FROM attempt AS e WHERE e.run = a.run AND e.batch = a.batch
         AND e.attempt < a.attempt AND e.sent_utc_ns IS NOT NULL
       )), 0) AS retried,
       coalesce(sum(a.outcome IN ('rejected', 'too_large') AND b.state = 'split'), 0) AS split,
       coalesce(sum(b.payload_bytes), 0) AS bytes,
       coalesce(sum(s.payload_bytes), 0) AS room
FROM attempt AS a JOIN batch AS b USING (run, batch) JOIN sitting AS s USING (run, sitting)
WHERE run = ?1 AND (a.outcome IS NULL OR a.sent_utc_ns IS NOT NULL)
"""

# The uids that were rejected before follow the plain ones of their operation.
_REJECTED_AGAIN = """
SELECT coalesce(sum(uid_count), 0) AS rejected_again FROM batch JOIN plan USING (run)
WHERE run = ?1 AND state = 'rejected'
AND first_uid >= iif(leg = 'add', add_plain, remove_plain)
AND first_uid < iif(leg = 'add', add_plain + add_suspect, remove_plain + remove_suspect)
AND leg <> 'resend'
"""

_SPANS = """
SELECT sitting, count(*), max(sent_utc_ns) - min(sent_utc_ns)
FROM attempt WHERE run = ?1 AND sent_utc_ns IS NOT NULL GROUP BY sitting
"""

_SUMS = (_ROWS, _BATCHES, _REQUESTS, _REJECTED_AGAIN)
"""Each gives one row, whose columns are fields of `RunTotals`."""
