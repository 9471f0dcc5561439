"""The problems of cohorts that people are notified of, and what has changed since they were told.

Everything here is pure: the result of a sync and what is known of earlier ones go in.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from statistics import median

from engine.errors import ExitStatus
from engine.ledger.notice_records import GuardState
from engine.ledger.sync_records import SyncRecord
from engine.model.quantity import counted
from engine.model.status import CohortStatus
from engine.notices.settings import NotifySettings
from engine.report.accounts import Accounts
from engine.report.settings import AccountingSettings
from engine.report.sync_result import CohortResult

_LATE = "late: "
"""Begins the reason of a cohort that was not begun since it would miss its deadline."""


class Problem(StrEnum):
    """A kind of problem of a cohort."""

    GUARD = "guard"
    """A guard stopped it; nothing was sent."""
    FAILURE = "failure"
    """Its export, the configuration, the API or a bug prevented it."""
    INCOMPLETE = "incomplete"
    """It was stopped early; the next sync continues it."""
    PARTIAL = "partial"
    """Too many uids were rejected or rows invalid."""
    LATE = "late"
    """It was not complete at its deadline."""
    MEMBERS = "members"
    """The number of its members strays from that of earlier syncs."""
    OVERDUE = "overdue"
    """Its last success is longer ago than `expect_every`."""


RECOVERY = "recovery"
"""The event that all problems of a cohort have ended."""


@dataclass(frozen=True, slots=True)
class NoticedCohort:
    """What notices need to know of a configured cohort."""

    key: str
    """Its key in the configuration."""
    name: str
    workspace: str
    """The workspace's name in the configuration."""
    partner: str
    cohort_id: str
    owner: str | None = None
    expect_every: timedelta | None = None
    is_enabled: bool = True
    """Whether a sync without a selection includes it."""


@dataclass(frozen=True, slots=True)
class CohortPast:
    """What the ledger knows of a cohort."""

    last_success_utc_ns: int | None = None
    """The end of its last run or sync with exit status 0."""
    first_utc_ns: int | None = None
    """The begin of the first sync that is known to have included it."""
    exit_status: int | None = None
    """Of its last sync that ended; None if there was none."""
    synced_utc_ns: int | None = None
    """The end of that sync."""
    members: int | None = None
    """After the last sync that knew them."""
    earlier_members: Sequence[int] = ()
    """After each sync with exit status 0 or 1 before the present one, the latest last."""
    guards: Sequence[GuardState] = ()
    """What each guard said last."""


def _with_early_guard(
    guards: Sequence[GuardState], last: SyncRecord | None
) -> Sequence[GuardState]:
    """Return the guards with the one that stopped the last sync before it planned, if one did.

    Its name begins the reason of the record.
    """
    if last is None or last.exit_status != ExitStatus.GUARDED or last.run is not None:
        return guards
    name, colon, _ = (last.reason or "").partition(": ")
    if not colon or not name.isalpha():
        return guards
    others = [replace(each, blocks=False) for each in guards if each.guard != name]
    return [*others, GuardState(name, blocks=True)]


