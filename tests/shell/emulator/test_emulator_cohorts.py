"""Applying put off, and caught up with: what was pending is seen in its order."""

import pytest

from engine.emulator import cohorts
from engine.emulator.cohorts import CohortKey, Cohorts
from engine.emulator.payload import Action, Payload


def payload(action: Action, *uids: str) -> Payload:
    return Payload(action, "p", "c", "Name", None, len(uids), list(uids))


@pytest.mark.parametrize("most_pending", [0, 3, 100])
def test_what_is_put_off_is_applied_in_its_order(
    monkeypatch: pytest.MonkeyPatch, most_pending: int
) -> None:
    monkeypatch.setattr(cohorts, "_MOST_PENDING_UIDS", most_pending)
    kept = Cohorts(known_users=None, count_only=False)
    kept.apply("w", payload(Action.ADD, "a", "b", "c"))
    kept.apply("w", payload(Action.REMOVE, "b", "c"))
    kept.apply("w", payload(Action.ADD, "c", "d"))
    ((key, cohort),) = kept.all()
    assert key == CohortKey("w", "p", "c")
    assert cohort.members == {"a", "c", "d"}
    assert (cohort.requests, cohort.added, cohort.removed) == (3, 5, 2)


def test_no_more_than_the_most_stays_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohorts, "_MOST_PENDING_UIDS", 3)
    kept = Cohorts(known_users=None, count_only=False)
    for uids in ("ab", "cd", "ef"):
        kept.apply("w", payload(Action.ADD, *uids))
        assert sum(waiting.count for _, waiting in kept._pending) <= 3
