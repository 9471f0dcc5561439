"""Recovers in the ledger what a process that died left unfinished.

Each is a function on a connection, inside its caller's transaction. Its caller holds the lock that
a living process would hold. None of them reads records that are complete.
"""

import json
import sqlite3
from collections.abc import Sequence

from engine.clock import Stamp
from engine.model.cohort import CohortKey

# A closed run may have an open execution, and attempts without an outcome.
_INTERRUPTED = """
SELECT run, partner, cohort_id FROM run WHERE status = 'running'
OR run IN (SELECT run FROM sitting WHERE ended_utc_ns IS NULL)
OR run IN (SELECT run FROM attempt WHERE outcome IS NULL)
"""


def interrupted_cohorts(connection: sqlite3.Connection) -> list[CohortKey]:
    """Return the cohorts of runs that have not ended, whether or not a process works on them."""
    found = connection.execute(
        f"SELECT DISTINCT partner, cohort_id FROM ({_INTERRUPTED}) ORDER BY 1, 2"  # noqa: S608 - ours
    )
    return [CohortKey(*row) for row in found]


def recover(connection: sqlite3.Connection, key: CohortKey | None, now: Stamp) -> None:
    """End the runs of a cohort, or of all, that no process works on; see `Ledger.recover`."""
    runs = [
        run
        for run, *cohort in connection.execute(_INTERRUPTED)
        if key is None or cohort == [key.partner, key.cohort_id]
    ]
    if runs:
        settle_attempts(connection, now, runs)
        concerned = json.dumps(runs)
        connection.execute(
            "UPDATE sitting SET ended_utc_ns = coalesce((SELECT intended_utc_ns FROM attempt "
            "WHERE attempt.run = sitting.run AND attempt.sitting = sitting.sitting "
            "ORDER BY id DESC LIMIT 1), started_utc_ns) "
            "WHERE ended_utc_ns IS NULL AND run IN (SELECT value FROM json_each(?))",
            (concerned,),
        )
        connection.execute(
            "UPDATE run SET status = 'incomplete', reason = 'the process died' "
            "WHERE status = 'running' AND run IN (SELECT value FROM json_each(?))",
            (concerned,),
        )
    if key is None:
        conclude_probes(connection, now)


def settle_attempts(
    connection: sqlite3.Connection, now: Stamp, runs: Sequence[int] | None = None
) -> None:
    """Settle the attempts without an outcome, of some runs or of all.

    Each may have been sent, and may have been applied. It counts as sent now, the latest possible
    time.
    """
    if runs is None:
        found = connection.execute("SELECT DISTINCT run FROM attempt WHERE outcome IS NULL")
        runs = [run for (run,) in found]
    for run in runs:
        unsettled = connection.execute(
            "UPDATE batch SET may_have_been_applied = 1 WHERE run = ?1 AND batch IN "
            "(SELECT batch FROM attempt WHERE run = ?1 AND outcome IS NULL)",
            (run,),
        ).rowcount
        if not unsettled:
            continue
        # A run may have been closed while its requests were under way.
        connection.execute("DELETE FROM run_totals WHERE run = ?", (run,))
        connection.execute(
            "UPDATE attempt SET outcome = 'unconfirmed', sent_boot_id = ?, sent_boot_ns = ?, "
            "sent_utc_ns = ?, reason = 'the process died before it knew the outcome' "
            "WHERE run = ? AND outcome IS NULL",
            (now.boot_id, now.boot_ns, now.utc_ns, run),
        )


def settle_all(connection: sqlite3.Connection, now: Stamp) -> None:
    """Settle all that was under way when the last sending process ended or stopped sending."""
    settle_attempts(connection, now)
    conclude_probes(connection, now)


def conclude_probes(connection: sqlite3.Connection, now: Stamp) -> None:
    """Record that the probes under way have ended; they count as sent now."""
    connection.execute(
        "UPDATE probe SET sent_boot_id = ?, sent_boot_ns = ?, sent_utc_ns = ? "
        "WHERE sent_utc_ns IS NULL",
        (now.boot_id, now.boot_ns, now.utc_ns),
    )
