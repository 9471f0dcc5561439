"""The ledger's changes as SQL: each a function on a connection, inside its caller's transaction."""

import hashlib
import json
import os
import secrets
import socket
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from engine.ledger.records import (
    Division,
    ExecutionSettings,
    Registration,
    RejectedUid,
    RunCommand,
    RunKey,
    RunState,
    Settlement,
)
from engine.ledger.sqlite import files
from engine.ledger.sqlite.totals import store
from engine.model.cohort import Action
from engine.model.status import BatchState

if TYPE_CHECKING:  # What packs batches is large, and a reader of the ledger packs none.
    from engine.payload.batch import SkippedRows, UidlessRows

RESUMABLE = ("running", "incomplete", "refused", "source_failed", "failed")
"""The states of a run that the same command goes on with."""


MIRROR = "mirror"
"""The action of a run that plans adds and removes."""


def action_name(action: Action | None) -> str:
    """Return what the ledger calls a run that does this; None is a mirror."""
    return MIRROR if action is None else action.value


def identity_of(key: RunKey) -> bytes:
    """Return the digest that two runs share when one goes on with the other."""
    fields = [
        key.endpoint,
        key.workspace,
        key.partner,
        key.cohort.id,
        action_name(key.action),
        dict(key.source_identity),
    ]
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).digest()


def unfinished(connection: sqlite3.Connection, identity: bytes) -> tuple[int, str] | None:
    """Return number and name of the latest unfinished run with this identity."""
    marks = ", ".join("?" for _ in RESUMABLE)
    found: tuple[int, str] | None = connection.execute(
        f"SELECT run, name FROM run WHERE identity = ? AND status IN ({marks}) "  # noqa: S608 - marks are question marks
        "ORDER BY run DESC LIMIT 1",
        (identity, *RESUMABLE),
    ).fetchone()
    return found


def later_run(connection: sqlite3.Connection, run: int, partner: str, cohort_id: str) -> str | None:
    """Return the name of a later run than `run` that has sent anything to the same cohort."""
    later = connection.execute(
        "SELECT name FROM run WHERE partner = ? AND cohort_id = ? AND run > ? AND EXISTS "
        "(SELECT 1 FROM attempt WHERE attempt.run = run.run) ORDER BY run DESC LIMIT 1",
        (partner, cohort_id, run),
    ).fetchone()
    return later and str(later[0])


def left_behind(connection: sqlite3.Connection, key: RunKey) -> str | None:
    """Return the name of an unfinished push of the same cohort that `key` does not go on with."""
    if unfinished(connection, identity_of(key)) is not None:
        return None
    marks = ", ".join("?" for _ in RESUMABLE)
    for run, name in connection.execute(
        f"SELECT run, name FROM run WHERE partner = ? AND cohort_id = ? AND action <> '{MIRROR}' "  # noqa: S608 - marks are question marks
        f"AND status IN ({marks}) ORDER BY run DESC",
        (key.partner, key.cohort.id, *RESUMABLE),
    ):
        if later_run(connection, run, key.partner, key.cohort.id) is None:
            return str(name)
    return None


def abandon(connection: sqlite3.Connection, run: int, now: int) -> None:
    """Close a run for good; its books stay."""
    reason = "a new run of the same command took its place"
    close_run(connection, run, "abandoned", now, None, reason)


def close_run(  # noqa: PLR0913, PLR0917 - one column each
    connection: sqlite3.Connection,
    run: int,
    status: str,
    now: int,
    exit_status: int | None,
    reason: str | None,
) -> None:
    """Write down how a run stands, and what its batches and attempts add up to."""
    connection.execute(
        "UPDATE run SET status = ?, exit_status = ?, reason = ?, finished_utc_ns = ? WHERE run = ?",
        (status, exit_status, reason, now, run),
    )
    store(connection, run)


def insert_run(
    connection: sqlite3.Connection,
    key: RunKey,
    command: RunCommand,
    settings: ExecutionSettings,
    now: int,
) -> RunState:
    """Enter a run, and the process that begins it."""
    started = datetime.fromtimestamp(now / 1e9, UTC)
    name = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    spec = command.spec.to_dict()
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
            action_name(key.action),
            json.dumps(spec["exports"]),
            json.dumps(spec["reading"]),
            json.dumps({file.name: file.bytes for file in command.files}),
            now,
        ),
    )
    run = cursor.lastrowid or 0
    files.enter(connection, run, command.files)
    _sit_down(connection, run, 1, settings, now)
    return RunState(
        run,
        name,
        1,
        is_resumed=False,
        next_batch=1,
        largest_accepted=0,
        isolation_requests=0,
    )


def resume_run(  # noqa: PLR0913, PLR0917 - the row found, and what a run is begun with
    connection: sqlite3.Connection,
    run: int,
    name: str,
    key: RunKey,
    settings: ExecutionSettings,
    now: int,
) -> RunState:
    """Enter another process that works on a run, and say where it goes on."""
    connection.execute(
        "UPDATE run SET cohort_name = ?, cohort_description = ? WHERE run = ?",
        (key.cohort.name, key.cohort.description, run),
    )
    _forget_reading(connection, run)
    return sit_down_again(connection, run, name, settings, now)


