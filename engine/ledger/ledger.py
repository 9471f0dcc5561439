"""The ledger's writing side: runs, batches and attempts, each change one durable step."""

import hashlib
import json
import os
import secrets
import socket
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import orjson

from engine.batch import KnownBatch
from engine.clock import Clock, Stamp
from engine.delivery.outcome import BatchState
from engine.errors import ExitStatus, UsageError
from engine.ledger.records import (
    Command,
    Division,
    OpenBatch,
    Registration,
    RejectedUid,
    RunKey,
    RunState,
    Settlement,
    SittingSettings,
    Verdict,
)
from engine.ledger.schema import open_ledger
from engine.ledger.writer import LedgerWriter

RESUMABLE = ("running", "incomplete", "refused", "source_failed")
"""The states of a run that the same command goes on with."""


def identity_of(key: RunKey) -> bytes:
    """Return the digest that two runs share when one goes on with the other."""
    fields = [
        key.endpoint,
        key.workspace,
        key.partner,
        key.cohort.id,
        key.action.value,
        dict(key.source_identity),
    ]
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).digest()


class Ledger:
    """One workspace's record, written by this process alone. Use it within its event loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
        self._writer = LedgerWriter(connection, path)
        self._clock = clock
        self.path = path

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Open or create the file; `LedgerError` says why it cannot be used."""
        return cls(open_ledger(path), path, clock)

    async def close(self) -> None:
        """Finish all writes and close the file."""
        await self._writer.close()

    async def begin(
        self,
        key: RunKey,
        command: Command,
        settings: SittingSettings,
        *,
        restart: bool = False,
        restart_if_overtaken: bool = False,
    ) -> RunState:
        """Go on with the unfinished run of the same identity, or begin a new one.

        With `restart`, the unfinished run is closed as abandoned and a new one begins; with
        `restart_if_overtaken` so too when a later run has touched the same cohort. Without it that
        raises `UsageError`: going on could undo what the later run did.
        """
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> RunState:
            found = _unfinished(connection, identity_of(key))
            later = found and _later_run(connection, found[0], key)
            if later and not restart_if_overtaken and found:
                raise UsageError(
                    f"run {found[1]} cannot go on: run {later} has touched cohort "
                    f"{key.cohort.id} since",
                    hint="pass --on-changed restart to send this export from its start",
                )
            if found is not None and (restart or later):
                _abandon(connection, found[0], now)
                found = None
            if found is None:
                return _new_run(connection, key, command, settings, now)
            return _resumed_run(connection, *found, key, settings, now)

        return await self._writer.write(work)

    async def known_batches(self, run: int) -> list[KnownBatch]:
        """Return the batches cut from the export so far, in its order."""

        def work(connection: sqlite3.Connection) -> list[KnownBatch]:
            return [
                KnownBatch(number, uid_count, digest, bool(is_last), bool(is_open))
                for number, uid_count, digest, is_last, is_open in connection.execute(
                    "SELECT batch, uid_count, digest, is_last, state = 'open' OR state = 'split' "
                    "AND EXISTS (SELECT 1 FROM batch AS part WHERE part.run = root.run "
                    "AND part.state = 'open' AND part.first_uid >= root.first_uid "
                    "AND part.first_uid < root.first_uid + root.uid_count) "
                    "FROM batch AS root WHERE run = ? AND parent IS NULL ORDER BY first_uid",
                    (run,),
                )
            ]

        return await self._writer.write(work)

    async def open_batches(self, run: int) -> list[OpenBatch]:
        """Return what earlier sittings left neither accepted nor rejected, in export order."""

        def work(connection: sqlite3.Connection) -> list[OpenBatch]:
            return [
                OpenBatch(number, first_uid, uid_count, attempts, bool(isolated))
                for number, first_uid, uid_count, isolated, attempts in connection.execute(
                    "SELECT batch, first_uid, uid_count, isolated, "
                    "(SELECT count(*) FROM attempt WHERE run = b.run AND batch = b.batch) "
                    "FROM batch AS b WHERE run = ? AND state = 'open' ORDER BY first_uid",
                    (run,),
                )
            ]

        return await self._writer.write(work)

    async def recover(self) -> None:
        """Put in order what a process that died has left behind; the caller holds the lock.

        An intent without an outcome may have been sent, and may have been applied. It counts as
        sent now, which is the latest that it can have been.
        """
        now = self._clock.stamp()
        await self._writer.write(lambda connection: _bury(connection, now))

    async def recent_sends(self, count: int) -> list[float]:
        """Return how many seconds ago each of the workspace's last `count` requests was sent."""
        now = self._clock.stamp()

        def work(connection: sqlite3.Connection) -> list[float]:
            rows = connection.execute(
                "SELECT sent_boot_id, sent_boot_ns, sent_utc_ns FROM attempt "
                "WHERE sent_utc_ns IS NOT NULL ORDER BY id DESC LIMIT ?",
                (count,),
            )
            return [Stamp(*row).age_at(now) for row in rows]

        return await self._writer.write(work)

    async def register(self, state: RunState, batches: Sequence[Registration]) -> None:
        """Enter batches cut from the export, in its order."""
        await self._writer.write(lambda connection: _register(connection, state.run, batches))

    async def intend(
        self, state: RunState, batches: Sequence[Registration], number: int, attempt: int
    ) -> None:
        """Enter `batches`, and the intent to send batch `number` for the `attempt`-th time."""
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> None:
            _register(connection, state.run, batches)
            connection.execute(
                "INSERT INTO attempt (run, batch, attempt, sitting, intended_utc_ns) "
                "VALUES (?, ?, ?, ?, ?)",
                (state.run, number, attempt, state.sitting, now),
            )

        await self._writer.write(work)

    async def conclude(
        self,
        state: RunState,
        number: int,
        attempt: int,
        verdict: Verdict,
        change: Settlement | Division | None,
    ) -> None:
        """Enter how an attempt ended, together with what becomes of its batch."""

        def work(connection: sqlite3.Connection) -> None:
            sent = verdict.sent
            connection.execute(
                "UPDATE attempt SET sent_boot_id = ?, sent_boot_ns = ?, sent_utc_ns = ?, "
                "ended_utc_ns = ?, outcome = ?, http_status = ?, request_id = ?, reason = ? "
                "WHERE run = ? AND batch = ? AND attempt = ?",
                (
                    sent and sent.boot_id,
                    sent and sent.boot_ns,
                    sent and sent.utc_ns,
                    verdict.ended_utc_ns,
                    verdict.outcome,
                    verdict.http_status,
                    verdict.request_id,
                    verdict.reason,
                    state.run,
                    number,
                    attempt,
                ),
            )
            if verdict.may_have_been_applied:
                connection.execute(
                    "UPDATE batch SET may_have_been_applied = 1 WHERE run = ? AND batch = ?",
                    (state.run, number),
                )
            _change(connection, state.run, number, change)

        await self._writer.write(work)

    async def change(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        change: Settlement | Division,
    ) -> None:
        """Enter `batches`, and what becomes of batch `number` without an attempt of its own."""

        def work(connection: sqlite3.Connection) -> None:
            _register(connection, state.run, batches)
            _change(connection, state.run, number, change)

        await self._writer.write(work)

    async def finish(
        self, state: RunState, status: str, exit_status: ExitStatus, reason: str | None
    ) -> None:
        """Close this sitting, and write down how the run stands."""
        now = self._clock.stamp().utc_ns

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE sitting SET ended_utc_ns = ? WHERE run = ? AND sitting = ?",
                (now, state.run, state.sitting),
            )
            _close_run(connection, state.run, status, now, exit_status, reason)

        await self._writer.write(work)


