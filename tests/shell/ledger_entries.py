"""What tests of the ledger enter into one."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.clock import Stamp
from engine.errors import ExitStatus
from engine.ledger.records import (
    AttemptResult,
    BatchPart,
    Division,
    ExecutionSettings,
    Registration,
    RunCommand,
    RunKey,
    RunState,
    Settlement,
)
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import Action, Cohort, Operation
from engine.model.status import BatchState
from engine.pacing.budget import Cause, Spending
from engine.pacing.pacer import PaceRecord
from engine.payload.batch import SkippedRows
from engine.report.accounts import Accounts
from engine.report.history import RunReport
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec

KEY = RunKey(
    "http://127.0.0.1:8765",
    "WS",
    "partner",
    Cohort("cohort-1", "Buyers"),
    Action.ADD,
    {"files": ["/data/export.csv"], "strip": False},
)
COMMAND = RunCommand(SourceSpec(("export.csv",), ReadingOptions(column="uid")))
SETTINGS = ExecutionSettings(requests=300, per_seconds=60.0, payload_bytes=128_000)
PACE = PaceRecord(Spending(10.0, 8, {Cause.HELD: 1.5, Cause.LATE: 0.5}), None, 0.6)
ACCEPTED = Settlement(BatchState.ACCEPTED)
SECOND = 1_000_000_000


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.boot_id = "boot-1"
        self.boot_ns = 1000 * SECOND
        self.utc_ns = 1_700_000_000 * SECOND

    def now(self) -> float:
        return self.boot_ns / SECOND

    def stamp(self) -> Stamp:
        return Stamp(self.boot_id, self.boot_ns, self.utc_ns)

    def advance(self, seconds: float) -> None:
        self.boot_ns += round(seconds * SECOND)
        self.utc_ns += round(seconds * SECOND)

    def reboot(self, seconds: float) -> None:
        """Let so many seconds pass, a reboot among them."""
        self.boot_id += "'"
        self.boot_ns = 10 * SECOND
        self.utc_ns += round(seconds * SECOND)


def registration(  # noqa: PLR0913 - one a column
    number: int,
    first_uid: int,
    uid_count: int,
    skipped: tuple[SkippedRows, ...] = (),
    *,
    records_through: int | None = None,
    is_last: bool = False,
) -> Registration:
    blank = sum(s.rows.count for s in skipped if s.rows.reason == "blank")
    rows = sum(s.rows.count for s in skipped)
    return Registration(
        number=number,
        operation=Operation.ADD,
        first_uid=first_uid,
        uid_count=uid_count,
        blank=blank,
        invalid=rows - blank,
        records_through=first_uid + uid_count if records_through is None else records_through,
        is_last=is_last,
        payload_bytes=100 + 20 * uid_count,
        digest=bytes([number % 256]) * 32,
        skipped=skipped,
    )


def verdict(
    clock: HandClock, outcome: str = "accepted", *, applied: bool = False, sent: bool = True
) -> AttemptResult:
    """How an attempt ended that was sent just now."""
    return AttemptResult(
        outcome, applied, clock.stamp() if sent else None, clock.utc_ns, 200, "req-1"
    )


async def begin(ledger: Ledger, key: RunKey = KEY, **options: bool) -> RunState:
    return await ledger.runs.begin(key, COMMAND, SETTINGS, **options)


async def finish(ledger: Ledger, state: RunState, status: str = "incomplete") -> None:
    await ledger.runs.finish(state, status, ExitStatus.INCOMPLETE, "stopped", PACE)


async def send(
    ledger: Ledger,
    state: RunState,
    number: int,
    clock: HandClock,
    batches: Sequence[Registration] = (),
) -> None:
    """Enter `batches`, send batch `number`, and have it accepted."""
    await ledger.sends.intend(state, batches, number, 1)
    await ledger.sends.conclude(state, number, 1, verdict(clock), ACCEPTED)


def halves(number: int, first_uid: int, uid_count: int, *, isolated: bool = False) -> Division:
    """Split `uid_count` uids into batches `number` and `number + 1`."""
    left = uid_count // 2
    parts = (
        BatchPart(number, first_uid, left, 100 + 20 * left),
        BatchPart(number + 1, first_uid + left, uid_count - left, 100 + 20 * (uid_count - left)),
    )
    return Division(parts, isolated, "413: too large")


def rows(path: Path, query: str, *values: object) -> list[Any]:
    """Read with a connection of one's own, as another process would."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()


@contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """Write past the ledger, as a bug of ours or a meddler would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def accounts_of(ledger: Ledger, state: RunState) -> Accounts:
    with LedgerReader.open(ledger.path) as reader:
        return RunReport(reader.history, ledger.path.parent, state.run.name).accounts()
