"""Copies a ledger while others write to it, and prepares a copy that replaces it."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Stamp
from engine.ledger.sqlite.access import connect_to_read, refuse_unreadable
from engine.ledger.sqlite.executions import abandon
from engine.ledger.sqlite.failures import readable_errors
from engine.ledger.sqlite.schema import check_content, open_for_reading
from engine.model.cohort import CohortKey
from engine.model.status import RESUMABLE, RunStatus


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """What a ledger names beside itself."""

    generations: Sequence[tuple[CohortKey, str]]
    """The cohort and the file name of each snapshot that is kept."""
    runs: Sequence[tuple[str, bool]]
    """The runs that may have uids beside the ledger, and whether no snapshot has them yet."""


def copy_ledger(path: Path, target: Path) -> None:
    """Write a ledger, as of one moment, to the new file `target`, durably.

    `VACUUM INTO` reads one state of the file; a copy page by page would restart at each write.
    Raises `LedgerError` if the ledger cannot be read or its copy is not whole.
    """
    refuse_unreadable(path)
    target.touch(mode=0o600)
    with readable_errors(path), closing(connect_to_read(path)) as connection:
        connection.execute("VACUUM INTO ?", (os.fspath(target),))
    with closing(sqlite3.connect(target)) as copy, readable_errors(target):
        check_content(copy, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def named_files(path: Path) -> NamedFiles:
    """Return what a ledger names beside itself."""
    with closing(open_for_reading(path)) as connection:
        generations = connection.execute(
            "SELECT partner, cohort_id, is_shadow, file FROM generation WHERE file IS NOT NULL"
        )
        runs = connection.execute(
            "SELECT name, (SELECT coalesce(max(id), 0) FROM attempt AS a WHERE a.run = run.run) "
            "> f.attempt FROM run JOIN followed AS f USING (run)"
        )
        return NamedFiles(
            [
                (CohortKey(partner, cohort, bool(is_shadow)), file)
                for partner, cohort, is_shadow, file in generations
            ],
            [(name, bool(is_unfolded)) for name, is_unfolded in runs],
        )


def mirrored_cohorts(connection: sqlite3.Connection) -> list[CohortKey]:
    """Return the cohorts that a snapshot includes, or will include; none is a shadow's."""
    rows = connection.execute(
        "SELECT partner, cohort_id FROM generation WHERE NOT is_shadow UNION "
        "SELECT partner, cohort_id FROM run JOIN followed USING (run) JOIN attempt USING (run)"
    )
    return [CohortKey(*row) for row in rows]


_LEFT_OPEN = (*RESUMABLE, RunStatus.PLANNED, RunStatus.CANARY)


def mark_restored(
    connection: sqlite3.Connection, backup_utc_ns: int, now: Stamp, sends: int
) -> list[str]:
    """Record that this ledger was restored; return the runs and plans that are closed for that.

    A later run, which this ledger does not know, may have overtaken them. `sends` requests count as
    sent now: as many as the ceiling allows may have been.
    """
    marks = ", ".join("?" for _ in _LEFT_OPEN)
    open_runs = connection.execute(
        f"SELECT run, name FROM run LEFT JOIN plan USING (run) WHERE status IN ({marks}) "  # noqa: S608 - marks are question marks
        "AND (plan.run IS NULL OR NOT is_closed) ORDER BY run",
        _LEFT_OPEN,
    ).fetchall()
    for run, _ in open_runs:
        abandon(connection, run, now.utc_ns, "the state was restored from a backup")
    connection.execute("UPDATE plan SET is_closed = 1")
    connection.executemany(
        "INSERT INTO probe (sent_boot_id, sent_boot_ns, sent_utc_ns) VALUES (?, ?, ?)",
        [(now.boot_id, now.boot_ns, now.utc_ns)] * sends,
    )
    connection.execute(
        "INSERT INTO restored (backup_utc_ns, restored_utc_ns, run) "
        "SELECT ?, ?, coalesce(max(run), 0) FROM run",
        (backup_utc_ns, now.utc_ns),
    )
    return [name for _, name in open_runs]
