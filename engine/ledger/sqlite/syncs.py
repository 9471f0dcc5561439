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
    """Return each cohort's record in the last sync that had it, by the cohort's key."""
    rows = connection.execute(
        f"SELECT {_COLUMNS}, max(started_utc_ns) FROM synced_cohort "  # noqa: S608 - our own names
        "GROUP BY cohort, partner ORDER BY cohort, partner"
    )
    return [SyncRecord(*row[:-1]) for row in rows]


class SyncStore(Store):
    """The syncs of a workspace."""

    enter = in_transaction(enter_sync)
    since = in_transaction(records_since)
    latest = in_transaction(latest_records)
