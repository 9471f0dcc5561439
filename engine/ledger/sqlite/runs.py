"""The runs of a workspace: their start, their progress and their end.

The functions work on a connection, inside their caller's transaction; `RunStore` has each as a
method with its own transaction.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import ExitStatus
from engine.ledger.records import (
    MIRROR,
    ExecutionSettings,
    RunCommand,
    RunKey,
    RunReference,
    RunState,
    overtaken,
)
from engine.ledger.sqlite import files
from engine.ledger.sqlite.batches import known_batches, open_batches, skip, uids_settled
from engine.ledger.sqlite.executions import (
    abandon,
    close_run,
    end_execution,
    insert_execution,
    insert_run,
    progress,
    resume_run,
)
from engine.ledger.sqlite.rows_read import enter_rows_read, enter_rows_without_uids
from engine.ledger.sqlite.store import Store, by_reader, in_transaction
from engine.ledger.sqlite.totals import count, store, without_totals
from engine.model.cohort import CohortKey
from engine.model.status import RESUMABLE, RunStatus
from engine.pacing.pacer import PaceRecord


def unfinished(connection: sqlite3.Connection, identity: bytes) -> RunReference | None:
    """Return the latest unfinished run with this identity."""
    marks = ", ".join("?" for _ in RESUMABLE)
    found = connection.execute(
        f"SELECT run, name FROM run WHERE identity = ? AND status IN ({marks}) "  # noqa: S608 - marks are question marks
        "ORDER BY run DESC LIMIT 1",
        (identity, *RESUMABLE),
    ).fetchone()
    return found and RunReference(*found)


def later_run(connection: sqlite3.Connection, run: int, key: CohortKey) -> str | None:
    """Return the name of a later run than `run` that has sent anything to the same cohort."""
    later = connection.execute(
        "SELECT name FROM run WHERE partner = ? AND cohort_id = ? AND run > ? AND EXISTS "
        "(SELECT 1 FROM attempt WHERE attempt.run = run.run) ORDER BY run DESC LIMIT 1",
        (key.partner, key.cohort_id, run),
    ).fetchone()
    return later and str(later[0])


def left_behind(connection: sqlite3.Connection, key: RunKey) -> str | None:
    """Return the name of an unfinished push of the same cohort that `key` does not resume."""
    if unfinished(connection, key.identity) is not None:
        return None
    marks = ", ".join("?" for _ in RESUMABLE)
    for run, name in connection.execute(
        f"SELECT run, name FROM run WHERE partner = ? AND cohort_id = ? AND action <> '{MIRROR}' "  # noqa: S608 - marks are question marks
        f"AND status IN ({marks}) ORDER BY run DESC",
        (key.partner, key.cohort.id, *RESUMABLE),
    ):
        if later_run(connection, run, key.cohort_key) is None:
            return str(name)
    return None


def record_changes(connection: sqlite3.Connection, run: int) -> None:
    """Mark a run so that the cohort's snapshot will include the outcomes of its batches."""
    connection.execute("INSERT INTO followed (run) VALUES (?) ON CONFLICT DO NOTHING", (run,))


def records_changes(connection: sqlite3.Connection, run: int) -> bool:
    """Return whether the cohort's snapshot will include the outcomes of a run's batches."""
    found = connection.execute("SELECT 1 FROM followed WHERE run = ?", (run,)).fetchone()
    return found is not None


def exclusion_digest(connection: sqlite3.Connection, run: int) -> str | None:
    """Return the digest of the exclusion list that a push began with; None without one."""
    found: tuple[str | None] = connection.execute(
        "SELECT json_extract(reading, '$.exclude.reading.digest') FROM run WHERE run = ?", (run,)
    ).fetchone()
    return found[0]


def has_unrecorded_batches(connection: sqlite3.Connection, run: int) -> bool:
    """Return whether a run has cut batches whose uids are not kept for a snapshot."""
    found = connection.execute(
        "SELECT 1 FROM batch WHERE run = ?1 AND NOT EXISTS "
        "(SELECT 1 FROM followed WHERE run = ?1) LIMIT 1",
        (run,),
    ).fetchone()
    return found is not None


def is_mirrored(connection: sqlite3.Connection, key: CohortKey) -> bool:
    """Return whether a snapshot includes, or will include, what is sent to the cohort."""
    found = connection.execute(
        "SELECT 1 FROM generation WHERE partner = ?1 AND cohort_id = ?2 AND NOT is_shadow "
        "UNION ALL SELECT 1 FROM followed JOIN run USING (run) JOIN attempt USING (run) "
        "WHERE partner = ?1 AND cohort_id = ?2 LIMIT 1",
        (key.partner, key.cohort_id),
    ).fetchone()
    return found is not None


