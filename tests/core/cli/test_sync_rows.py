"""The live lines of a sync fit their terminal, whatever the cohorts are called."""

from datetime import UTC, datetime, time

import pytest
from rich.cells import cell_len

from engine.cli.sync_progress import SyncProgress
from engine.cli.sync_rows import rows
from engine.delivery.events import Answered, EventSource, Planned, RunEvent, Sent, Settled, Waiting
from engine.delivery.outcome import Accepted, Unconfirmed
from engine.errors import ExitStatus
from engine.model.cohort import Cohort
from engine.model.status import BatchState, CohortStatus
from engine.pacing.hourly_ceiling import HourlyCeiling
from engine.pacing.settings import Hours, PacingSettings
from engine.report.accounts import Ceiling
from engine.report.forecast import CohortForecast
from engine.report.run_results import Opening
from engine.report.sync_result import CohortResult
from engine.sync.request import CohortLine, Phase, SyncOpening

NAMES = ("VIP customers", "長い名前のコホート" * 5, "Zoë 🦄 ∑", "x" * 100, "")
PLAN = {"add": 20_451, "remove": 17_000, "resend": 0, "held": 100, "settle_seconds": 900.0}


def opening_of(key: str) -> Opening:
    return Opening(
        *("target", "W", "p", Cohort(key, "C"), "mirror", Ceiling(300, 60.0), f"run-{key}"),
        is_resumed=False,
        known_uids=0,
    )


def begun(count: int) -> SyncProgress:
    lines = [CohortLine(f"k{n}", NAMES[n % 5], f"w{n % 2}", "mirror") for n in range(count)]
    return SyncProgress(SyncOpening("sync-1", lines, is_dry=False), 0.0)


def send(progress: SyncProgress, key: str, uids: int) -> None:
    """Let a cohort plan and send one batch of its plan."""
    progress.open(key, opening_of(key))
    progress.plan(key, PLAN, 0.0)
    progress.enter(key, Phase.READY)
    source = EventSource("W", key, f"run-{key}")
    sent = (Sent(1, 1, 9), Answered(1, 1, Accepted(), 0.1))
    for event in (Planned(uids), *sent, Settled(1, BatchState.ACCEPTED, uids, None)):
        run_event = RunEvent(source, event)
        assert progress.key_of(run_event) == key
        progress.cohorts[key].counts.fold(event, 10.0)
        list(progress.workspace_of(key).fold(run_event, 10.0))


def shown(progress: SyncProgress, width: int, height: int = 24, now: float = 20.0) -> list[str]:
    return [line for line, _ in rows(progress, width, height, now, 0)]


@pytest.mark.parametrize("width", [20, 40, 60, 72, 80, 110, 120, 200])
@pytest.mark.parametrize("count", [1, 5, 200])
def test_the_lines_fit(width: int, count: int) -> None:
    progress = begun(count)
    send(progress, "k0", 9_000)
    down = RunEvent(EventSource("W", "k0", "run-k0"), Answered(1, 1, Unconfirmed("x" * 99), 0.1))
    for _ in range(14):
        list(progress.workspace_of("k0").fold(down, 12.0))
    lines = shown(progress, width)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 24


def test_a_forecast_whose_time_has_passed_promises_nothing() -> None:
    progress = begun(1)
    progress.expect({"k0": CohortForecast(9, is_exact=True, done_utc_ns=61 * 10**9)})
    cohort = progress.cohorts["k0"]
    assert cohort.seconds_left(0.0, 10**9) == 60
    assert cohort.seconds_left(0.0, 61 * 10**9) is None


def test_the_use_of_a_ceiling_counts_with_its_hours() -> None:
    morning = (Hours(time(0, 0), time(0, 0), 30),)
    ceilings = {"w0": HourlyCeiling(PacingSettings(300, 60.0, morning))}
    lines = [CohortLine("k0", "C", "w0", "mirror")]
    progress = SyncProgress(SyncOpening("sync-1", lines, is_dry=False, ceilings=ceilings), 0.0)
    progress.open("k0", opening_of("k0"))
    source = EventSource("W", "k0", "run-k0")
    for number in range(2):
        list(progress.workspace_of("k0").fold(RunEvent(source, Sent(number, 1, 9)), number * 20.0))
    assert progress.workspaces["w0"].counts.ceiling_attempted == pytest.approx(2 / 11)


def test_a_line_says_what_a_cohort_does_and_how_far_it_is() -> None:
    progress = begun(2)
    send(progress, "k0", 9_000)
    [first, second, ceiling] = shown(progress, 80)
    expected = "VIP customers sending 9,000 of 37.5 k 900/s ETA 14:41"
    assert " ".join(first.split()) == expected
    assert second.split()[-3:] == ["queued", "ETA", "-:--"]
    assert ceiling.split()[:3] == ["w0", "1/300", "requests"]
    assert "9,000 of 37,451" in " ".join(shown(progress, 120)[0].split())
    assert "900/s" not in shown(progress, 60)[0]


def test_the_settle_wait_counts_down() -> None:
    progress = begun(1)
    send(progress, "k0", 9_000)
    progress.enter("k0", Phase.SETTLING)
    progress.cohorts["k0"].counts.fold(
        Waiting(870, datetime(2026, 11, 27, 2, 15, tzinfo=UTC)), 20.0
    )
    assert "settles 14:30" in shown(progress, 60)[0]
    assert "settles 0:10" in shown(progress, 60, now=880.0)[0]


def test_of_many_cohorts_the_active_ones_are_shown_and_the_others_counted() -> None:
    progress = begun(200)
    for key in ("k150", "k151"):
        send(progress, key, 10)
    progress.enter("k120", Phase.PLANNING)
    for n in range(12):
        progress.end(
            CohortResult(
                *(f"k{n}", "w0", "c", "C", "mirror"), CohortStatus.UP_TO_DATE, ExitStatus.ACCEPTED
            )
        )
    lines = shown(progress, 80, height=6)
    assert len(lines) == 6
    assert ["sending" in lines[0], "sending" in lines[1], "planning" in lines[2]] == [True] * 3
    assert lines[3] == "and 185 more: 185 queued; 12 ended"
