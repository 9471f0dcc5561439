"""The search for bad uids: when it goes on, when it gives up, when the request is wrong."""

from dataclasses import replace

import pytest

from engine.delivery.decision import Abort, Decision, Settle, Split
from engine.delivery.isolation import ALIKE_REFUSALS, AmbiguousRefusal, Isolation, request_is_wrong
from engine.delivery.outcome import Accepted, Rejected, TooLarge
from engine.ledger.records import Settlement
from engine.model.status import BatchState

NAMED = Rejected("400: uid", names_members=True)
UNNAMED = Rejected("400", names_members=False)
ALONE = Settle(BatchState.REJECTED, "400")
AMBIGUOUS = AmbiguousRefusal(1, Settlement(BatchState.REJECTED, "400"), UNNAMED)


def after(
    isolation: Isolation, outcome: Rejected, count: int, *, were_rejected: bool = False
) -> tuple[Isolation, list[Decision]]:
    """Refuse so many batches; return the last state and each decision."""
    decisions = []
    for _ in range(count):
        isolation, decision = isolation.after_refusal(outcome, Split(), were_rejected=were_rejected)
        decisions.append(decision)
    return isolation, decisions


def test_a_refusal_is_searched_as_decided() -> None:
    isolation = Isolation(10)
    assert isolation.after_refusal(NAMED, Split()) == (isolation, Split())
    assert isolation.after_refusal(NAMED, ALONE) == (isolation, ALONE)


def test_a_batch_refused_like_its_halves_and_quarters_means_that_the_request_is_wrong() -> None:
    _, decisions = after(Isolation(100), UNNAMED, 1 + 2 + 4)
    assert decisions[:-1] == [Split()] * 6
    assert isinstance(decisions[-1], Abort)
    assert len(decisions) == ALIKE_REFUSALS <= 8
    assert "nothing was written off" in decisions[-1].hint


def test_a_413_for_single_uids_points_at_what_limits_the_size() -> None:
    abort = request_is_wrong(TooLarge("413"))
    assert abort.reason == "the API takes not even a single uid: 413"
    assert "a proxy" in abort.hint


@pytest.mark.parametrize(
    ("outcome", "proven", "were_rejected"),
    [(NAMED, False, False), (UNNAMED, True, False), (UNNAMED, False, True)],
    ids=["named", "proven", "rejected before"],
)
def test_refusals_prove_nothing_where_the_uids_are_known_to_be_wrong(
    outcome: Rejected,
    proven: bool,  # noqa: FBT001 - pytest passes by name
    were_rejected: bool,  # noqa: FBT001 - pytest passes by name
) -> None:
    isolation = Isolation(100, proven=proven)
    _, decisions = after(isolation, outcome, 9, were_rejected=were_rejected)
    assert decisions == [Split()] * 9


def test_an_acceptance_clears_the_request() -> None:
    isolation, _ = after(Isolation(100), UNNAMED, ALIKE_REFUSALS - 1)
    assert after(isolation.after_acceptance(), UNNAMED, 1)[1] == [Split()]


@pytest.mark.parametrize("already", [0, 2])
def test_the_search_is_bounded_over_all_executions(already) -> None:
    isolation = Isolation(5, requests=already, proven=True)
    for _ in range(5 - already):
        assert isolation.after_refusal(NAMED, Split())[1] == Split()
        isolation = isolation.after_request()
    _, decision = isolation.after_refusal(NAMED, Split())
    assert isinstance(decision, Abort)
    assert decision.reason.startswith("5 requests")
    assert "max_isolation_requests" in decision.hint


def test_ambiguous_refusals_are_kept_until_there_are_too_many() -> None:
    isolation = Isolation(100)
    assert isolation.at_end() is None
    for number in range(1, ALIKE_REFUSALS):
        isolation, abort = isolation.after_ambiguous(replace(AMBIGUOUS, number=number))
        assert abort is None
    assert isolation.at_end() == request_is_wrong(UNNAMED)
    assert [refusal.number for refusal in isolation.ambiguous] == list(range(1, ALIKE_REFUSALS))
    assert isolation.after_acceptance() == Isolation(100, proven=True)
    _, abort = isolation.after_ambiguous(AMBIGUOUS)
    assert abort == request_is_wrong(UNNAMED)


@pytest.mark.parametrize(
    ("outcome", "proven", "is_ambiguous"),
    [
        (UNNAMED, False, True),
        (UNNAMED, True, False),
        (NAMED, False, False),
        (TooLarge("413"), False, True),
        (TooLarge("413"), True, False),
        (Accepted(), False, False),
    ],
)
def test_which_refusals_are_ambiguous(outcome, proven, is_ambiguous) -> None:
    assert Isolation(9, proven=proven).is_ambiguous(outcome) is is_ambiguous
