"""Which cohorts a sync includes, and in which order it sends them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, time

from engine.config.cohort_settings import CohortSettings
from engine.config.lookup import HINT_NO_COHORT, cohort_named, hint_on
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
        cohort_named(key, cohorts)
    known_tags = {tag for cohort in cohorts.values() for tag in cohort.tags}
    for tag in request.tags:
        if tag not in known_tags:
            raise UsageError(f"no cohort has the tag {tag!r}", hint=hint_on(tag, known_tags))
    chosen = [
        each
        for each in cohorts.values()
        if (each.key in request.keys if request.keys else each.enabled)
        and (not request.tags or set(request.tags) & set(each.tags))
    ]
    if not chosen:
        raise UsageError("no cohort is selected", hint=HINT_NO_COHORT)
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


def failed_keys(
    cohorts: Iterable[str], last_exit_statuses: Mapping[str, int | None]
) -> Sequence[str]:
    """Return the cohorts whose last sync did not end with exit status 0, or that were in none."""
    return [key for key in cohorts if last_exit_statuses.get(key) != 0]
