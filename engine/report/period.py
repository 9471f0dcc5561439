"""What happened in a period, in all workspaces of a state folder: the data of the morning page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from engine.ledger.period_records import MemberCount
from engine.ledger.run_records import RejectRecord
from engine.model.quantity import counted
from engine.report.accounts import SCHEMA_VERSION, Accounts, timestamp
from engine.report.files import files_document
from engine.report.next_step import NextStep
from engine.report.requests import WorkspacePeriod
from engine.source.source_file import SourceFile


class Level(StrEnum):
    """How much attention something needs, the best first."""

    EMPTY = "empty"
    """Nothing happened."""
    OK = "ok"
    ATTENTION = "attention"
    """Something is left, such as rejected uids or a run that was stopped."""
    FAILED = "failed"
    """A guard, the API or a problem on this machine prevented it."""


class Change(NamedTuple):
    """How many uids a run has changed in a cohort, by the API's acceptances."""

    added: int
    removed: int
    unchanged: int | None
    """None for a push, which does not compare."""
    rejected: int
    unknown: int
    """Uids that may or may not have been changed."""
    pending: int
    """Uids that were not sent."""


class FailedAttempt(NamedTuple):
    """A sync or run of a cohort that did not end with exit status 0 or 1, before the last one."""

    at_utc_ns: int
    """When it ended; its begin if that is not recorded."""
    status: str
    exit_status: int | None
    """None if it has not ended, or its process died."""
    reason: str | None
    run: str | None
    """None if it began no run."""

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        return {
            "at": timestamp(self.at_utc_ns),
            "status": self.status,
            "exit_status": self.exit_status,
            "reason": self.reason,
            "run": self.run,
        }


@dataclass(frozen=True, slots=True)
class CohortPeriod:
    """How a cohort's last run or sync in the period ended, and what all of them have changed."""

    cohort: str
    """The cohort's key in the configuration; its id if no sync ran it."""
    cohort_id: str
    cohort_name: str | None
    """None if no run of it is known."""
    target: str
    workspace: str
    partner: str
    sync: str | None
    """The name of the sync; None for a run that was started by itself."""
    mode: str | None
    """mirror, add or remove, of the last run; None without a run."""
    status: str
    exit_status: int | None
    """None if it has not ended."""
    reason: str | None
    level: Level
    next_step: NextStep | None
    """What to do; None if nothing needs attention."""
    started_utc_ns: int
    finished_utc_ns: int | None
    members: int | None
    """Members afterwards; None for a push, and if unknown."""
    run: str | None = None
    """The run that the end is about; None if it is about none."""
    runs: Sequence[Accounts] = ()
    """All its runs of the period, the earliest first."""
    files: Sequence[SourceFile] = ()
    """Of the last run."""
    guards: Sequence[Mapping[str, Any]] = ()
    """The results of a mirror's guards, in the form of its plan in `--json`; of the last run."""
    failed_attempts: Sequence[FailedAttempt] = ()
    """The earliest first."""

    @property
    def last_moment_utc_ns(self) -> int:
        """When it ended; the begin of what has not ended, or whose process died."""
        return self.started_utc_ns if self.finished_utc_ns is None else self.finished_utc_ns

    @property
    def accounts(self) -> Accounts | None:
        """Those of the last run; None without one."""
        return self.runs[-1] if self.runs else None

    @property
    def elapsed_seconds(self) -> float | None:
        """How long processes worked on its runs; None without a run."""
        return round(sum(each.elapsed_seconds for each in self.runs), 3) if self.runs else None

    @property
    def title(self) -> str:
        """The cohort's name, or its key if the name is unknown."""
        return self.cohort_name or self.cohort

    @property
    def change(self) -> Change | None:
        """What its runs have changed; None without a run."""
        return changes_of(self.runs) if self.runs else None

    def to_dict(self) -> dict[str, Any]:
        """Return the cohort's part of the JSON document."""
        change, step, accounts = self.change, self.next_step, self.accounts
        return {
            "cohort": self.cohort,
            "cohort_id": self.cohort_id,
            "cohort_name": self.cohort_name,
            "target": self.target,
            "workspace": self.workspace,
            "partner": self.partner,
            "sync": self.sync,
            "run": accounts.run if accounts else None,
            "runs": [each.run for each in self.runs],
            "mode": self.mode,
            "status": self.status,
            "exit_status": self.exit_status,
            "reason": self.reason,
            "level": self.level.value,
            "next_command": step.command if step else None,
            "hint": step.hint if step else None,
            "started_at": timestamp(self.started_utc_ns),
            "finished_at": self.finished_utc_ns and timestamp(self.finished_utc_ns),
            "elapsed_seconds": self.elapsed_seconds,
            "failed_attempts": [each.to_dict() for each in self.failed_attempts],
            "changes": change._asdict() if change else None,
            "members": self.members,
            "guards": list(self.guards),
            **files_document(self.files),
        }


def change_of(accounts: Accounts) -> Change:
    """Return what a run has changed."""
    uids, mirror = accounts.uids, accounts.mirror
    if mirror is not None:
        added, removed, unchanged = mirror.add.accepted, mirror.remove.accepted, mirror.unchanged
        return Change(*(added, removed, unchanged), uids.rejected, uids.unconfirmed, uids.pending)
    is_add = accounts.action == "add"
    return Change(
        uids.accepted if is_add else 0,
        0 if is_add else uids.accepted,
        None,
        *(uids.rejected, uids.unconfirmed, uids.pending),
    )