def _bury(connection: sqlite3.Connection, now: Stamp) -> None:
    connection.execute(
        "UPDATE batch SET may_have_been_applied = 1 WHERE (run, batch) IN "
        "(SELECT run, batch FROM attempt WHERE outcome IS NULL)"
    )
    connection.execute(
        "UPDATE attempt SET outcome = 'unconfirmed', sent_boot_id = ?, sent_boot_ns = ?, "
        "sent_utc_ns = ?, reason = 'the process died before it knew the outcome' "
        "WHERE outcome IS NULL",
        (now.boot_id, now.boot_ns, now.utc_ns),
    )
    connection.execute(
        "UPDATE sitting SET ended_utc_ns = (SELECT max(intended_utc_ns) FROM attempt "
        "WHERE attempt.run = sitting.run AND attempt.sitting = sitting.sitting) "
        "WHERE ended_utc_ns IS NULL"
    )
    connection.execute(
        "UPDATE run SET status = 'incomplete', reason = 'the process died' WHERE status = 'running'"
    )


def _unfinished(connection: sqlite3.Connection, identity: bytes) -> tuple[int, str] | None:
    marks = ", ".join("?" for _ in RESUMABLE)
    found: tuple[int, str] | None = connection.execute(
        f"SELECT run, name FROM run WHERE identity = ? AND status IN ({marks}) "  # noqa: S608 - marks are question marks
        "ORDER BY run DESC LIMIT 1",
        (identity, *RESUMABLE),
    ).fetchone()
    return found


