"""The end of a run: it is folded into the snapshot, accounted for, recorded and returned.

Each step is tried even if the previous one failed. So the accounts are written and returned when
the work fails, when the snapshot cannot be moved, and when the program has a bug.
"""

import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from engine.cancellation import await_to_end
from engine.delivery.stop import Stop
from engine.errors import (
    CohortSyncError,
    ExitStatus,
    IncompleteError,
    LedgerError,
    SourceError,
    StateFullError,
    StateGoneError,
)
from engine.ledger.records import RunState
from engine.model.status import RunStatus
from engine.pacing.pacer import PaceRecord
from engine.report.accounts import Accounts
from engine.report.accounts_from_ledger import account
from engine.report.run_results import RunResult
from engine.runs.ports import Ledger

if TYPE_CHECKING:
    from engine.ledger.run_records import RunRecord
    from engine.source.source_file import SourceFile

T = TypeVar("T")

BUG_HINT = "this is a bug in cohortsync; keep the state folder and report it"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


@dataclass(frozen=True, slots=True)
class End:
    """The status of a run when this process ends its work on it."""

    status: RunStatus
    exit_status: ExitStatus
    reason: str | None = None
    hint: str | None = None


class OpenRun(Protocol):
    """The interface to a run of this process that ending the run needs."""

    state: RunState | None
    """None until the run is in the ledger."""

    @property
    def ledger(self) -> Ledger:
        """The ledger that records the run."""

    @property
    def pace(self) -> PaceRecord | None:
        """How the run used the ceiling; None if it did not begin to send."""

    async def fold(self, accounts: Accounts | None, stop: Stop | None) -> None:
        """Fold what was sent into the snapshot. `accounts` are None if they cannot be read."""

    def end(self, accounts: Accounts, stop: Stop | None) -> End:
        """Return how the run ends; `stop` is what ended it early."""


def status_of(exit_status: ExitStatus, error: CohortSyncError | None = None) -> RunStatus:
    """Return the run status for an exit status; `error` is the error that stopped the run."""
    if exit_status is ExitStatus.USAGE and isinstance(error, SourceError):
        return RunStatus.SOURCE_FAILED
    return _STATUS[exit_status]


_STATUS = {
    ExitStatus.ACCEPTED: RunStatus.FINISHED,
    ExitStatus.PARTIAL: RunStatus.FINISHED,
    ExitStatus.USAGE: RunStatus.FAILED,
    ExitStatus.REFUSED: RunStatus.REFUSED,
    ExitStatus.GUARDED: RunStatus.GUARDED,
    # A run stopped by a bug can be resumed; a run that does not balance is closed for good.
    ExitStatus.UNBALANCED: RunStatus.FAILED,
    ExitStatus.INCOMPLETE: RunStatus.INCOMPLETE,
}


async def enter(run: OpenRun, entry: Awaitable[RunState]) -> RunState:
    """Await `entry`, which puts the run into the ledger; note its state, and return it.

    A cancellation meanwhile is raised after the state is known: otherwise the run is never ended.
    """

    async def noted() -> RunState:
        state = run.state = await entry
        return state

    return await await_to_end(noted())


async def run_to_end(run: OpenRun, work: Callable[[], Awaitable[Stop | None]]) -> RunResult:
    """Do `work`, which enters the run and returns what stopped it, and end the run.

    Returns the accounts even if the run failed. An exception that the work raises before the run is
    entered is passed on unchanged. A cancellation is raised again after the accounts are written.
    Raises a `CohortSyncError` that names the run if its accounts cannot be read.
    """
    ending = _Ending(run)
    stop = await ending.attempt(work)
    if run.state is None:
        raise ending.first or RuntimeError("work ends before it enters its run")
    ending.stop = ending.stop or stop
    await ending.attempt(ending.look_for_damage)
    gone = await ending.attempt(ending.gone)
    if gone is not None and ending.bug is None:  # It causes all other failures.
        ending.stop = Stop.of(gone)
    accounts = await ending.attempt(ending.read_accounts)
    if gone is None:
        await ending.attempt(
            lambda: run.fold(accounts, ending.stop), "the snapshot was not moved: "
        )
    end = await ending.finish(accounts)
    final = await ending.attempt(ending.final_accounts)
    if final is None:
        end = await ending.amend(end)
    accounts = final or accounts
    if ending.interruption is not None:
        raise ending.interruption
    if accounts is None:
        raise ending.unaccounted()
    accounts = replace(
        accounts,
        status=end.status,
        exit_status=int(end.exit_status),
        reason=end.reason,
    )
    return RunResult(accounts, end.exit_status, end.hint, ending.files, ending.bug)


