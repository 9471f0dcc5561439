"""Ledgers of many attempts, and what SQLite does to answer what is asked of one."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from engine.ledger.sqlite.schema import open_ledger
from engine.storage.paths import LEDGER_NAME, ledger_folder

ENDPOINT = "http://127.0.0.1:1"
PARTNER = "partner"
COHORTS = 5
GREAT = ("attempt", "batch", "skipped", "rejected")
"""Tables that grow with what is sent."""
BATCH_UIDS = 2000
BEGIN_UTC_NS = 1_700_000_000_000_000_000
SECONDS_APART = 100
"""From the start of a run to that of the next."""

_RUNS = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :runs)
INSERT INTO run (run, name, identity, endpoint, workspace, partner, cohort_id, cohort_name, action,
                 exports, reading, sizes, status, exit_status, source_complete, started_utc_ns,
                 finished_utc_ns)
SELECT i, printf('20260101-%06d-abcd', i), randomblob(32), :endpoint, 'W', :partner,
       'C' || (i % :cohorts), 'N', 'add', '["export.csv"]', '{}', '{"export.csv": 100}', 'finished',
       0, 1, :begin + i * :apart, :begin + i * :apart + 1000000000
FROM n
"""
_EXECUTIONS = """
INSERT INTO sitting (run, sitting, requests, per_seconds, payload_bytes, host, pid, started_utc_ns,
                     ended_utc_ns)
SELECT run, 1, 300, 60.0, 128000, 'h', 1, started_utc_ns, finished_utc_ns FROM run
"""
_BATCHES = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :each)
INSERT INTO batch (run, batch, first_uid, uid_count, blank, invalid, records_through, is_last,
                   payload_bytes, digest, state)
SELECT run, i, (i - 1) * :uids, :uids, 0, 0, i * :uids, i = :each, 120000, randomblob(32),
       'accepted'
FROM run CROSS JOIN n
"""
_ATTEMPTS = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :each)
INSERT INTO attempt (run, batch, attempt, sitting, intended_utc_ns, sent_boot_id, sent_boot_ns,
                     sent_utc_ns, ended_utc_ns, outcome, http_status, request_id)
SELECT run, i, 1, 1, started_utc_ns, 'boot', i, started_utc_ns + i * 200000,
       started_utc_ns + i * 200000 + 1000, 'accepted', 200, hex(randomblob(12))
FROM run CROSS JOIN n
"""


def make_large_ledger(
    state: Path, *, runs: int, each: int, begin_utc_ns: int = BEGIN_UTC_NS
) -> Path:
    """Make a ledger of finished pushes with so many batches each, an attempt for each batch.

    Nothing is stored yet of what they add up to, as after a migration.
    """
    folder = ledger_folder(state, ENDPOINT, "W")
    folder.mkdir(parents=True)
    path = folder / LEDGER_NAME
    values = {
        "runs": runs,
        "each": each,
        "uids": BATCH_UIDS,
        "endpoint": ENDPOINT,
        "partner": PARTNER,
        "cohorts": COHORTS,
        "begin": begin_utc_ns,
        "apart": SECONDS_APART * 1_000_000_000,
    }
    with closing(open_ledger(path)) as ledger:
        ledger.execute("PRAGMA synchronous = OFF")
        ledger.execute("BEGIN")
        for statement in (_RUNS, _EXECUTIONS, _BATCHES, _ATTEMPTS):
            ledger.execute(statement, values)
        ledger.execute("INSERT INTO followed SELECT run, 0 FROM run WHERE run % 2")
        ledger.execute("COMMIT")
    return path


@dataclass
class Work:
    """What SQLite has done for the block of `watching`."""

    statements: list[str] = field(default_factory=list)
    steps: int = 0
    """Instructions of SQLite's virtual machine, in tens."""


@contextmanager
def watching() -> Iterator[Work]:
    """Watch every connection that is made."""
    work = Work()
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def step() -> int:
        work.steps += 1
        return 0

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 - as sqlite3 has it
        connection = connect(*arguments, **options)
        connection.set_trace_callback(work.statements.append)
        connection.set_progress_handler(step, 10)
        return connection

    with patch("sqlite3.connect", watched):
        yield work


def scanned(path: Path, statement: str) -> list[str]:
    """Return the great tables and indexes that a statement reads from the first row on.

    An index of few rows, which has a condition, may be.
    """
    if statement.split(maxsplit=1)[0] not in {"SELECT", "WITH", "UPDATE", "DELETE", "INSERT"}:
        return []
    marks = ", ".join("?" for _ in GREAT)
    with closing(sqlite3.connect(path)) as ledger:
        roots = {
            root: name
            for name, root, sql in ledger.execute(
                f"SELECT name, rootpage, sql FROM sqlite_schema WHERE tbl_name IN ({marks})",
                GREAT,
            )
            if "WHERE" not in (sql or "")
        }
        cursors: dict[int, str] = {}
        found = []
        for _, opcode, cursor, root, database, *_ in ledger.execute(f"EXPLAIN {statement}"):
            if opcode in {"OpenRead", "OpenWrite"} and database == 0 and root in roots:
                cursors[cursor] = roots[root]
            elif opcode == "Rewind" and cursor in cursors:
                found.append(cursors[cursor])
    return found
