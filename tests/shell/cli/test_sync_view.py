"""What a sync shows: records off a terminal, live lines and verdicts on one."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from opening import OPENING

from engine.cli.sync_log import PROGRESS_SECONDS, LogSyncView
from engine.cli.sync_terminal import TerminalSyncView
from engine.cli.sync_view import SyncView
from engine.cli.verbosity import Verbosity
from engine.delivery.events import Answered, EventSource, Planned, RunEvent, Sent, Settled, Waiting
from engine.delivery.outcome import Accepted, Outcome, Unconfirmed
from engine.delivery.stop import StopSwitch
from engine.errors import ExitStatus
from engine.model.status import BatchState, CohortStatus
from engine.report.forecast import CohortForecast
from engine.report.sync_result import CohortResult
from engine.sync.request import CohortLine, Phase, SyncOpening
from records import plain, record

PLAN: dict[str, Any] = {
    "add": 51,
    "remove": 100,
    "resend": 0,
    "held": 0,
    "requests": 2,
    "settle_seconds": 0.0,
    "notes": ["the time of writing is unknown"],
}
DOWN = Unconfirmed("no answer")
WAIT = (
    "waiting until 02:15 (870 s): until then the API may apply earlier changes of the same uids "
    "(mirror.settle_seconds)"
)
MISSING = CohortResult(
    *("gone", "default", "gone", "Gone", "add", CohortStatus.MISSING, ExitStatus.USAGE),
    *("gone.csv: no such file", "did you mean 'vip.csv'?"),
)


class Clock:
    """A time that is set by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def follow(view: SyncView, clock: Clock) -> None:
    """Let a view follow a sync of two cohorts: one sends through an outage, one has no export."""
    observers = view.observers(StopSwitch())
    source = EventSource("W", "c", "run-1")

    def answer(*outcomes: Outcome) -> None:
        for number, outcome in enumerate(outcomes):
            observers.observe(RunEvent(source, Sent(number, 1, 100)))
            observers.observe(RunEvent(source, Answered(number, 1, outcome, 0.1)))

    with view:
        lines = [CohortLine(key, key.title(), "default", "mirror") for key in ("vip", "gone")]
        observers.begun(SyncOpening("sync-1", lines, is_dry=False))
        for phase in (Phase.QUEUED, Phase.PLANNING, Phase.READY):
            observers.phase("vip", phase)
        observers.ended(MISSING)
        observers.opened("vip", OPENING)
        observers.planned("vip", PLAN)
        late = CohortForecast(2, is_exact=True, done_utc_ns=2, deadline_utc_ns=1)
        for _ in range(2):
            observers.forecast("default: 2 requests, misses 06:00 by 1 s", {"vip": late})
        observers.observe(RunEvent(source, Waiting(870, datetime(2026, 11, 27, 2, 15, tzinfo=UTC))))
        observers.observe(RunEvent(source, Planned(151)))
        answer(*[DOWN] * 14)
        for batch in range(20):
            settled = Settled(batch, BatchState.REJECTED, 1, "bad members")
            observers.observe(RunEvent(source, settled))
        clock.seconds = PROGRESS_SECONDS + 1
        view.tick()
        answer(Accepted())
        observers.note("vip: reading the export")
        observers.phase("vip", Phase.ENDED)
        observers.ended(
            replace(
                *(MISSING,),
                cohort="vip",
                cohort_name="Vip",
                hint=None,
                reason="run-0 did it",
                status=CohortStatus.UP_TO_DATE,
                exit_status=ExitStatus.ACCEPTED,
            )
        )


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    clock = Clock()
    follow(LogSyncView(clock), clock)
    return capsys.readouterr().err.splitlines()


EVENTS = [
    *("begun", "phase", "ended", "opened", "planned", "note", "forecast", "waiting", "outage"),
    *("settled", "progress", "progress", "outage", "note", "ended"),
]


