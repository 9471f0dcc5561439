"""The processes that work on a run: the first one begins it, others resume it, each ends.

Each is a function on a connection, inside its caller's transaction.
"""

import json
import os
import secrets
import socket
import sqlite3
from datetime import UTC, datetime

import orjson

from engine.ledger.records import (
    ExecutionSettings,
    RunCommand,
    RunKey,
    RunReference,
    RunState,
    action_name,
)
from engine.ledger.sqlite import files
from engine.ledger.sqlite.rows_read import forget_rows_read
from engine.model.status import RunStatus
from engine.pacing.pacer import PaceRecord


def insert_run(
    connection: sqlite3.Connection,
    key: RunKey,
    command: RunCommand,
    settings: ExecutionSettings,
    now: int,
) -> RunState:
    """Enter a run and its first process."""
    started = datetime.fromtimestamp(now / 1e9, UTC)
    name = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    spec = command.spec.to_dict()
    cursor = connection.execute(
        "INSERT INTO run (name, identity, endpoint, workspace, partner, cohort_id, cohort_name, "
        "cohort_description, action, exports, reading, sizes, status, started_utc_ns) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running', ?)",
        (
            name,
            key.identity,
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
    _enter_execution(connection, run, 1, settings, now)
    return RunState(
        RunReference(run, name),
        1,
        is_resumed=False,
        next_batch=1,
        largest_accepted=0,
        isolation_requests=0,
    )


def resume_run(
    connection: sqlite3.Connection,
    run: RunReference,
    key: RunKey,
    settings: ExecutionSettings,
    now: int,
) -> RunState:
    """Enter another process that works on a run; return where it resumes."""
    connection.execute(
        "UPDATE run SET cohort_name = ?, cohort_description = ? WHERE run = ?",
        (key.cohort.name, key.cohort.description, run.number),
    )
    forget_rows_read(connection, run.number)
    return insert_execution(connection, run, settings, now)


def insert_execution(
    connection: sqlite3.Connection, run: RunReference, settings: ExecutionSettings, now: int
) -> RunState:
    """Enter another process that works on an interrupted run."""
    (executions,) = connection.execute(
        "SELECT max(sitting) FROM sitting WHERE run = ?", (run.number,)
    ).fetchone()
    connection.execute(
        "UPDATE run SET status = 'running', exit_status = NULL, reason = NULL, "
        "finished_utc_ns = NULL WHERE run = ?",
        (run.number,),
    )
    connection.execute("DELETE FROM run_totals WHERE run = ?", (run.number,))
    _enter_execution(connection, run.number, executions + 1, settings, now)
    return progress(connection, run, executions + 1)


def progress(connection: sqlite3.Connection, run: RunReference, execution: int) -> RunState:
    """Return the progress of a run, so that its next request can resume from there."""
    batches, largest_accepted = connection.execute(
        "SELECT coalesce(max(batch), 0), "
        "coalesce(max(iif(state = 'accepted', payload_bytes, 0)), 0) FROM batch WHERE run = ?",
        (run.number,),
    ).fetchone()
    (isolation_requests,) = connection.execute(
        "SELECT count(*) FROM attempt JOIN batch USING (run, batch) WHERE run = ? AND isolated",
        (run.number,),
    ).fetchone()
    return RunState(
        run,
        execution,
        is_resumed=True,
        next_batch=batches + 1,
        largest_accepted=largest_accepted,
        isolation_requests=isolation_requests,
    )


def _enter_execution(
    connection: sqlite3.Connection, run: int, execution: int, settings: ExecutionSettings, now: int
) -> None:
    connection.execute(
        "INSERT INTO sitting (run, sitting, requests, per_seconds, hours, payload_bytes, host, "
        "pid, started_utc_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            execution,
            settings.requests,
            settings.per_seconds,
            settings.hours,
            settings.payload_bytes,
            socket.gethostname(),
            os.getpid(),
            now,
        ),
    )


def end_execution(
    connection: sqlite3.Connection, state: RunState, pace: PaceRecord | None, now: int
) -> None:
    """Record that a process has ended its work on a run, and how it used the ceiling."""
    text = pace and orjson.dumps(pace, option=orjson.OPT_NON_STR_KEYS).decode()
    connection.execute(
        "UPDATE sitting SET ended_utc_ns = ?, pace = ? WHERE run = ? AND sitting = ?",
        (now, text, state.run.number, state.execution),
    )


def abandon(connection: sqlite3.Connection, run: int, now: int, reason: str) -> None:
    """Close a run as abandoned; its accounts are kept."""
    close_run(connection, run, RunStatus.ABANDONED, now, None, reason)


def close_run(  # noqa: PLR0913, PLR0917 - one column each
    connection: sqlite3.Connection,
    run: int,
    status: RunStatus,
    now: int,
    exit_status: int | None,
    reason: str | None,
) -> None:
    """Record a run's status."""
    connection.execute(
        "UPDATE run SET status = ?, exit_status = ?, reason = ?, finished_utc_ns = ? WHERE run = ?",
        (status, exit_status, reason, now, run),
    )