def last_name(connection: sqlite3.Connection, key: CohortKey) -> str | None:
    """Return the cohort's name when something was last sent to it; None if nothing was."""
    found: tuple[str] | None = connection.execute(
        "SELECT cohort_name FROM run LEFT JOIN plan USING (run) "
        "WHERE partner = ? AND cohort_id = ? AND coalesce(is_shadow, 0) = ? "
        "AND (status IN ('finished', 'shadow') OR EXISTS (SELECT 1 FROM batch AS b "
        "WHERE b.run = run.run AND (state = 'accepted' OR may_have_been_applied OR EXISTS "
        "(SELECT 1 FROM attempt AS a WHERE a.run = b.run AND a.batch = b.batch "
        "AND outcome IS NULL)))) ORDER BY run DESC LIMIT 1",
        key.values,
    ).fetchone()
    return found and found[0]


def unrecorded_pushes(connection: sqlite3.Connection, key: CohortKey) -> list[str]:
    """Return the runs that sent something to the cohort that no snapshot includes.

    A list that was adopted or reconciled later replaces what they sent.
    """
    rows = connection.execute(
        "SELECT name FROM run WHERE partner = ?1 AND cohort_id = ?2 "
        "AND EXISTS (SELECT 1 FROM attempt AS a WHERE a.run = run.run AND a.id > "
        "coalesce((SELECT max(last_attempt) FROM generation WHERE partner = ?1 "
        "AND cohort_id = ?2 AND NOT is_shadow AND origin IN ('adopt', 'reconcile')), 0)) "
        "AND run NOT IN (SELECT run FROM followed) ORDER BY run",
        (key.partner, key.cohort_id),
    )
    return [name for (name,) in rows]


def keep_lifted_guards(
    connection: sqlite3.Connection, run: int, lifts: Sequence[Mapping[str, Any]]
) -> None:
    """Enter which guards were lifted for a push, by whom and why."""
    connection.execute("UPDATE run SET lifted = ? WHERE run = ?", (json.dumps(lifts), run))


_REPLACED = "a new run of the same command took its place"


class RunStore(Store):
    """The runs of a workspace."""

    unfinished = in_transaction(unfinished)
    later_run = in_transaction(later_run)
    left_behind = in_transaction(left_behind)
    progress = by_reader(progress)
    known_batches = by_reader(known_batches)
    open_batches = by_reader(open_batches)
    uids_settled = by_reader(uids_settled)
    enter_rows_read = in_transaction(enter_rows_read)
    enter_rows_without_uids = in_transaction(enter_rows_without_uids)
    skip = in_transaction(skip)
    record_changes = in_transaction(record_changes)
    records_changes = in_transaction(records_changes)
    has_unrecorded_batches = in_transaction(has_unrecorded_batches)
    exclusion_digest = in_transaction(exclusion_digest)
    is_mirrored = by_reader(is_mirrored)
    last_name = by_reader(last_name)
    unrecorded_pushes = by_reader(unrecorded_pushes)
    keep_lifted_guards = in_transaction(keep_lifted_guards)
    without_totals = by_reader(without_totals)
    count_totals = by_reader(count)
    store_totals = in_transaction(store)

    async def abandon(self, run: int, reason: str) -> None:
        """Close a run as abandoned: it is not resumed. Its accounts are kept."""
        now = self._clock.stamp().utc_ns
        await self._execute(lambda connection: abandon(connection, run, now, reason))

    async def begin(
        self,
        key: RunKey,
        command: RunCommand,
        settings: ExecutionSettings,
        *,
        restart: bool = False,
        restart_if_overtaken: bool = False,
    ) -> RunState:
        """Resume the unfinished run of the same identity, or begin a new one.

        With `restart`, the unfinished run is closed as abandoned and a new one begins. With
        `restart_if_overtaken`, the same happens if a later run has changed the same cohort. Without
        it, that raises `UsageError`: to resume could undo what the later run did.
        """
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> RunState:
            found = unfinished(connection, key.identity)
            later = found and later_run(connection, found.number, key.cohort_key)
            if later and not restart_if_overtaken and found:
                raise overtaken(found.name, later, key.cohort.id)
            if found is not None and (restart or later):
                abandon(connection, found.number, now, _REPLACED)
                found = None
            if found is None:
                return insert_run(connection, key, command, settings, now)
            files.enter(connection, found.number, command.files)
            return resume_run(connection, found, key, settings, now)

        return await self._execute(work)

    async def begin_new(
        self, key: RunKey, command: RunCommand, settings: ExecutionSettings
    ) -> RunState:
        """Begin a run, even if runs of the same identity are unfinished."""
        now = self._clock.stamp().utc_ns
        return await self._execute(lambda c: insert_run(c, key, command, settings, now))

    async def begin_execution(self, run: RunReference, settings: ExecutionSettings) -> RunState:
        """Enter another process that works on an interrupted run."""
        now = self._clock.stamp().utc_ns
        return await self._execute(lambda c: insert_execution(c, run, settings, now))

    async def finish(
        self,
        state: RunState,
        status: RunStatus,
        exit_status: ExitStatus,
        reason: str | None,
        pace: PaceRecord | None,
    ) -> int:
        """Close an execution, which sent nothing if it has no pace; enter the run's status.

        Returns the time that is entered, in ns since 1970.
        """
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> None:
            end_execution(connection, state, pace, now)
            close_run(connection, state.run.number, status, now, exit_status, reason)

        await self._execute(work)
        return now
