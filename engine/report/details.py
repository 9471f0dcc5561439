"""What is kept of one run, and of one uid."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engine.report.accounts import SCHEMA_VERSION, Accounts
from engine.report.files import files_document
from engine.report.history import open_run
from engine.source.source_file import SourceFile


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run's accounts, files, plan and attempts."""

    accounts: Accounts
    files: Sequence[SourceFile]
    plan: Mapping[str, Any] | None
    """What a mirror planned, as `--json` has it; None for a push, or if it never came to a plan."""
    lifts: Sequence[Mapping[str, Any]]
    """The guards that were lifted for a push: guard, bound, user, host, reason."""
    attempts: Sequence[Mapping[str, Any]]
    """Every attempt beside its batch, in order; the keys are `ATTEMPT_COLUMNS`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `show`."""
        document = self.accounts.to_dict() | files_document(self.files, most_listed=None)
        if self.accounts.mirror is not None:
            document["plan"] = self.plan
        else:
            document["allowed"] = list(self.lifts)
        document["attempts"] = list(self.attempts)
        return document


@dataclass(frozen=True, slots=True)
class Reject:
    """A uid that was rejected, or a row of the export that planned none."""

    kind: str
    """`rejected`, `invalid` or `blank`."""
    file: str | None
    record: int
    """Its number in the file, from 1; a header is not counted."""
    reason: str
    uid: str | None
    request_id: str | None
    """The API's; these two are None unless the uid was rejected."""

    def to_dict(self) -> dict[str, Any]:
        """Return its line of `rejects --json`."""
        return _as_dict(self)


@dataclass(frozen=True, slots=True)
class UidReport:
    """What is known of one uid in one cohort; nested values are as `why --json` has them."""

    uid: str
    cohort_id: str
    membership: str
    """`in`, `out`, `unknown` or `not mirrored`."""
    state: str | None
    """In the snapshot: `in`, `may_be_in`, `out`, `may_be_out`; None if the uid is not in it."""
    generation: int | None
    """The snapshot that was looked at."""
    since: Mapping[str, Any] | None
    last_export: Mapping[str, Any] | None
    pushed: Mapping[str, Any] | None
    rejections: Sequence[Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `why`."""
        return {"schema_version": SCHEMA_VERSION, **_as_dict(self)}


def _as_dict(value: Reject | UidReport) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}


def details_of(state: Path, run: str) -> RunDetails:
    """Return what the state folder keeps of a run; its totals are counted anew.

    Raises `UsageError` if no ledger knows it, and `LedgerError` for one that is corrupt.
    """
    with open_run(state, run) as report:
        return RunDetails(
            report.accounts(is_recounted=True),
            report.files(),
            report.plan(),
            report.lifted_guards(),
            tuple(report.attempts()),
        )


def rejects_in(state: Path, run: str) -> Generator[Reject, None, None]:
    """Yield every uid of a run that was rejected and every row that planned none.

    Raises `UsageError` if no ledger knows the run.
    """
    with open_run(state, run) as report:
        for record in report.rejects():
            yield Reject(**record)
