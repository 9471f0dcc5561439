"""How long a run goes on without a useful answer, and with nothing but 429s."""

import pytest

from engine.delivery.decision import Abort
from engine.delivery.outage import Outage
from engine.delivery.outcome import Accepted, Exchange, NotSent, Outcome, Throttled, Unconfirmed
from engine.delivery.retry import RetrySettings
from engine.delivery.sender import EMULATOR_HINT
from engine.errors import ExitStatus

SETTINGS = RetrySettings(give_up_after_seconds=900, give_up_throttled_after_seconds=7200)
FAILS, THROTTLES, OK = Unconfirmed("500"), Throttled(None), Accepted()
NOT_SENT = NotSent("no route")


def end_of(kinds: list[Outcome], every: float = 10, most: int = 2000) -> tuple[float, Abort]:
    """Return when a run ends that meets these over and over, an attempt each `every` seconds."""
    outage = Outage(SETTINGS, None)
    for number in range(most):
        began = 100 + number * every
        exchange = Exchange(kinds[number % len(kinds)])
        if (gone := outage.judge(exchange, began, began + 1)) is not None:
            assert gone.exit_status is ExitStatus.INCOMPLETE
            return began + 1 - 100, gone
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize(
    ("kinds", "seconds", "said"),
    [
        ([FAILS], 900, "not answered usefully for 9"),
        ([NOT_SENT], 900, "last: no route"),
        ([THROTTLES], 7200, "throttled all requests for 72"),
        # A 429 does not start the clock of an outage anew; its own time is no outage.
        ([FAILS, THROTTLES], 1800, "not answered usefully for 9"),
        ([FAILS, THROTTLES, THROTTLES], 2700, "not answered usefully for 9"),
        ([*[FAILS] * 2, THROTTLES], 1350, "not answered usefully for 9"),
        ([FAILS, *[THROTTLES] * 30], 7200 * 31 / 30, "throttled all requests for 72"),
    ],
)
def test_what_never_gets_better_ends(kinds: list[Outcome], seconds: float, said: str) -> None:
    ended, gone = end_of(kinds)
    assert ended == pytest.approx(seconds, abs=35)
    assert said in gone.reason
    assert "run the same command again" in (gone.hint or "")


@pytest.mark.parametrize("kinds", [[FAILS] * 80 + [OK], [THROTTLES] * 700 + [OK]])
def test_a_useful_answer_starts_both_anew(kinds: list[Outcome]) -> None:
    with pytest.raises(AssertionError, match="goes on"):
        end_of(kinds)


def test_a_storm_of_429s_is_no_outage() -> None:
    outage = Outage(SETTINGS, None)
    assert outage.judge(Exchange(FAILS), 0, 1) is None
    for began in range(10, 7000, 500):
        assert outage.judge(Exchange(THROTTLES), began, began + 1) is None
    # The wait for the gate to open is the last 429's.
    for began in range(7000, 7800, 100):
        assert outage.judge(Exchange(FAILS), began, began + 1) is None
    gone = outage.judge(Exchange(FAILS), 7900, 7901)
    assert gone is not None
    assert "9" in gone.reason


def test_where_nothing_listens_the_hint_says_what_to_start_and_to_run_again() -> None:
    refused = Exchange(NotSent("connection refused", nobody_listens=True))
    gone = Outage(SETTINGS, EMULATOR_HINT).judge(refused, 0, 1)
    assert gone is not None
    assert gone.exit_status is ExitStatus.INCOMPLETE
    assert "`cohortsync emulator`, then run the same command again" in (gone.hint or "")