def _later_run(connection: sqlite3.Connection, run: int, key: RunKey) -> str | None:
    """Return the name of a later run that has sent anything to the same cohort."""
    later = connection.execute(
        "SELECT name FROM run WHERE partner = ? AND cohort_id = ? AND run > ? AND EXISTS "
        "(SELECT 1 FROM attempt WHERE attempt.run = run.run) ORDER BY run DESC LIMIT 1",
        (key.partner, key.cohort.id, run),
    ).fetchone()
    return later and str(later[0])


def _abandon(connection: sqlite3.Connection, run: int, now: int) -> None:
    reason = "a new run of the same command took its place"
    _close_run(connection, run, "abandoned", now, None, reason)


def _close_run(  # noqa: PLR0913, PLR0917 - one column each
    connection: sqlite3.Connection,
    run: int,
    status: str,
    now: int,
    exit_status: int | None,
    reason: str | None,
) -> None:
    connection.execute(
        "UPDATE run SET status = ?, exit_status = ?, reason = ?, finished_utc_ns = ? WHERE run = ?",
        (status, exit_status, reason, now, run),
    )


def _new_run(
    connection: sqlite3.Connection,
    key: RunKey,
    command: Command,
    settings: SittingSettings,
    now: int,
) -> RunState:
    started = datetime.fromtimestamp(now / 1e9, UTC)
    name = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    cursor = connection.execute(
        "INSERT INTO run (name, identity, endpoint, workspace, partner, cohort_id, cohort_name, "
        "cohort_description, action, exports, reading, sizes, status, started_utc_ns) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running', ?)",
        (
            name,
            identity_of(key),
            key.endpoint,
            key.workspace,
            key.partner,
            key.cohort.id,
            key.cohort.name,
            key.cohort.description,
            key.action.value,
            json.dumps(list(command.exports)),
            json.dumps(dict(command.reading)),
            json.dumps(dict(command.sizes)),
            now,
        ),
    )
    run = cursor.lastrowid or 0
    _sit_down(connection, run, 1, settings, now)
    return RunState(
        run,
        name,
        1,
        is_resumed=False,
        next_batch=1,
        accepted_before=False,
        isolation_requests=0,
    )


