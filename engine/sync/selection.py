"""Which cohorts a sync includes, and in which order it sends them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, time
from difflib import get_close_matches

from engine.config.cohorts import CohortSettings
from engine.errors import UsageError
from engine.sync.request import SyncRequest


def select(
    cohorts: Mapping[str, CohortSettings], request: SyncRequest, failed: Collection[str]
) -> list[CohortSettings]:
    """Return the requested cohorts in the order of the configuration.

    `failed`: the keys of the cohorts that did not end with exit status 0 in their last sync, or
    were not in any. A cohort that is named is included even if it is not enabled. Raises
    `UsageError` for names that no cohort has, and if no cohort is left.
    """
    for key in [*request.keys, *request.allowances]:
        if key not in cohorts:
            raise UsageError(f"no cohort {key!r} is configured", hint=_similar(key, cohorts))
    known_tags = {tag for cohort in cohorts.values() for tag in cohort.tags}
    for tag in request.tags:
        if tag not in known_tags:
            raise UsageError(f"no cohort has the tag {tag!r}", hint=_similar(tag, known_tags))
    chosen = [
        each
        for each in cohorts.values()
        if (each.key in request.keys if request.keys else each.enabled)
        and (not request.tags or set(request.tags) & set(each.tags))
    ]
    if not chosen:
        raise UsageError("no cohort is selected", hint=_HINT_NONE)
    for key in request.allowances:
        if key not in {each.key for each in chosen}:
            raise UsageError(f"--allow {key}:…: this cohort is not selected")
    if request.only_failed:
        return [each for each in chosen if each.key in failed]
    return chosen


def in_order(cohorts: Iterable[CohortSettings], now: datetime) -> list[CohortSettings]:
    """Return cohorts by priority, then by the deadline that comes first after the local time `now`.

    Those without a deadline come last; equal ones keep their order.
    """
    return sorted(cohorts, key=lambda each: (-each.priority, _wait_for(each.deadline, now.time())))


def _wait_for(deadline: time | None, now: time) -> tuple[bool, bool, time]:
    if deadline is None:
        return True, True, time.max
    return False, deadline <= now, deadline  # A time that has passed means tomorrow.


def _similar(name: str, known: Collection[str]) -> str:
    if not known:
        return _HINT_NONE
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
    listed = ", ".join(sorted(known)[:_LISTED])
    more = "" if len(known) <= _LISTED else f" and {len(known) - _LISTED} more"
    return f"did you mean {near!r}? There are: {listed}{more}"


_LISTED = 10
_HINT_NONE = "each cohort is a table [cohorts.KEY] in config.toml; docs/configuration.md says more"


def failed_keys(
    cohorts: Iterable[str], last_exit_statuses: Mapping[str, int | None]
) -> Sequence[str]:
    """Return the cohorts whose last sync did not end with exit status 0, or that were in none."""
    return [key for key in cohorts if last_exit_statuses.get(key) != 0]
