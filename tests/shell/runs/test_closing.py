"""However a run ends, its accounts are written, returned and true.

A failure is raised at each step of ours after the run was entered, wherever that step is: the first
time that it is taken, and the last.
"""

import asyncio
import errno
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest
from scripted_server import ScriptedServer
from whole_push import Death, Ended, Pushes, Start

import engine
from engine.errors import CohortSyncError, ConfigError, ExitStatus, LedgerError, StateFullError
from engine.ledger.sqlite.ledger import Ledger
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.sqlite.totals import stored
from engine.report.accounts_from_ledger import account
from engine.report.run_results import RunResult
from engine.runs import closing as run_closing
from engine.runs.context import RunObservers
from engine.runs.session import WorkspaceSession
from engine.snapshot.settings import MirrorSettings
from exports import Export, Row

OLD = [f"u{number:04}" for number in range(12)]
NEW = [f"u{number:04}" for number in range(6, 18)]


class SQLiteFullError(sqlite3.OperationalError):
    """What SQLite raises on a full disk."""

    sqlite_errorcode = sqlite3.SQLITE_FULL


@dataclass(frozen=True)
class Kind:
    """A kind of failure, and the exit status that it leads to; None where it is raised again."""

    make: Callable[[], BaseException]
    exit_status: ExitStatus | None


KINDS = {
    "ours": Kind(lambda: LedgerError("no"), ExitStatus.USAGE),
    "full disk": Kind(lambda: OSError(errno.ENOSPC, "no space", "file"), ExitStatus.INCOMPLETE),
    "no permission": Kind(lambda: OSError(errno.EACCES, "no", "file"), ExitStatus.USAGE),
    "full ledger": Kind(lambda: SQLiteFullError("full"), ExitStatus.INCOMPLETE),
    "no memory": Kind(MemoryError, ExitStatus.INCOMPLETE),
    "bug": Kind(lambda: RuntimeError("a mistake of ours"), ExitStatus.UNBALANCED),
    "bug of a library": Kind(lambda: KeyError("x"), ExitStatus.UNBALANCED),
    "interrupt": Kind(KeyboardInterrupt, None),
    "cancellation": Kind(asyncio.CancelledError, None),
}

OUTSIDE = (ExitStatus.USAGE, ExitStatus.INCOMPLETE)
STEPS = tuple(
    f"{Path(engine.__file__).parent}/{name}"
    for name in (
        *("runs/push.py", "runs/plan_execution.py", "runs/mirror.py", "runs/session.py"),
        *("runs/context.py", "runs/sending.py"),
        "runs/export_staging.py",
        *("runs/planner.py", "delivery/sender.py", "delivery/http.py", "delivery/transport.py"),
        *("snapshot/", "planning/", "ledger/", "report/accounts.py"),
        *("storage/uid_spool.py", "storage/uid_parquet.py", "storage/capacity.py"),
        "storage/paths.py",
    )
)
"""What a run is made of. What ends it is not among them: it has nobody to catch it."""
NO_STEPS = (
    *("ledger/sqlite/writer.py", "ledger/state_folder.py", "ledger/sqlite/schema.py"),
    "ledger/locks.py",
)
"""Played, or at work before a run is entered and after it has ended."""

AROUND = (
    *("push", "mirror", "rollback", "apply", "_MirrorRun.to_end", "RunContext.open"),
    *("WorkspaceSession.holding", "WorkspaceSession.__aexit__", "WorkspaceSession.release_sending"),
    "WorkspaceSession._counted",
    *("HttpTransport.__aexit__", "RunSender.__exit__", "RunSender.release"),
    *("Ledger.close", "Ledger._close", "Ledger.gone", "ReadConnection.close"),
    *("Ledger.naming_damage", "announced", "genexpr>", "SnapshotStore.close"),
    "readable_files",
)
"""What holds a run, and what follows when it has ended."""
READING = (
    *("open_parquet", "read_batches", "checked_batches", "metadata_of", "is_damage", "verify"),
    *("naming_damage", "Layout.of", "Layout.check"),
)
"""What reads a file of uids: a failure there is reported as a damaged file, as Arrow's errors are
no closed set."""

