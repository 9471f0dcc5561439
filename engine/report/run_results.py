"""The values that describe the begin and the end of a run for a program."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import ExitStatus
from engine.model.cohort import Cohort
from engine.report.accounts import SCHEMA_VERSION, Accounts, Ceiling
from engine.report.files import files_document
from engine.source.source_file import SourceFile


@dataclass(frozen=True, slots=True)
class Opening:
    """The target and the action of a run: its first line of output."""

    target: str
    workspace: str
    partner: str
    cohort: Cohort
    action: str
    """add, remove or mirror."""
    ceiling: Ceiling
    run: str | None
    is_resumed: bool
    known_uids: int
    """Uids that the ledger already knows from earlier executions."""
    accepted_before: int = 0
    rejected_before: int = 0
    """How many of them were accepted, and rejected, before this process."""
    expected_uids: Callable[[], float | None] = lambda: None
    """Estimates the uids of the whole run from what has been read; None while unknown."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run: its accounts, and what to do next if it did not finish."""

    accounts: Accounts
    exit_status: ExitStatus
    hint: str | None = None
    files: Sequence[SourceFile] = ()
    """The files that were read; empty if they are unknown, or if no files are read."""
    bug: Exception | None = None
    """The error caused by a bug in this program, if one ended the run."""
    plan: Mapping[str, Any] | None = None
    """The plan of a run that sends nothing, in the form of `--json`; empty if the run was stopped
    before it had planned. None for a run that sends."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of the run."""
        document = self.accounts.to_dict() | {"hint": self.hint} | files_document(self.files)
        if self.plan is not None:
            document["plan"] = dict(self.plan) or None
        return document


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run of `resume_all` that could not be resumed."""

    run: str
    reason: str
    exit_status: ExitStatus
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the run's part of the JSON document."""
        return {
            "run": self.run,
            "status": "failed",
            "exit_status": int(self.exit_status),
            "reason": self.reason,
            "hint": self.hint,
            "schema_version": SCHEMA_VERSION,
        }


@dataclass(frozen=True, slots=True)
class NothingToResume:
    """No run is unfinished, or none of this workspace."""

    reason: str
    exit_status: ExitStatus = ExitStatus.ACCEPTED

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "run": None,
            "status": "nothing_to_resume",
            "exit_status": int(self.exit_status),
            "reason": None,
            "schema_version": SCHEMA_VERSION,
        }


_FROM_BEST_TO_WORST = (
    ExitStatus.ACCEPTED,
    ExitStatus.PARTIAL,
    ExitStatus.GUARDED,
    ExitStatus.INCOMPLETE,
    ExitStatus.USAGE,
    ExitStatus.REFUSED,
    ExitStatus.UNBALANCED,
)


def worst_of(statuses: Iterable[ExitStatus]) -> ExitStatus:
    """Return the worst exit status: 70, 3, 2, 75, 4, 1, 0 in this order; 0 if there is none."""
    return max(statuses, key=_FROM_BEST_TO_WORST.index, default=ExitStatus.ACCEPTED)


@dataclass(frozen=True, slots=True)
class ResumedRuns:
    """The results of one or more resumed runs, the earliest first."""

    runs: Sequence[RunResult | FailedRun]

    @property
    def exit_status(self) -> ExitStatus:
        """The worst exit status of the runs."""
        return worst_of(each.exit_status for each in self.runs)

    @property
    def _worst(self) -> RunResult | FailedRun:
        return next(each for each in self.runs if each.exit_status is self.exit_status)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document: the worst run's status and reason, and every run's document."""
        worst = self._worst.to_dict()
        return {
            "run": None,
            "status": worst["status"],
            "exit_status": int(self.exit_status),
            "reason": worst["reason"],
            "hint": worst["hint"],
            "runs": [each.to_dict() for each in self.runs],
            "schema_version": SCHEMA_VERSION,
        }
