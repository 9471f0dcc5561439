"""Deletes the runs that no later run needs, in transactions that each delete few rows.

First one transaction deletes a run's own row, so that no report sees a run without some of its
attempts; the table `pruned` then holds its number until the rest is deleted. The numbers of runs
and attempts are never used again, because the last of each is kept.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from engine.ledger.snapshot_records import Generation
from engine.ledger.sqlite import snapshot_index, syncs
from engine.ledger.sqlite.access import refuse_lost
from engine.ledger.sqlite.failures import readable_errors
from engine.ledger.sqlite.needed_runs import NEEDED, OLD
from engine.ledger.sqlite.schema import open_for_reading
from engine.model.cohort import CohortKey

_ROWS_AT_ONCE = 500
"""Rows that one transaction deletes: a request of another process waits for no more than that."""
_PAGES_AT_ONCE = 250
"""Free pages of 4 KiB that one transaction returns to the disk."""
_INCREMENTAL = 2
"""The value of `PRAGMA auto_vacuum` for a file that can return its free pages in parts."""
_LEAST_FREE_BYTES = 16 << 20
_LEAST_FREE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is old enough to be deleted, by times in ns since 1970."""

    ended_before_utc_ns: int
    """For runs, and for snapshots but the current one."""
    rejected_before_utc_ns: int
    """For runs that rejected a uid: a mirror leaves the uid alone until its retry is due."""
    keep_generations: int


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run that can be deleted."""

    number: int
    name: str


class Pruner:
    """Deletes from one ledger, on a connection of its own; its methods block.

    The caller holds the lock of the cohort that it deletes from.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, is_dry_run: bool = False) -> Iterator[Self]:
        """Open a ledger of this version for the block; raises `LedgerError` if that fails.

        With `is_dry_run` the ledger may be of an older version, and is not changed.
        """
        if is_dry_run:
            with closing(open_for_reading(path)) as connection, readable_errors(path):
                yield cls(connection, path)
            return
        with readable_errors(path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with closing(connection), readable_errors(path):
            connection.execute("PRAGMA busy_timeout = 10000")
            # Each process repeats what it did not delete: no deletion needs to be durable at once.
            connection.execute("PRAGMA synchronous = NORMAL")
            yield cls(connection, path)

    def cohorts(self) -> list[CohortKey]:
        """Return each cohort that has runs or snapshots; none of the keys is a shadow's."""
        rows = self._connection.execute(
            "SELECT partner, cohort_id FROM run UNION SELECT partner, cohort_id FROM generation"
        )
        return [CohortKey(*row) for row in rows]

    def run_names(self) -> set[str]:
        """Return the names of all runs."""
        return {name for (name,) in self._connection.execute("SELECT name FROM run")}

    def refuse_lost(self) -> None:
        """Raise `LedgerError` if the ledger was created in the place of one that was lost."""
        refuse_lost(self._connection, self._path)

    def last_generations(self, key: CohortKey) -> tuple[int, int | None]:
        """Return the numbers of the current snapshot, or 0, and of one that is being made."""
        current = snapshot_index.current(self._connection, key)
        making = snapshot_index.being_made(self._connection, key)
        return current.number if current else 0, making

    def unneeded_uids(self, key: CohortKey) -> list[str]:
        """Return the runs of a cohort whose uids beside the ledger are not needed any more."""
        return [
            run.name
            for each in _with_shadow(key)
            for run in snapshot_index.runs_with_uids(self._connection, each)
            if not run.is_needed
        ]

    def old_generations(self, key: CohortKey, bounds: Bounds) -> list[Generation]:
        """Return the generations whose files can be deleted: too many, or too old."""
        return [
            each
            for place, each in enumerate(snapshot_index.generations(self._connection, key))
            if place > 0
            and each.file is not None
            and (place >= bounds.keep_generations or each.made.utc_ns < bounds.ended_before_utc_ns)
        ]

    def drop_generations(self, key: CohortKey, numbers: Sequence[int]) -> None:
        """Record that the files of these generations are no longer kept."""
        with self._transaction():
            snapshot_index.drop(self._connection, key, numbers)

    def forget_generations(self, key: CohortKey, bounds: Bounds) -> None:
        """Delete the records of old generations without a file that no query needs."""
        with self._transaction():
            self._connection.execute(_FORGET, (*key.values, bounds.ended_before_utc_ns))

    def old_runs(self, key: CohortKey, bounds: Bounds, dropped: Sequence[int]) -> list[OldRun]:
        """Return the runs of a cohort that can be deleted once the generations `dropped` are."""
        values = {
            "partner": key.partner,
            "cohort": key.cohort_id,
            "ended": bounds.ended_before_utc_ns,
            "rejected": bounds.rejected_before_utc_ns,
            "dropped": json.dumps(list(dropped)),
        }
        old = dict(self._connection.execute(OLD, values).fetchall())
        values["old"] = json.dumps(list(old))
        for needed in NEEDED if old else ():
            for (run,) in self._connection.execute(needed, values):
                old.pop(run, None)
        return [OldRun(run, name) for run, name in old.items()]

    def counts(self, run: int) -> tuple[int, int]:
        """Return how many attempts and rejected uids of a run `delete_some` has not deleted."""
        return self._count("attempt", run), self._count("rejected", run)

    def _count(self, table: str, run: int) -> int:
        query = f"SELECT count(*) FROM {table} WHERE run = ?"  # noqa: S608 - our own names
        return int(self._connection.execute(query, (run,)).fetchone()[0])

    def delete_run(self, run: int) -> None:
        """Delete a run from all lists and reports; `delete_some` deletes the rest of it."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO pruned (run) VALUES (?)", (run,))
            self._connection.execute("UPDATE generation SET run = NULL WHERE run = ?", (run,))
            for table in ("run", "sitting", "plan", "followed", "reading", "run_totals"):
                self._connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))  # noqa: S608 - ours

    def delete_some(self) -> int:
        """Delete the next rows of deleted runs, in one transaction; return how many."""
        found = self._connection.execute("SELECT min(run) FROM pruned").fetchone()[0]
        if found is None:
            return 0
        with self._transaction():
            for delete in _DELETIONS:
                cursor = self._connection.execute(delete, {"run": found, "most": _ROWS_AT_ONCE})
                if cursor.rowcount:
                    return cursor.rowcount
            self._connection.execute("DELETE FROM pruned WHERE run = ?", (found,))
        return 1

    def old_sync_records(self, bounds: Bounds) -> int:
        """Return how many records of syncs `delete_sync_records` would delete in all."""
        return syncs.count_old(self._connection, bounds.ended_before_utc_ns)

    def delete_sync_records(self, bounds: Bounds) -> int:
        """Delete the next old records of syncs, in one transaction; return how many."""
        with self._transaction():
            return syncs.delete_old(self._connection, bounds.ended_before_utc_ns, _ROWS_AT_ONCE)

    def return_some(self) -> bool:
        """Return some free pages to the disk, in one transaction; return whether more are left.

        Always False for a file of an older version, which only `compact` makes smaller.
        """
        if self._pragma("auto_vacuum") != _INCREMENTAL or not self._pragma("freelist_count"):
            return False
        # `execute` would free one page only: it makes one step of a statement without rows.
        self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
        return self._pragma("freelist_count") > 0

    @property
    def is_worth_compacting(self) -> bool:
        """Whether much of the file is free, and only `compact` can return that to the disk."""
        pages, free = self._pragma("page_count"), self._pragma("freelist_count")
        bytes_free = free * self._pragma("page_size")
        is_much = bytes_free > _LEAST_FREE_BYTES and free > _LEAST_FREE_SHARE * pages
        return is_much and self._pragma("auto_vacuum") != _INCREMENTAL

    def compact(self) -> None:
        """Write the whole file once; later `return_some` is enough.

        Other processes wait meanwhile: the caller holds the locks of all that could. Nothing is
        changed if the disk has no room for it.
        """
        self._connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        with suppress(sqlite3.OperationalError):
            self._connection.execute("VACUUM")

    def checkpoint(self) -> None:
        """Move the log into the file, whose free end is then cut off, as far as nobody waits."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _with_shadow(key: CohortKey) -> tuple[CohortKey, CohortKey]:
    return key, CohortKey(key.partner, key.cohort_id, is_shadow=True)


_DELETIONS = (
    "DELETE FROM attempt WHERE id IN (SELECT id FROM attempt WHERE run = :run LIMIT :most)",
    *(
        f"DELETE FROM {table} WHERE run = :run AND ({key}) IN "  # noqa: S608 - our own names
        f"(SELECT {key} FROM {table} WHERE run = :run LIMIT :most)"
        for table, key in (
            ("batch", "batch"),
            ("rejected", "batch"),
            ("skipped", "batch, file, record"),
            ("file", "name"),
        )
    ),
)

_FORGET = """
DELETE FROM generation AS g
WHERE partner = ?1 AND cohort_id = ?2 AND is_shadow = ?3 AND file IS NULL AND made_utc_ns < ?4
AND EXISTS (
  SELECT 1 FROM generation AS l WHERE l.partner = ?1 AND l.cohort_id = ?2 AND l.is_shadow = ?3
  AND l.generation > g.generation
  AND (g.origin NOT IN ('adopt', 'import', 'reconcile', 'restore') OR l.origin = g.origin)
)
"""
"""Of each command that brought uids from elsewhere, the last generation is kept."""
