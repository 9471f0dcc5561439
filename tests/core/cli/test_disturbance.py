"""An outage, and a series of 429s, is one thing with a count."""

import pytest

from engine.cli.disturbance import CALM_SECONDS, Disturbances, Kind
from engine.delivery.events import Answered
from engine.delivery.outcome import Accepted, NotSent, Outcome, Throttled, Unconfirmed


def answered(outcome: Outcome) -> Answered:
    return Answered(1, 1, outcome, 0.1)


class Feed:
    """Disturbances, and what they were said to begin and to end."""

    def __init__(self) -> None:
        self.disturbances = Disturbances()
        self.changes: list[tuple[Kind, bool]] = []

    def at(self, now: float, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            found = list(self.disturbances.fold(answered(outcome), now))
            self.changes += [(each.kind, each.is_over) for each in found]

    def sentences(self, now: float) -> list[str]:
        return [each.sentence(now) for each in self.disturbances.current]


DOWN = Unconfirmed("no answer within 30 s")


def test_an_outage_is_one_sentence_that_counts_and_ends_once() -> None:
    feed = Feed()
    feed.at(0, DOWN, DOWN)
    assert feed.sentences(0) == []
    for second in range(1, 13):
        feed.at(second, NotSent("refused"))
    assert feed.sentences(12) == ["API down for 0:12, 14 attempts: refused"]
    feed.at(13, Accepted())
    assert feed.sentences(13) == ["API errors for 0:12, 14 of 15 attempts: refused"]
    feed.at(12 + CALM_SECONDS, Accepted(), Accepted())
    assert feed.sentences(20) == []
    assert feed.changes == [(Kind.OUTAGE, False), (Kind.OUTAGE, True)]


def test_single_failures_between_answers_are_no_outage() -> None:
    feed = Feed()
    for second in range(20):
        feed.at(second, DOWN, DOWN, Accepted())
    assert feed.changes == []


def test_alternating_answers_do_not_begin_and_end_an_outage_each_time() -> None:
    feed = Feed()
    for second in range(60):
        feed.at(second, DOWN, DOWN, DOWN, Accepted())
    assert feed.changes == [(Kind.OUTAGE, False)]


@pytest.mark.parametrize(
    ("wait", "clause"),
    [
        (None, "everything is held"),
        (7.0, "everything is held, as it asks for 7 s"),
        (99_999_999.0, "for 600 s at the most"),
    ],
)
def test_a_series_of_429s_is_one_sentence(wait: float | None, clause: str) -> None:
    feed = Feed()
    feed.at(0, Throttled(wait))
    feed.at(3, Throttled(wait))
    [sentence] = feed.sentences(4)
    assert sentence.startswith("429 for 0:04, 2 requests: ")
    assert sentence.endswith(clause)
    assert feed.changes == [(Kind.THROTTLING, False)]
    [over] = feed.disturbances.fold(answered(Accepted()), 3 + CALM_SECONDS)
    assert over.is_over
    assert over.sentence(60).startswith("429 for 0:03, 2 requests: everything was held")


def test_what_a_stop_keeps_back_is_no_failure() -> None:
    feed = Feed()
    feed.at(0, *[NotSent("stopped", is_kept_back=True)] * 9)
    assert feed.sentences(1) == []


def test_what_is_not_over_ends_with_the_run() -> None:
    feed = Feed()
    feed.at(0, DOWN, DOWN, DOWN, Throttled(None))
    assert [each.kind for each in feed.disturbances.end()] == [Kind.OUTAGE, Kind.THROTTLING]
    assert not feed.disturbances.current