def _resumed_run(  # noqa: PLR0913, PLR0917 - the row found, and what a run is begun with
    connection: sqlite3.Connection,
    run: int,
    name: str,
    key: RunKey,
    settings: SittingSettings,
    now: int,
) -> RunState:
    (sittings,) = connection.execute(
        "SELECT max(sitting) FROM sitting WHERE run = ?", (run,)
    ).fetchone()
    sitting = sittings + 1
    connection.execute(
        "UPDATE run SET status = 'running', exit_status = NULL, reason = NULL, "
        "finished_utc_ns = NULL, cohort_name = ?, cohort_description = ? WHERE run = ?",
        (key.cohort.name, key.cohort.description, run),
    )
    _sit_down(connection, run, sitting, settings, now)
    batches, accepted = connection.execute(
        "SELECT coalesce(max(batch), 0), coalesce(max(state = 'accepted'), 0) "
        "FROM batch WHERE run = ?",
        (run,),
    ).fetchone()
    (isolation_requests,) = connection.execute(
        "SELECT count(*) FROM attempt JOIN batch USING (run, batch) WHERE run = ? AND isolated",
        (run,),
    ).fetchone()
    return RunState(
        run,
        name,
        sitting,
        is_resumed=True,
        next_batch=batches + 1,
        accepted_before=bool(accepted),
        isolation_requests=isolation_requests,
    )


def _sit_down(
    connection: sqlite3.Connection, run: int, sitting: int, settings: SittingSettings, now: int
) -> None:
    connection.execute(
        "INSERT INTO sitting (run, sitting, requests, per_seconds, payload_bytes, host, pid, "
        "started_utc_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            sitting,
            settings.requests,
            settings.per_seconds,
            settings.payload_bytes,
            socket.gethostname(),
            os.getpid(),
            now,
        ),
    )


def _register(connection: sqlite3.Connection, run: int, batches: Sequence[Registration]) -> None:
    for batch in batches:
        connection.execute(
            "INSERT INTO batch (run, batch, first_uid, uid_count, blank, invalid, "
            "records_through, is_last, payload_bytes, digest, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open')",
            (
                run,
                batch.number,
                batch.first_uid,
                batch.uid_count,
                batch.blank,
                batch.invalid,
                batch.records_through,
                batch.is_last,
                batch.payload_bytes,
                batch.digest,
            ),
        )
        connection.executemany(
            "INSERT INTO skipped (run, batch, file, record, count, reason) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (run, batch.number, s.file, s.rows.record, s.rows.count, s.rows.reason)
                for s in batch.skipped
            ],
        )
        if batch.is_last:
            connection.execute("UPDATE run SET source_complete = 1 WHERE run = ?", (run,))


def _change(
    connection: sqlite3.Connection, run: int, number: int, change: Settlement | Division | None
) -> None:
    match change:
        case None:
            return
        case Settlement(state, reason, rejected):
            connection.execute(
                "UPDATE batch SET state = ?, reason = ? WHERE run = ? AND batch = ?",
                (_stored(state), reason, run, number),
            )
            if rejected is not None:
                _reject(connection, run, number, rejected)
        case Division(parts, isolated, reason):
            connection.execute(
                "UPDATE batch SET state = 'split', reason = ? WHERE run = ? AND batch = ?",
                (reason, run, number),
            )
            connection.executemany(
                "INSERT INTO batch (run, batch, parent, first_uid, uid_count, blank, invalid, "
                "is_last, payload_bytes, state, may_have_been_applied, isolated) "
                "SELECT run, ?, batch, ?, ?, 0, 0, 0, ?, 'open', may_have_been_applied, ? "
                "FROM batch WHERE run = ? AND batch = ?",
                [
                    (p.number, p.first_uid, p.uid_count, p.payload_bytes, isolated, run, number)
                    for p in parts
                ],
            )


def _stored(state: BatchState) -> str:
    # Whether an open batch is pending or unconfirmed follows from what may have been applied.
    return state.value if state in {BatchState.ACCEPTED, BatchState.REJECTED} else "open"


def _reject(connection: sqlite3.Connection, run: int, number: int, rejected: RejectedUid) -> None:
    connection.execute(
        "INSERT INTO rejected (run, batch, file, record, uid, reason, request_id) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            number,
            rejected.file,
            rejected.record,
            rejected.uid,
            rejected.reason,
            rejected.request_id,
        ),
    )
