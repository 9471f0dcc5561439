"""What a sync is asked to do, and who observes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from enum import StrEnum
from typing import Any

from engine.config.cohort_settings import CohortSettings
from engine.delivery.events import RunObserver
from engine.delivery.stop import StopSwitch
from engine.errors import UsageError
from engine.model.time_of_day import parse_time_of_day
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.planning.allowances import Allowance, read_allowances, read_push_allowances
from engine.report.forecast import CohortForecast
from engine.report.run_results import Opening
from engine.report.sync_result import CohortResult
from engine.runs.arguments import Note, no_note


class Phase(StrEnum):
    """What a cohort of a sync does or waits for."""

    QUEUED = "queued"
    """Waits until cohorts before it are done."""
    WAITING_FOR_EXPORT = "waiting_for_export"
    PLANNING = "planning"
    """Its export is read and compared."""
    READY = "ready"
    """It may send as soon as the cohorts before it leave some of the ceiling."""
    SETTLING = "settling"
    """Waits until the API has applied earlier changes."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    """Which cohorts to sync, and within which bounds."""

    keys: Sequence[str] = ()
    """Cohorts by key; none: all that are enabled."""
    tags: Sequence[str] = ()
    """Only cohorts with at least one of these tags; none: any."""
    only_failed: bool = False
    """Only cohorts that did not end with exit status 0 in their last sync."""
    is_dry: bool = False
    """Whether everything is planned and nothing is sent or recorded as a sync."""
    until: time | None = None
    """The time of day at which the sync stops."""
    max_requests: int | None = None
    """The most requests that are sent in all workspaces together."""
    allowances: Mapping[str, Sequence[Allowance]] = field(default_factory=dict)
    """The guards that are lifted for each cohort, by its key."""
    reason: str | None = None
    """Why they are lifted, in the user's words."""
    wait_seconds: float = 0.0
    """How long a cohort waits for another process that works on it, or sends."""


@dataclass(frozen=True, slots=True)
class SyncOpening:
    """The begin of a sync."""

    sync: str
    cohorts: Sequence["CohortLine"]
    """In the order in which they are sent, workspace by workspace."""
    is_dry: bool
    ceilings: Mapping[str, HourlyCeiling] = field(default_factory=dict)
    """That of each workspace, by its name."""


@dataclass(frozen=True, slots=True)
class CohortLine:
    """A cohort as the begin of a sync names it."""

    key: str
    name: str
    workspace: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncObservers:
    """The observers of a sync. Each is called in the event loop, and must not block."""

    begun: Callable[[SyncOpening], None] = lambda _: None
    phase: Callable[[str, Phase], None] = lambda *_: None
    """Receives the key of a cohort, and what it does from now on."""
    opened: Callable[[str, Opening], None] = lambda *_: None
    """Receives the key of a cohort, and the begin of its run."""
    planned: Callable[[str, dict[str, Any]], None] = lambda *_: None
    """Receives the key of a mirrored cohort, and its plan in the form of `--json`."""
    forecast: Callable[[str, Mapping[str, CohortForecast]], None] = lambda *_: None
    """Receives a sentence, and the forecast of each cohort that is not done, by its key."""
    ended: Callable[[CohortResult], None] = lambda _: None
    observe: RunObserver = lambda _: None
    """Receives each event of a run; see `engine.delivery.events`."""
    note: Note = no_note
    """Receives remarks for the user; a remark on a cohort begins with its key."""
    switch: StopSwitch = field(default_factory=StopSwitch)
    """Stops the sync. Pulled once, each run waits for requests in flight; twice, it cancels."""


def read_until(text: str | None) -> time | None:
    """Return the time of day from `HH:MM`; raises `UsageError` for another text."""
    try:
        return None if text is None else parse_time_of_day(text)
    except ValueError as error:
        raise UsageError(f"--until {text} {error}", hint="--until 06:00") from None


def read_cohort_allowances(
    texts: Sequence[str], reason: str | None, cohorts: Mapping[str, CohortSettings]
) -> dict[str, list[Allowance]]:
    """Parse the values of `--allow COHORT:GUARD=BOUND`; raises `UsageError` as `--allow` does."""
    by_cohort: dict[str, list[str]] = {}
    for text in texts:
        key, colon, guard = text.rpartition(":")
        if not colon or not key:
            raise UsageError(f"--allow {text}: of which cohort?", hint=f"--allow COHORT:{guard}")
        by_cohort.setdefault(key, []).append(guard)
    found = {}
    for key, guards in by_cohort.items():
        is_push = key in cohorts and cohorts[key].push_action is not None
        read = read_push_allowances if is_push else read_allowances
        found[key] = read(guards, reason)
    return found
