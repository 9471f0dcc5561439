"""The search for bad uids: when it goes on, when it gives up, when the request is to blame."""

import pytest

from engine.delivery.isolation import ALIKE_REFUSALS, Isolation
from engine.delivery.outcome import Abort, Rejected, Settle, Split, TooLarge
from engine.model.status import BatchState

NAMED = Rejected("400: uid", names_members=True)
UNNAMED = Rejected("400", names_members=False)
ALONE = Settle(BatchState.REJECTED, "400")


def test_a_refusal_is_searched_as_decided() -> None:
    isolation = Isolation(10)
    assert isolation.judge(NAMED, Split()) == Split()
    assert isolation.judge(NAMED, ALONE) == ALONE


def test_a_batch_refused_like_its_halves_and_quarters_means_that_the_request_is_wrong() -> None:
    isolation = Isolation(100)
    verdicts = [isolation.judge(UNNAMED, Split()) for _ in range(1 + 2 + 4)]
    assert verdicts[:-1] == [Split()] * 6
    assert isinstance(verdicts[-1], Abort)
    assert len(verdicts) == ALIKE_REFUSALS <= 8
    assert "nothing was written off" in verdicts[-1].hint


def test_a_413_for_single_uids_points_at_what_limits_the_size() -> None:
    abort = Isolation.request_is_wrong(TooLarge("413"))
    assert abort.reason == "the API takes not even a single uid: 413"
    assert "a proxy" in abort.hint


@pytest.mark.parametrize(
    ("outcome", "proven"), [(NAMED, False), (UNNAMED, True)], ids=["named", "proven"]
)
def test_refusals_prove_nothing_where_the_uids_are_known_to_be_wrong(outcome, proven) -> None:
    isolation = Isolation(100, proven=proven)
    assert [isolation.judge(outcome, Split()) for _ in range(9)] == [Split()] * 9


def test_an_acceptance_clears_the_request() -> None:
    isolation = Isolation(100)
    for _ in range(ALIKE_REFUSALS - 1):
        isolation.judge(UNNAMED, Split())
    isolation.proven = True
    assert isolation.judge(UNNAMED, Split()) == Split()


@pytest.mark.parametrize("already", [0, 2])
def test_the_search_is_bounded_over_all_executions(already) -> None:
    isolation = Isolation(5, requests=already, proven=True)
    for _ in range(5 - already):
        assert isolation.judge(NAMED, Split()) == Split()
        isolation.count_request()
    verdict = isolation.judge(NAMED, Split())
    assert isinstance(verdict, Abort)
    assert verdict.reason.startswith("5 requests")
    assert "max_isolation_requests" in verdict.hint