def past_of(
    cohort: NoticedCohort,
    records: Sequence[SyncRecord],
    successes: Mapping[str, int],
    guards: Mapping[str, Sequence[GuardState]],
    sync: str | None,
) -> CohortPast:
    """Return what is known of a cohort by the ledger of its workspace.

    `records` are those of its partner, the earliest first; `successes` the last ones by cohort id,
    and `guards` what they said of its last plan, if it is mirrored. `sync` is the name of the
    present sync.
    """
    mine = [each for each in records if each.cohort == cohort.key]
    # A sync that began later may have ended at once, because of an earlier one that still ran.
    ended = sorted(
        (each for each in mine if each.finished_utc_ns is not None),
        key=lambda each: each.finished_utc_ns or 0,
    )
    counted_members = [each for each in ended if each.members is not None]
    last = ended[-1] if ended else None
    return CohortPast(
        guards=_with_early_guard(guards.get(cohort.cohort_id, ()), last),
        last_success_utc_ns=successes.get(cohort.cohort_id),
        first_utc_ns=mine[0].started_utc_ns if mine else None,
        exit_status=last.exit_status if last else None,
        synced_utc_ns=last.finished_utc_ns if last else None,
        members=counted_members[-1].members if counted_members else None,
        earlier_members=[
            each.members
            for each in counted_members
            if each.members is not None
            and each.exit_status in {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}
            and each.sync != sync
        ],
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem that a cohort has."""

    problem: Problem
    sentence: str
    exit_status: int | None = None
    """Of a failure: another one is another problem."""

    @property
    def key(self) -> str:
        """The identity under which the problem is told once."""
        if self.exit_status is None:
            return self.problem.value
        return f"{self.problem.value} {self.exit_status}"


@dataclass(frozen=True, slots=True)
class CohortNews:
    """The problems of a cohort, and which of them a recipient does not know yet."""

    cohort: NoticedCohort
    findings: Sequence[Finding]
    told: frozenset[str] = frozenset()
    """The keys of the problems that the recipient was told of."""
    lasting: frozenset[str] = field(default=frozenset())
    """The keys of those that this sync did not look at: they last."""
    result: CohortResult | None = None
    """None if the sync did not include the cohort."""

    @property
    def present(self) -> frozenset[str]:
        """The keys of the problems that the cohort has."""
        return frozenset(each.key for each in self.findings) | self.lasting

    @property
    def is_worse(self) -> bool:
        """Whether it has a problem that the recipient was not told of."""
        return bool(self.present - self.told)

    @property
    def is_recovered(self) -> bool:
        """Whether it had problems, and has none."""
        return bool(self.told) and not self.present


def find_problems(
    result: CohortResult,
    past: CohortPast,
    settings: NotifySettings,
    finished_utc_ns: int,
    zone: tzinfo | None,
) -> list[Finding]:
    """Return the problems of a cohort at the end of a sync, except being overdue.

    `finished_utc_ns` is the end of the sync; times are shown in `zone`.
    """
    found = [
        _by_exit_status(result, settings),
        _lateness(result, finished_utc_ns, zone),
        _straying(result, past, settings),
    ]
    return [each for each in found if each is not None and each.problem.value in settings.events]


def find_overdue(
    cohort: NoticedCohort,
    past: CohortPast,
    settings: NotifySettings,
    now_utc_ns: int,
    zone: tzinfo | None,
) -> list[Finding]:
    """Return whether a cohort is overdue, as a list of one finding or none."""
    if cohort.expect_every is None or not cohort.is_enabled:
        return []
    since = past.last_success_utc_ns or past.first_utc_ns
    limit = cohort.expect_every.total_seconds()
    if (
        since is None
        or (now_utc_ns - since) / 1e9 <= limit
        or Problem.OVERDUE not in settings.events
    ):
        return []
    expected = f"one is expected every {limit / 3600:g} h"
    if past.last_success_utc_ns is None:
        sentence = f"has never been complete; {expected}"
    else:
        sentence = f"last complete {_moment(since, zone):%d %b %H:%M}; {expected}"
    return [Finding(Problem.OVERDUE, sentence)]


def lasting_problems(told: Collection[str]) -> frozenset[str]:
    """Return which of the problems told last, although a sync did not include the cohort."""
    return frozenset(told) - {Problem.OVERDUE.value}


def _by_exit_status(result: CohortResult, settings: NotifySettings) -> Finding | None:
    reason = result.reason or result.status.value.replace("_", " ")
    match result.exit_status:
        case ExitStatus.GUARDED if reason.startswith(_LATE):
            return None  # Being late is its problem.
        case ExitStatus.GUARDED:
            return Finding(Problem.GUARD, f"stopped, nothing sent: {reason}")
        case ExitStatus.INCOMPLETE:
            return Finding(Problem.INCOMPLETE, f"not complete: {reason}")
        case ExitStatus.ACCEPTED | ExitStatus.PARTIAL:
            return _partial(result, settings)
        case _:
            return Finding(Problem.FAILURE, f"failed: {reason}", int(result.exit_status))


def _partial(result: CohortResult, settings: NotifySettings) -> Finding | None:
    is_partial = result.exit_status is ExitStatus.PARTIAL
    accounts = result.run.accounts if result.run else None
    lost = 0 if accounts is None else _lost(accounts)
    if settings.partial_over is not None and accounts is not None:
        limit = AccountingSettings(tolerate_invalid=settings.partial_over)
        is_partial = not limit.tolerates(lost, accounts.rows.read)
    if not is_partial:
        return None
    return Finding(Problem.PARTIAL, f"partly done: {counted(lost, 'uid')} rejected or invalid")


def _lost(accounts: Accounts) -> int:
    known = accounts.mirror.known_rejects if accounts.mirror else 0
    return accounts.uids.rejected - known + accounts.rows.invalid


def _lateness(result: CohortResult, finished_utc_ns: int, zone: tzinfo | None) -> Finding | None:
    deadline = result.forecast.deadline_utc_ns if result.forecast else None
    if result.exit_status is ExitStatus.GUARDED and (result.reason or "").startswith(_LATE):
        return Finding(Problem.LATE, f"not begun: {result.reason}")
    if deadline is None or result.status is CohortStatus.UP_TO_DATE:
        return None
    ended = finished_utc_ns
    is_complete = result.exit_status in {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}
    if is_complete and result.run is not None and result.run.accounts.finished_at is not None:
        ended = round(datetime.fromisoformat(result.run.accounts.finished_at).timestamp() * 1e9)
    if ended <= deadline:
        return None
    return Finding(Problem.LATE, f"not complete at its deadline {_moment(deadline, zone):%H:%M}")


def _straying(result: CohortResult, past: CohortPast, settings: NotifySettings) -> Finding | None:
    counts = past.earlier_members[-settings.members_syncs :]
    if result.members is None or not counts:
        return None
    usual = median(counts)
    if abs(result.members - usual) <= settings.members_change * usual:
        return None
    before = f"last {len(counts)} syncs" if len(counts) > 1 else "last sync"
    median_of = " (their median)" if len(counts) > 1 else ""
    sentence = f"{result.members:,} members, where the {before} had {usual:,.0f}{median_of}"
    return Finding(Problem.MEMBERS, sentence)


def _moment(utc_ns: int, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(utc_ns / 1e9, zone)