def changes_of(runs: Sequence[Accounts]) -> Change:
    """Return what the runs of a cohort, at least one, have changed together.

    A rejected uid that later runs leave alone counts once. What is unchanged, unknown or pending is
    as the last run left it.
    """
    changes = [change_of(each) for each in runs]
    last, known = changes[-1], [_known_rejects(each) for each in runs]
    return last._replace(
        added=sum(each.added for each in changes),
        removed=sum(each.removed for each in changes),
        rejected=known[0] + sum(each.rejected for each in changes) - sum(known),
    )


def _known_rejects(accounts: Accounts) -> int:
    return accounts.mirror.known_rejects if accounts.mirror else 0


@dataclass(frozen=True, slots=True)
class RejectedReason:
    """Rejected uids, or invalid rows, of the period with the same reason."""

    kind: str
    """`rejected` or `invalid`."""
    reason: str
    """Without uids."""
    rows: int
    runs: Sequence[str]
    """The names of the runs, the earliest first."""
    cohorts: Sequence[str]
    """The names of their cohorts."""
    request_ids: Sequence[str]
    """A few of the API's request ids."""

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MemberHistory:
    """The snapshots of one cohort over the last days, the earliest first; at least one."""

    cohort_id: str
    cohort_name: str | None
    workspace: str
    counts: Sequence[MemberCount]

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        return {
            "cohort_id": self.cohort_id,
            "cohort_name": self.cohort_name,
            "workspace": self.workspace,
            "snapshots": [
                {
                    "made_at": timestamp(each.made_utc_ns),
                    "members": each.members,
                    "unknown": each.unknown,
                }
                for each in self.counts
            ],
        }


class RejectedUid(NamedTuple):
    """A rejected uid of a run; only with `with_uids`."""

    run: str
    cohort: str
    record: RejectRecord

    def to_dict(self) -> dict[str, Any]:
        """Return its part of the JSON document."""
        names = ("uid", "reason", "request_id", "file", "record")
        values = {name: getattr(self.record, name) for name in names}
        return {"run": self.run, "cohort": self.cohort, **values}


@dataclass(frozen=True, slots=True)
class PeriodReport:
    """The morning page as values."""

    since_utc_ns: int
    until_utc_ns: int
    cohorts: Sequence[CohortPeriod]
    """Those that ran or were to run in the period, those that need attention first."""
    workspaces: Sequence[WorkspacePeriod]
    """Those that sent anything in the period."""
    rejects: Sequence[RejectedReason]
    """The most frequent first."""
    members: Sequence[MemberHistory]
    """Each mirrored cohort, also those without a run in the period."""
    runs: Sequence[Accounts]
    """All runs of the period, the earliest first; also those that sent nothing."""
    rejected_uids: Sequence[RejectedUid] | None = None
    """The first rejected uids of the period; None unless they were asked for."""

    @property
    def level(self) -> Level:
        """The worst level of the cohorts."""
        return worst(each.level for each in self.cohorts)

    @property
    def exceptions(self) -> Sequence[CohortPeriod]:
        """The cohorts that need attention, the worst first."""
        return [each for each in self.cohorts if each.level in {Level.ATTENTION, Level.FAILED}]

    @property
    def has_failed_attempts(self) -> bool:
        """Whether any cohort has an attempt that failed before its last one."""
        return any(each.failed_attempts for each in self.cohorts)

    @property
    def change(self) -> Change:
        """What the runs of all cohorts have changed."""
        changes = [each.change for each in self.cohorts if each.change is not None]
        return Change(
            sum(each.added for each in changes),
            sum(each.removed for each in changes),
            sum(each.unchanged or 0 for each in changes),
            sum(each.rejected for each in changes),
            sum(each.unknown for each in changes),
            sum(each.pending for each in changes),
        )

    @property
    def recovered(self) -> Sequence[CohortPeriod]:
        """The cohorts that need no attention any more, after attempts that failed."""
        return [each for each in self.cohorts if each.level is Level.OK and each.failed_attempts]

    @property
    def verdict(self) -> str:
        """One sentence on the whole period."""
        count, bad = len(self.cohorts), len(self.exceptions)
        if not count:
            return "Nothing ran in this period."
        if not bad:
            subject = {1: "The cohort is", 2: "Both cohorts are"}
            return f"{subject.get(count, f'All {count:,} cohorts are')} done{self._recovery}."
        if count == 1:
            return "The cohort needs attention."
        need = "needs" if bad == 1 else "need"
        return f"{bad:,} of {counted(count, 'cohort')} {need} attention{self._recovery}."

    @property
    def _recovery(self) -> str:
        """The end of the verdict: how many cohorts are done only after a failed attempt."""
        recovered = len(self.recovered)
        if not recovered:
            return ""
        if len(self.cohorts) == 1:
            return ", after a failed attempt"
        if not self.exceptions:
            return f", {recovered:,} of them after a failed attempt"
        are = "is" if recovered == 1 else "are"
        return f"; {recovered:,} {are} done after a failed attempt"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of `report`."""
        document: dict[str, Any] = {
            "since": timestamp(self.since_utc_ns),
            "until": timestamp(self.until_utc_ns),
            "level": self.level.value,
            "verdict": self.verdict,
            "changes": self.change._asdict(),
            "cohorts": [each.to_dict() for each in self.cohorts],
            "workspaces": [each.to_dict() for each in self.workspaces],
            "rejects": [each.to_dict() for each in self.rejects],
            "members": [each.to_dict() for each in self.members],
            "runs": [each.to_dict() for each in self.runs],
        }
        if self.rejected_uids is not None:
            document["rejected_uids"] = [each.to_dict() for each in self.rejected_uids]
        return document | {"exit_status": 0, "schema_version": SCHEMA_VERSION}


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst level; EMPTY if there is none."""
    return max(levels, key=list(Level).index, default=Level.EMPTY)
