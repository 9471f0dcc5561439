"""The cohorts of each sync: what was to be done, and how it ended.

Each function runs on a connection, inside its caller's transaction.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, fields

from engine.ledger.sqlite.store import Store, in_transaction
from engine.ledger.sync_records import SyncRecord

_COLUMNS = ", ".join(each.name for each in fields(SyncRecord))
_MARKS = ", ".join("?" for _ in fields(SyncRecord))


def enter_sync(connection: sqlite3.Connection, records: Iterable[SyncRecord]) -> None:
    """Enter the cohorts that a sync begins with, or replace them with how they ended."""
    connection.executemany(
        f"INSERT OR REPLACE INTO synced_cohort ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608 - our own names
        map(astuple, records),
    )


def records_since(
    connection: sqlite3.Connection, utc_ns: int, partner: str | None = None
) -> list[SyncRecord]:
    """Return the records of the syncs that began at `utc_ns` or later, the earliest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM synced_cohort WHERE started_utc_ns >= ? "  # noqa: S608 - our own names
        "AND (? IS NULL OR partner = ?) ORDER BY started_utc_ns, sync, rowid",
        (utc_ns, partner, partner),
    )
    return [SyncRecord(*row) for row in rows]


def latest_records(connection: sqlite3.Connection) -> list[SyncRecord]:
    """Return the record of each cohort that says how it is, by the cohort's key.

    That is the one that ended last: a sync that began later, but ended at once because of this one,
    does not count. One that has not ended, or whose process died, counts from its begin.
    """
    rows = connection.execute(
        f"SELECT {_COLUMNS}, max({_LAST_MOMENT}) FROM synced_cohort "  # noqa: S608 - our own names
        "GROUP BY cohort, partner ORDER BY cohort, partner"
    )
    return [SyncRecord(*row[:-1]) for row in rows]


_LAST_MOMENT = "coalesce(finished_utc_ns, started_utc_ns)"

_OLD = """
FROM synced_cohort AS old WHERE started_utc_ns < ?1 AND EXISTS (
  SELECT 1 FROM synced_cohort AS later WHERE later.cohort = old.cohort
  AND later.partner = old.partner AND coalesce(later.finished_utc_ns, later.started_utc_ns)
                                    > coalesce(old.finished_utc_ns, old.started_utc_ns)
  AND (old.exit_status IS NOT 0 OR later.exit_status = 0)
)
"""
"""Each cohort's last record, and its last one with exit status 0, are kept."""


def count_old(connection: sqlite3.Connection, before_utc_ns: int) -> int:
    """Return how many records `delete_old` would delete in all."""
    found = connection.execute(f"SELECT count(*) {_OLD}", (before_utc_ns,)).fetchone()
    return int(found[0])


def delete_old(connection: sqlite3.Connection, before_utc_ns: int, most: int) -> int:
    """Delete some records of syncs that began before `before_utc_ns`; return how many."""
    return connection.execute(
        f"DELETE FROM synced_cohort WHERE rowid IN (SELECT rowid {_OLD} LIMIT ?2)",  # noqa: S608 - our own words
        (before_utc_ns, most),
    ).rowcount


class SyncStore(Store):
    """The syncs of a workspace."""

    enter = in_transaction(enter_sync)
    since = in_transaction(records_since)
    latest = in_transaction(latest_records)