def sit_down_again(
    connection: sqlite3.Connection, run: int, name: str, settings: ExecutionSettings, now: int
) -> RunState:
    """Enter another process that works on a run that stands still."""
    (executions,) = connection.execute(
        "SELECT max(sitting) FROM sitting WHERE run = ?", (run,)
    ).fetchone()
    connection.execute(
        "UPDATE run SET status = 'running', exit_status = NULL, reason = NULL, "
        "finished_utc_ns = NULL WHERE run = ?",
        (run,),
    )
    connection.execute("DELETE FROM run_totals WHERE run = ?", (run,))
    _sit_down(connection, run, executions + 1, settings, now)
    return progress(connection, run, name, executions + 1)


def progress(connection: sqlite3.Connection, run: int, name: str, execution: int) -> RunState:
    """Say how far a run has come, so that its next request can go on from there."""
    batches, largest_accepted = connection.execute(
        "SELECT coalesce(max(batch), 0), "
        "coalesce(max(iif(state = 'accepted', payload_bytes, 0)), 0) FROM batch WHERE run = ?",
        (run,),
    ).fetchone()
    (isolation_requests,) = connection.execute(
        "SELECT count(*) FROM attempt JOIN batch USING (run, batch) WHERE run = ? AND isolated",
        (run,),
    ).fetchone()
    return RunState(
        run,
        name,
        execution,
        is_resumed=True,
        next_batch=batches + 1,
        largest_accepted=largest_accepted,
        isolation_requests=isolation_requests,
    )


def _sit_down(
    connection: sqlite3.Connection, run: int, execution: int, settings: ExecutionSettings, now: int
) -> None:
    connection.execute(
        "INSERT INTO sitting (run, sitting, requests, per_seconds, payload_bytes, host, pid, "
        "started_utc_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            execution,
            settings.requests,
            settings.per_seconds,
            settings.payload_bytes,
            socket.gethostname(),
            os.getpid(),
            now,
        ),
    )


def register(connection: sqlite3.Connection, run: int, batches: Sequence[Registration]) -> None:
    """Enter batches as they were cut, with the rows that ride with them, unless they are known."""
    for batch in batches:
        entered = connection.execute(
            "INSERT INTO batch (run, batch, leg, first_uid, uid_count, blank, invalid, "
            "records_through, is_last, payload_bytes, digest, state) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open') ON CONFLICT DO NOTHING",
            (
                run,
                batch.number,
                batch.operation.value,
                batch.first_uid,
                batch.uid_count,
                batch.blank,
                batch.invalid,
                batch.records_through,
                batch.is_last,
                batch.payload_bytes,
                batch.digest,
            ),
        ).rowcount
        if not entered:
            continue
        skip(connection, run, batch.number, batch.skipped)
        files.add_uids(connection, run, batch.file_uids)
        if batch.is_last:
            connection.execute("UPDATE run SET source_complete = 1 WHERE run = ?", (run,))


NO_BATCH = 0
"""The batch number of skipped rows that ride with none."""


def enter_uidless(
    connection: sqlite3.Connection, run: int, rows: "UidlessRows", *, is_complete: bool
) -> None:
    """Enter what was read of an export so far, of which no batch can tell."""
    from engine.payload.batch import blank_among, invalid_among  # noqa: PLC0415 - large; see above

    skip(connection, run, NO_BATCH, rows.skipped)
    counts = (rows.records, blank_among(rows.skipped), invalid_among(rows.skipped))
    enter_reading(connection, run, *counts, is_complete=is_complete)


def enter_reading(  # noqa: PLR0913 - one a column
    connection: sqlite3.Connection,
    run: int,
    records: int,
    blank: int,
    invalid: int,
    *,
    is_complete: bool,
) -> None:
    """Enter the counts of an export that was read before any batch was cut."""
    connection.execute(
        "INSERT INTO reading (run, records, blank, invalid) VALUES (?, ?, ?, ?)",
        (run, records, blank, invalid),
    )
    connection.execute("UPDATE run SET source_complete = ? WHERE run = ?", (is_complete, run))


def _forget_reading(connection: sqlite3.Connection, run: int) -> None:
    """Take back what `enter_uidless` has entered: the export is read again."""
    connection.execute("DELETE FROM reading WHERE run = ?", (run,))
    connection.execute("DELETE FROM skipped WHERE run = ? AND batch = ?", (run, NO_BATCH))
    connection.execute(
        "UPDATE run SET source_complete = EXISTS "
        "(SELECT 1 FROM batch WHERE batch.run = run.run AND is_last) WHERE run = ?",
        (run,),
    )


def skip(
    connection: sqlite3.Connection, run: int, number: int, skipped: "Sequence[SkippedRows]"
) -> None:
    """Enter rows that plan no uid, and the batch that they ride with."""
    connection.executemany(
        "INSERT INTO skipped (run, batch, file, record, count, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [(run, number, s.file, s.rows.record, s.rows.count, s.rows.reason) for s in skipped],
    )


def apply(
    connection: sqlite3.Connection, run: int, number: int, change: Settlement | Division | None
) -> None:
    """Enter what becomes of a batch."""
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
                "INSERT INTO batch (run, batch, parent, leg, first_uid, uid_count, blank, "
                "invalid, is_last, payload_bytes, state, may_have_been_applied, isolated) "
                "SELECT run, ?, batch, leg, ?, ?, 0, 0, 0, ?, 'open', may_have_been_applied, ? "
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
