"""The live bar of each kind of run, fed with events: shown where something is sent, and true."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from opening import OPENING
from rich.console import Console

from engine.cli.terminal_view import TerminalView
from engine.delivery.events import Answered, Event, Planned, Sent, Settled, Waiting
from engine.delivery.outcome import Accepted, Throttled
from engine.model.status import BatchState
from engine.report.live_counts import LiveCounts


class Screen:
    """A view at a time that is set by hand, and what its bar shows."""

    def __init__(self, estimate: float | None = None) -> None:
        self.seconds = 0.0
        self.view = TerminalView(LiveCounts(5.0, 0), lambda: estimate, lambda: self.seconds)

    def feed(self, *events: Event) -> None:
        for event in events:
            self.view.observe(event)

    def shown(self) -> list[str]:
        console = Console(width=80)
        with console.capture() as capture:
            console.print(self.view.picture())
        return [line.rstrip() for line in capture.get().splitlines()]


def accepted(batch: int, uids: int) -> Sequence[Event]:
    return (
        Sent(batch, 1, 100),
        Answered(batch, 1, Accepted(), 0.1),
        Settled(batch, BatchState.ACCEPTED, uids, None),
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.usefixtures("terminal")
def test_a_bar_is_shown_only_where_something_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    # A dry run, a plan, a guarded mirror and an empty plan come to no event.
    for opening in (OPENING, replace(OPENING, run=None)):
        screen = Screen()
        with screen.view as view:
            view.opened(opening)
            view.note("comparing")
            view.expect(300)
        output = capsys.readouterr().err
        assert "comparing" in output
        assert "accepted" not in output
    screen = Screen()
    with screen.view as view:
        view.opened(OPENING)
        screen.feed(Planned(100))
    assert "0 uids accepted" in capsys.readouterr().err


def test_the_bar_of_a_push_estimates_what_is_to_come() -> None:
    screen = Screen(estimate=1000.4)
    screen.feed(Planned(500), *accepted(1, 100))
    screen.seconds = 10
    [first, second] = screen.shown()
    assert first.endswith("100 of ~1,000 uids accepted · ETA 1:31")
    assert second == "10 uids/s · ceiling 100.0% accepted, 100.0% attempted"


def test_the_ceiling_means_accepted_with_the_attempts_beside_it() -> None:
    screen = Screen()
    screen.feed(Planned(500), *accepted(1, 100))
    screen.seconds = 0.2
    screen.feed(Sent(2, 1, 100), Answered(2, 1, Throttled(None), 0.1))
    assert "ceiling 50.0% accepted, 100.0% attempted" in screen.shown()[1]


def test_the_bar_of_a_run_that_goes_on_counts_the_whole_run() -> None:
    screen = Screen(estimate=1000.0)
    screen.view.opened(
        replace(OPENING, is_resumed=True, known_uids=700, accepted_before=600, rejected_before=1)
    )
    screen.feed(Planned(399), *accepted(1, 300), *accepted(2, 99))
    assert "999 of 1,000 uids accepted · ETA 0:00" in screen.shown()[0]


def test_an_apply_after_a_canary_ends_full() -> None:
    canary = Screen()
    canary.view.opened(OPENING)
    canary.view.expect(1000, first=100)
    canary.feed(Planned(100), *accepted(1, 100))
    assert "100 of 100 uids accepted · ETA 0:00" in canary.shown()[0]
    rest = Screen()
    rest.view.opened(replace(OPENING, is_resumed=True, known_uids=100, accepted_before=100))
    rest.view.expect(1000)
    assert "100 of 1,000 uids accepted" in rest.shown()[0]
    rest.feed(Planned(900), *accepted(1, 900))
    [first, _] = rest.shown()
    assert "1,000 of 1,000 uids accepted · ETA 0:00" in first
    assert first.startswith("━" * 20 + " ")


@pytest.mark.usefixtures("terminal")
def test_the_settle_wait_counts_down() -> None:
    screen = Screen()
    with screen.view as view:
        view.expect(1000, held=100, settle_seconds=900)
        screen.feed(Planned(900), *accepted(1, 900))
        screen.seconds = 30
        assert screen.shown()[0].endswith("ETA 14:34")  # 870 s, then 100 uids at 30 a second
        screen.feed(Waiting(870, datetime(2026, 11, 27, 2, 15, tzinfo=UTC)))
        assert screen.shown()[1] == "earlier changes settle in 14:30"
        screen.seconds = 890.5
        assert screen.shown()[1] == "earlier changes settle in 0:10"
        screen.seconds = 900
        assert "uids/s" in screen.shown()[1]


def test_the_bar_fits_80_columns_for_100_million_uids() -> None:
    screen = Screen(estimate=100_000_000.0)
    screen.feed(Planned(99_000_000), *accepted(1, 98_765_432))
    screen.seconds = 7_000
    screen.feed(*accepted(2, 1))
    lines = screen.shown()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