class _Ending:
    """The end of one run, and the errors that occurred in its steps."""

    def __init__(self, run: OpenRun) -> None:
        self._run = run
        self.stop: Stop | None = None
        """What ends the run early: the first cause, or a bug that occurred later."""
        self.first: BaseException | None = None
        self.last: BaseException | None = None
        """The last exception; `first` is the first."""
        self.bug: Exception | None = None
        """The first exception caused by a bug in the program."""
        self.interruption: BaseException | None = None
        """The last cancellation or `KeyboardInterrupt`, which the caller waits for."""
        self.files: Sequence[SourceFile] = ()
        """The files that the run has read; empty if its accounts could not be read."""
        self._pace: PaceRecord | None = None
        self._record: RunRecord | None = None
        """What the accounts are computed from; None if it could not be read."""
        self._ended_utc_ns: int | None = None
        """When the run has ended, as the ledger records it; None if that could not be written."""

    async def attempt(self, step: Callable[[], Awaitable[T]], prefix: str = "") -> T | None:
        """Return what a step returns; note what it raises, and return None."""
        try:
            return await step()
        except GeneratorExit:  # The run is no longer awaited: its steps cannot wait.
            raise
        except Exception as error:  # noqa: BLE001 - any error ends the run
            self._note(error, prefix)
        except BaseException as error:  # noqa: BLE001 - raised again once the run has ended
            self.first = self.first or error
            self.last = self.interruption = error
            self.stop = self.stop or Stop(
                ExitStatus.INCOMPLETE, "cancelled", "run the same command again to go on"
            )
        return None

    def _note(self, error: Exception, prefix: str) -> None:
        self.first = self.first or error
        self.last = error
        named = error if isinstance(error, CohortSyncError) else _outside_cause(error, self._ledger)
        if named is not None:
            stop = Stop.of(named)
            self.stop = self.stop or replace(stop, reason=prefix + stop.reason)
            return
        self.bug = self.bug or error
        if self.stop is None or self.stop.exit_status is not ExitStatus.UNBALANCED:
            before = f", after: {self.stop.reason}" if self.stop else ""
            kind = type(error).__name__
            self.stop = Stop(ExitStatus.UNBALANCED, f"{prefix}a bug, {kind}{before}", BUG_HINT)

    async def look_for_damage(self) -> None:
        """Report damage in the ledger in place of a bug; a large ledger was only partly checked."""
        if self.bug is None:
            return
        damage = await self._ledger.damage_behind(self.bug)
        if damage is not None:
            self.bug, self.stop = None, Stop.of(damage)

    @property
    def _ledger(self) -> Ledger:
        return self._run.ledger

    async def gone(self) -> StateGoneError | None:
        """Return an error if the state folder was removed or replaced during the run."""
        return self._ledger.gone

    async def read_accounts(self) -> Accounts:
        """Read the accounts: from now on nothing but the end of the run changes them."""
        state = self._entered
        self._record, self.files = await self._ledger.run_record(state.run.name)
        return account(self._record)

    async def final_accounts(self) -> Accounts:
        """Return the accounts with the recorded end, if it could be written."""
        if self._record is None:  # It could not be read before, so it is tried once more.
            return await self.read_accounts()
        if self._ended_utc_ns is None:
            return account(self._record)
        return account(self._record.ended(self._pace, self._ended_utc_ns))

    @property
    def _entered(self) -> RunState:
        if self._run.state is None:
            raise RuntimeError("a run has accounts and an end once it is entered")
        return self._run.state

    async def finish(self, accounts: Accounts | None) -> End:
        """Record how the run ends, and return that."""
        self._pace = await self.attempt(self._read_pace)
        end = await self.attempt(lambda: self._judged(accounts)) or self._stopped()
        if not await self.attempt(lambda: self._enter(end), "the end was not written: "):
            end = await self.amend(end)
        return end

    async def amend(self, end: End) -> End:
        """Write the end again after a failure, so that the run is not left as running.

        Returns the end that results from the failure. An interruption does not change the end.
        """
        if self.last is not self.interruption:
            end = self._stopped()
        await self.attempt(lambda: self._enter(end))
        return end

    async def _read_pace(self) -> PaceRecord | None:
        return self._run.pace

    async def _judged(self, accounts: Accounts | None) -> End:
        if accounts is None:
            return self._stopped()
        if accounts.imbalance:
            reason = f"accounting mismatch: {accounts.imbalance}"
            return End(RunStatus.UNBALANCED, ExitStatus.UNBALANCED, reason, BUG_HINT)
        return self._run.end(accounts, self.stop)

    def _stopped(self) -> End:
        stop = self.stop or Stop(ExitStatus.UNBALANCED, "a bug: the run has no end", BUG_HINT)
        status = status_of(stop.exit_status, stop.error)
        return End(status, stop.exit_status, stop.reason, stop.hint)

    async def _enter(self, end: End) -> bool:
        state, runs = self._entered, self._ledger.runs
        self._ended_utc_ns = await runs.finish(
            state, end.status, end.exit_status, end.reason, self._pace
        )
        if self._record is not None:
            await runs.store_totals(state.run.number, state.execution, self._record.totals)
        return True

    def unaccounted(self) -> CohortSyncError:
        """Return the error of a run whose accounts cannot be read."""
        error = self.stop.error if self.stop and not self.bug else None
        if error is None:
            end = self._stopped()
            error = CohortSyncError(end.reason or "the accounts cannot be read", hint=end.hint)
            error.exit_status = end.exit_status
            error.__cause__ = self.bug or self.first
        error.run = self._run.state.run.name if self._run.state else None
        return error


def _outside_cause(error: Exception, ledger: Ledger) -> CohortSyncError | None:
    """Return a named error for an external cause; None if the cause is a bug in the program."""
    if (cause := ledger.outside_cause(error)) is not None:
        return cause
    if isinstance(error, MemoryError):
        return IncompleteError("there is not enough memory", hint="run the same command again")
    if not isinstance(error, OSError) or error.errno is None:
        return None
    place = "a file" if error.filename is None else str(error.filename)
    message = f"{place} cannot be read or written: {error.strerror}"
    if error.errno in _FULL:
        return StateFullError(
            message, hint="make room on that disk, then run the same command again"
        )
    if error.errno in _SCARCE:
        return IncompleteError(message, hint="run the same command again")
    return LedgerError(message, hint="check the permissions of that folder")
