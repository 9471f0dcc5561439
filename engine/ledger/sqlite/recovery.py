"""What a process that died has left in the ledger, put in order by the next one.

Each is a function on a connection, inside its caller's transaction. None visits what is in order.
"""

import sqlite3

from engine.clock import Stamp
from engine.ledger.sqlite.totals import store_missing


def recover(connection: sqlite3.Connection, now: Stamp) -> None:
    """Settle what has no outcome, and let no run be running; see `Ledger.recover`."""
    connection.execute(
        "UPDATE batch SET may_have_been_applied = 1 WHERE (run, batch) IN "
        "(SELECT run, batch FROM attempt WHERE outcome IS NULL)"
    )
    # A run may have been closed while requests of it were under way.
    connection.execute(
        "DELETE FROM run_totals WHERE run IN (SELECT run FROM attempt WHERE outcome IS NULL)"
    )
    connection.execute(
        "UPDATE attempt SET outcome = 'unconfirmed', sent_boot_id = ?, sent_boot_ns = ?, "
        "sent_utc_ns = ?, reason = 'the process died before it knew the outcome' "
        "WHERE outcome IS NULL",
        (now.boot_id, now.boot_ns, now.utc_ns),
    )
    conclude_probes(connection, now)
    connection.execute(
        "UPDATE sitting SET ended_utc_ns = coalesce((SELECT intended_utc_ns FROM attempt "
        "WHERE attempt.run = sitting.run AND attempt.sitting = sitting.sitting "
        "ORDER BY id DESC LIMIT 1), started_utc_ns) WHERE ended_utc_ns IS NULL"
    )
    connection.execute(
        "UPDATE run SET status = 'incomplete', reason = 'the process died' WHERE status = 'running'"
    )
    store_missing(connection)


def conclude_probes(connection: sqlite3.Connection, now: Stamp) -> None:
    """Enter that the probes under way have ended; they were sent now, at the latest."""
    connection.execute(
        "UPDATE probe SET sent_boot_id = ?, sent_boot_ns = ?, sent_utc_ns = ? "
        "WHERE sent_utc_ns IS NULL",
        (now.boot_id, now.boot_ns, now.utc_ns),
    )