Point = tuple[str, int]
"""A function, and the how many-th call of it once the run is entered."""


@dataclass
class Tripwire:
    """Raises at one point; without one, counts the calls."""

    point: Point | None = None
    error: BaseException | None = None
    is_armed: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    has_fired: bool = False
    command: "asyncio.Task[Any] | None" = None

    def trace(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if not self.is_armed or event != "call" or self.has_fired or not _is_step(frame):
            return
        name = f"{Path(code.co_filename).stem}.{code.co_qualname}"
        self.calls[name] += 1
        if self.point != (name, self.calls[name]) or self.error is None:
            return
        # An interrupt reaches the command itself, not one of its requests.
        if isinstance(self.error, Exception) or asyncio.current_task() is self.command:
            self.has_fired = True
            raise self.error

    @contextmanager
    def stretched(self) -> Iterator[None]:
        enter = run_closing.enter

        async def entered(*arguments: Any) -> Any:  # noqa: ANN401 - as `enter` has it
            self.command = asyncio.current_task()
            state = await enter(*arguments)
            self.is_armed = True
            return state

        before = sys.gettrace()
        with patch("engine.runs.push.enter", entered), patch("engine.runs.mirror.enter", entered):
            sys.settrace(self.trace)
            try:
                yield
            finally:
                sys.settrace(before)
                self.is_armed = False


def _is_step(frame: FrameType) -> bool:
    code = frame.f_code
    path = code.co_filename
    if not path.startswith(STEPS) or path.endswith(NO_STEPS):
        return False
    # Making a value is no step; nor is what goes on around all of a run.
    is_other = code.co_qualname.endswith(("comp>", "<lambda>", "__init__", *AROUND))
    return not is_other and not any(name.endswith(READING) for name in _within(frame))


def _within(frame: FrameType | None) -> Iterator[str]:
    """Yield a function's name, and those of its callers."""
    while frame is not None:
        yield frame.f_code.co_qualname
        frame = frame.f_back


class RaisedAgainError(CohortSyncError):
    """An interrupt came through to whoever awaits the command."""


class Interruptible(Pushes):
    """Takes what a program that awaits the command would receive of an interrupt."""

    def _run(self, start: Start, death: Death | None, stops_at: tuple[float, ...]) -> Ended:
        async def caught(session: WorkspaceSession, observers: RunObservers) -> RunResult:
            try:
                return await start(session, observers)
            except (KeyboardInterrupt, asyncio.CancelledError) as error:
                raise RaisedAgainError(repr(error)) from error

        return super()._run(caught, death, stops_at)


class Case:
    """A cohort and a command that is run on it."""

    def __init__(self, folder: Path, command: str) -> None:
        self.scripted_server = ScriptedServer()
        self.pushes = Interruptible(
            folder, self.scripted_server, mirroring=MirrorSettings(settle_seconds=1.0)
        )
        self.command = command
        self.plan = ""
        if command in {"mirror", "rollback", "apply"}:
            self._settle(self.pushes.mirror(OLD))
        if command == "rollback":
            self._settle(self.pushes.mirror(NEW))
        if command == "apply":
            planned = self.pushes.mirror(NEW, sends=False)
            assert planned.result is not None
            self.plan = planned.result.accounts.run or ""
            self.pushes.machine.pause(10)
        if command == "resume":
            self.pushes.push(Export([[Row(uid) for uid in NEW]]), stops_at=(0.3,))
            self.pushes.machine.pause(10)

    def _settle(self, ended: Ended) -> None:
        assert ended.exit_status is ExitStatus.ACCEPTED
        self.pushes.machine.pause(100)

    def run(self) -> Ended:
        match self.command:
            case "push" | "resume":
                return self.pushes.push(Export([[Row(uid) for uid in NEW]]))
            case "recorded push":
                return self.pushes.push(Export([[Row(uid) for uid in NEW]]), records=True)
            case "mirror":
                return self.pushes.mirror(NEW)
            case "plan":
                return self.pushes.mirror(NEW, sends=False)
            case "rollback":
                return self.pushes.rollback(1)
            case "apply":
                return self.pushes.apply(self.plan)
        raise AssertionError(self.command)

    def finish(self) -> None:
        """Run what makes the cohort right, whatever has become of the first try."""
        self.pushes.machine.pause(100)
        if self.command == "apply":
            self.command = "mirror"
        again = self.run()
        assert again.exit_status is ExitStatus.ACCEPTED, (again.error, again.result)
        self.scripted_server.catch_up()
        if self.command != "plan":
            wanted = OLD if self.command == "rollback" else NEW
            assert self.scripted_server.members == set(wanted)

    def statuses(self) -> list[tuple[str, int | None]]:
        with closing(sqlite3.connect(self.pushes.ledger)) as ledger:
            return ledger.execute("SELECT status, exit_status FROM run ORDER BY run").fetchall()


COMMANDS = ("push", "recorded push", "resume", "mirror", "plan", "apply", "rollback")


def points_of(folder: Path, command: str) -> list[Point]:
    case = Case(folder, command)
    wire = Tripwire()
    with wire.stretched():
        ended = case.run()
    assert ended.exit_status is ExitStatus.ACCEPTED, ended
    counts = wire.calls
    return [*((name, 1) for name in counts), *((name, n) for name, n in counts.items() if n > 1)]


def check(folder: Path, command: str, point: Point, kind: Kind) -> None:
    case = Case(folder, command)
    wire = Tripwire(point, kind.make())
    output = f"{command}, {point}, {wire.error!r}"
    with wire.stretched():
        ended = case.run()
    if not wire.has_fired:
        return  # Another task had taken that step.
    if kind.exit_status is None:
        assert isinstance(ended.error, RaisedAgainError), output
        assert case.statuses()[-1][0] != "running", output
    else:
        result = ended.result
        assert result is not None, (output, ended.error)
        assert result.accounts.run, output
        assert result.accounts.imbalance is None, output
        assert result.exit_status == result.accounts.exit_status, output
        if isinstance(wire.error, OSError):  # On the way to the API it is an outcome like others.
            assert result.exit_status in {ExitStatus.ACCEPTED, *OUTSIDE}, (output, result)
        else:
            assert result.exit_status == kind.exit_status, (output, result)
        assert result.accounts.reason or not result.exit_status, output
        assert (result.bug is wire.error) is (kind.exit_status is ExitStatus.UNBALANCED), output
        _check_truth(case, result, output)
    case.finish()


def _check_truth(case: Case, result: RunResult, output: str) -> None:
    """Compare the accounts with what the server received, and with what the ledger says."""
    accounts = result.accounts
    with closing(sqlite3.connect(case.pushes.ledger)) as ledger:
        [(status, exit_status, accepted)] = ledger.execute(
            "SELECT status, exit_status, (SELECT coalesce(sum(uid_count), 0) FROM batch "
            "WHERE batch.run = run.run AND state = 'accepted') FROM run WHERE name = ?",
            (accounts.run,),
        ).fetchall()
    assert (status, exit_status) == (accounts.status, accounts.exit_status), output
    known = accounts.mirror.known_rejects if accounts.mirror else 0
    assert accounts.uids.accepted == accepted, output
    assert known == 0, output


@pytest.mark.parametrize(
    ("command", "stride"), [("push", 6), ("recorded push", 24), ("mirror", 72)]
)
def test_a_failure_at_a_step_leaves_accounts_that_are_written_returned_and_true(
    tmp_path: Path, command: str, stride: int
) -> None:
    """Some steps meet one kind each; all steps are for `-m slow`."""
    kinds = cycle(KINDS.values())
    for number, point in enumerate(points_of(tmp_path / "dry", command)[::stride]):
        check(tmp_path / str(number), command, point, next(kinds))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_failure_at_each_step_leaves_accounts_that_are_written_returned_and_true(
    tmp_path: Path, command: str
) -> None:
    kinds = cycle(KINDS.values())
    for number, point in enumerate(points_of(tmp_path / "dry", command)):
        check(tmp_path / str(number), command, point, next(kinds))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_failure_at_each_step_of_a_push(tmp_path: Path, kind: str) -> None:
    for number, point in enumerate(points_of(tmp_path / "dry", "push")):
        check(tmp_path / str(number), "push", point, KINDS[kind])


@pytest.mark.parametrize("command", ["push", "resume", "mirror", "plan", "apply"])
def test_accounts_are_read_once_and_are_those_of_the_ledger(tmp_path: Path, command: str) -> None:
    case = Case(tmp_path, command)
    with patch.object(Ledger, "run_record", autospec=True, side_effect=Ledger.run_record) as read:
        ended = case.run()
    assert read.call_count == 1
    assert ended.result is not None
    accounts = ended.result.accounts
    assert accounts.run is not None
    with LedgerReader.open(case.pushes.ledger) as ledger:
        record = ledger.history.record(accounts.run, is_recounted=True)
        assert stored(ledger._connection, record.entry.number) == record.totals
    assert accounts == account(record)


# Failures that stay.


def test_what_fails_before_the_first_request_leaves_a_run_that_has_ended(tmp_path: Path) -> None:
    case = Case(tmp_path, "push")
    error = ConfigError("environment: `HTTPS_PROXY` should be a URL")
    with patch("engine.runs.session.HttpTransport", side_effect=error):
        ended = case.run()
    assert ended.result is not None
    accounts = ended.result.accounts
    assert (ended.exit_status, accounts.status) == (ExitStatus.USAGE, "failed")
    assert accounts.reason == error.message
    assert case.statuses() == [("failed", 2)]
    case.finish()


@pytest.mark.parametrize(
    ("error", "exit_status"),
    [
        (LedgerError("a snapshot is lost"), ExitStatus.USAGE),
        (StateFullError("the disk is full"), ExitStatus.INCOMPLETE),
        (OSError(errno.ENOSPC, "no space", "file"), ExitStatus.INCOMPLETE),
        (RuntimeError("a mistake of ours"), ExitStatus.UNBALANCED),
    ],
)
@pytest.mark.parametrize("command", ["recorded push", "mirror"])
def test_a_fold_that_fails_when_everything_was_accepted_hides_no_acceptance(
    tmp_path: Path, command: str, error: Exception, exit_status: ExitStatus
) -> None:
    case = Case(tmp_path, command)
    with patch("engine.snapshot.store.SnapshotStore._fold", side_effect=error):
        ended = case.run()
    assert ended.result is not None
    accounts = ended.result.accounts
    assert ended.exit_status is exit_status
    assert (accounts.reason or "").startswith("the snapshot was not moved: ")
    assert accounts.uids.accepted == accounts.uids.planned > 0
    status = "incomplete" if exit_status is ExitStatus.INCOMPLETE else "failed"
    assert case.statuses()[-1] == (status, exit_status)
    case.finish()


@pytest.mark.parametrize("command", ["push", "mirror"])
def test_an_end_that_cannot_be_written_is_returned_as_incomplete(
    tmp_path: Path, command: str
) -> None:
    case = Case(tmp_path, command)
    error = StateFullError("the disk is full")
    with patch("engine.ledger.sqlite.runs.RunStore.finish", side_effect=error):
        ended = case.run()
    assert ended.result is not None
    accounts = ended.result.accounts
    assert (ended.exit_status, accounts.status) == (ExitStatus.INCOMPLETE, "incomplete")
    assert accounts.reason == "the end was not written: the disk is full"
    assert accounts.uids.accepted == accounts.uids.planned > 0
    case.finish()


def test_accounts_that_cannot_be_read_are_an_error_that_names_the_run(tmp_path: Path) -> None:
    case = Case(tmp_path, "push")
    with patch("engine.runs.closing.account", side_effect=RuntimeError("a mistake of ours")):
        ended = case.run()
    assert ended.error is not None
    assert ended.error.exit_status is ExitStatus.UNBALANCED
    assert isinstance(ended.error.__cause__, RuntimeError)
    [(name, status)] = _runs(case)
    assert (ended.error.run, status) == (name, "failed")
    case.finish()


def _runs(case: Case) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(case.pushes.ledger)) as ledger:
        return ledger.execute("SELECT name, status FROM run").fetchall()