def test_each_line_is_a_record_and_none_is_of_an_attempt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = [record(line) for line in logged(capsys)]
    assert [each["event"] for each in found] == EVENTS
    begin, end = (each for each in found if each["event"] == "outage")
    assert (begin["state"], begin["workspace"], begin["level"]) == ("begun", "default", "warning")
    assert (end["state"], end["attempts"]) == ("over", "14")
    cohort, workspace = (each for each in found if each["event"] == "progress")
    assert (cohort["cohort"], cohort["planned"], cohort["requests"]) == ("vip", "151", "14")
    assert (workspace["workspace"], workspace["requests"]) == ("default", "14")
    [planned] = [each for each in found if each["event"] == "planned"]
    assert (planned["add"], planned["remove"], planned["requests"]) == ("51", "100", "2")
    [waiting] = [each for each in found if each["event"] == "waiting"]
    assert (waiting["level"], waiting["text"]) == ("info", WAIT)
    ended = {each["cohort"]: each for each in found if each["event"] == "ended"}
    assert (ended["gone"]["status"], ended["gone"]["exit_status"]) == ("missing", "2")
    assert ended["gone"]["hint"] == "did you mean 'vip.csv'?"
    assert (ended["vip"]["status"], ended["vip"]["level"]) == ("up_to_date", "info")


def test_the_records_are_json_if_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--log-format", "json"], ["--log-format=json"]):
        monkeypatch.setattr("sys.argv", ["cohortsync", "sync", *arguments])
        found = [json.loads(line) for line in logged(capsys)]
        assert [each["event"] for each in found] == EVENTS
        assert all(list(each)[:3] == ["time", "level", "event"] for each in found)
        assert found[4]["add"] == 51
        assert found[-1]["members"] is None


@pytest.fixture
def shown_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verbosity], None]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "dumb")

    def set_(verbosity: Verbosity) -> None:
        for place in ("sync_view", "messages"):
            monkeypatch.setattr(f"engine.cli.{place}.verbosity", lambda: verbosity)

    return set_


def test_verbose_records_have_each_attempt_and_quiet_ones_only_what_needs_attention(
    shown_as: Callable[[Verbosity], None], capsys: pytest.CaptureFixture[str]
) -> None:
    shown_as(Verbosity.VERBOSE)
    found = [record(line)["event"] for line in logged(capsys)]
    assert (found.count("answered"), found.count("settled")) == (14, 20)
    shown_as(Verbosity.QUIET)
    found = [record(line)["event"] for line in logged(capsys)]
    assert found == ["ended", "note", "forecast", "outage", "settled", "ended"]


def on_terminal(capsys: pytest.CaptureFixture[str]) -> list[str]:
    clock = Clock()
    follow(TerminalSyncView(clock, lambda: 0), clock)
    return [line.rstrip() for line in plain(capsys.readouterr().err).splitlines()]


@pytest.mark.parametrize("verbosity", Verbosity)
def test_a_terminal_shows_verdicts_and_an_outage_once(
    verbosity: Verbosity,
    shown_as: Callable[[Verbosity], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown_as(verbosity)
    lines = on_terminal(capsys)
    assert max(map(len, lines)) <= 80
    outages = [line for line in lines if line.startswith("default: API ")]
    assert outages == ["default: API errors for 0:00, 14 of 15 attempts: no answer"]
    assert lines.count("warning: default: 2 requests, misses 06:00 by 1 s") == 1
    is_quiet = verbosity is Verbosity.QUIET
    assert (f"vip: {WAIT}" in " ".join(" ".join(lines).split())) is not is_quiet
    attempts = [line for line in lines if "attempt 1: unconfirmed" in line]
    assert len(attempts) == (14 if verbosity is Verbosity.VERBOSE else 0)
    assert lines.count("✗ Gone: no export: gone.csv: no such file") == (0 if is_quiet else 1)
    assert lines.count("✓ Vip: up to date: run-0 did it") == (0 if is_quiet else 1)
    assert ("vip: reading the export" in lines) is (verbosity is Verbosity.VERBOSE)
