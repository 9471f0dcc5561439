"""How a run begins and ends, as values that the command line and programs show."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import ExitStatus
from engine.model.cohort import Cohort
from engine.report.accounts import Accounts
from engine.report.figures import Ceiling
from engine.source.files import SourceFile


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a run goes and what it does: the line that each run opens with."""

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


@dataclass(frozen=True, slots=True)
class RunResult:
    """The accounts of a run, and what to do about it if it did not finish."""

    accounts: Accounts
    exit_status: ExitStatus
    hint: str | None = None
    files: Sequence[SourceFile] = ()
    """The files that were read; none if it is not known, or nothing is read from files."""
    bug: Exception | None = None
    """The error that only a mistake in this program explains, if one ended the run."""
