"""What is shown while a run goes on, and its accounts afterwards."""

import logging
import re
import warnings
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from opening import OPENING

from engine.cli.log_view import LogView
from engine.cli.messages import capture_library_messages, log
from engine.cli.run_view import describe, trouble
from engine.cli.summary import print_accounts
from engine.cli.terminal_view import TerminalView
from engine.cli.text import table_lines
from engine.delivery.events import Answered, Paused, Stopping
from engine.delivery.outcome import NotSent, Throttled, Unconfirmed
from engine.model.foreign_text import printable
from engine.report.accounts import Accounts, Ceiling, CeilingSpending, Requests, RowCounts, Standing
from engine.report.live_counts import LiveCounts
from records import record

ACCOUNTS = Accounts(
    run="run-1",
    status="finished",
    exit_status=0,
    reason=None,
    target="EMULATOR 127.0.0.1:1",
    workspace="W",
    partner="p",
    cohort_id="c",
    cohort_name="C",
    action="add",
    ceiling=Ceiling(300, 60.0),
    source_complete=True,
    rows=RowCounts(12_345),
    uids=Standing(12_345, 12_345),
    batches=Standing(3, 3),
    requests=Requests(3, 3),
    bytes_sent=400_000,
    payload_fill=0.99,
    ceiling_use=1.0,
    ceiling_spending=CeilingSpending(3.0, 3),
    ceiling_found=None,
    margin_seconds=0.0,
    started_at="2026-11-23T02:00:00.000+00:00",
    finished_at=None,
    elapsed_seconds=1.0,
)


def test_a_pause_by_the_hour_says_until_when() -> None:
    sentence = trouble(Paused(datetime(2026, 11, 27, 20, 1, 0, 1, tzinfo=UTC)))
    assert sentence == "nothing is sent until 20:02, as `limits.hours` allow no request"


def test_the_ceiling_of_each_hour_is_named() -> None:
    hours = ({"from": "08:00", "until": "20:00", "requests": 100},)
    opening = replace(OPENING, ceiling=Ceiling(300, 60.0, hours))
    assert describe(opening).endswith("300 requests / 60 s, 100 from 08:00 to 20:00")


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        (None, "so everything is held"),
        (7.0, "as it asks for 7 s"),
        (99_999_999.0, "for 600 s at the most"),
    ],
)
def test_a_hold_says_how_long(wait: float | None, said: str) -> None:
    output = trouble(Answered(3, 1, Throttled(wait), 0.1))
    assert output is not None
    assert output.endswith(said)


@pytest.mark.parametrize("view_of", [LogView, TerminalView])
def test_what_never_opened_shows_no_progress(
    view_of: type[LogView | TerminalView], capsys: pytest.CaptureFixture[str]
) -> None:
    with view_of(LiveCounts(5, 0), lambda: None):
        pass
    assert capsys.readouterr().err == ""
    with view_of(LiveCounts(5, 0), lambda: None) as view:
        view.opened(OPENING)
    assert "run-1" in capsys.readouterr().err


def test_a_request_that_did_not_leave_is_no_attempt() -> None:
    output = trouble(Answered(1, 0, NotSent("cannot connect: refused"), 0.1))
    assert output == "batch 1: not sent: cannot connect: refused"
    output = trouble(Answered(1, 2, Unconfirmed("no answer within 30 s"), 0.1))
    assert output == "batch 1, attempt 2: unconfirmed: no answer within 30 s"


def test_what_a_stop_keeps_back_is_reported_by_the_stop() -> None:
    assert trouble(Answered(1, 0, NotSent("stopped", is_kept_back=True), 0.1)) is None
    assert "SIGTERM" in (trouble(Stopping("SIGTERM received")) or "")


CONTROLS = "\x1b[2J\r\n\t\x7f\x9b"


def test_control_characters_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(CONTROLS) == r"\x1b[2J\r\n\t\x7f\x9b"
    assert printable("naïve ∑ 🦄") == "naïve ∑ 🦄"
    log("info", "note", text=CONTROLS, file="plain", other="\x9b")
    TerminalView(LiveCounts(5, 0), lambda: None).note(CONTROLS)
    TerminalView(LiveCounts(5, 0), lambda: None).opened(replace(OPENING, run=None, target=CONTROLS))
    print_accounts(replace(ACCOUNTS, cohort_name=CONTROLS))
    output = capsys.readouterr()
    assert "file=plain" in output.err
    assert r'text="\x1b[2J\r\n\t\x7f\x9b"' in output.err
    assert r'other="\x9b"' in output.err
    assert not set(CONTROLS) - {"\n", "[", "2", "J"} & set(output.out + output.err)
    assert CONTROLS in describe(replace(OPENING, target=CONTROLS))  # escaped where it is shown


def test_what_libraries_say_is_a_record_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    capture_library_messages()
    failure = (ValueError, ValueError(CONTROLS), None)
    assert logging.lastResort is not None
    said = logging.LogRecord("aiohttp", logging.ERROR, "", 1, "lost: %s", (CONTROLS,), failure)
    logging.lastResort.handle(said)
    warnings.showwarning(CONTROLS, UserWarning, "", 1)
    lines = capsys.readouterr().err.splitlines()
    output = [record(line) for line in lines]
    assert [each["level"] for each in output] == ["error", "warning"]
    assert output[0]["text"].startswith("aiohttp: lost: ")
    assert "ValueError: " in output[0]["text"]


def shown(run_accounts: Accounts, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_accounts(run_accounts)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("status", ["running", "abandoned"])
def test_a_run_without_an_exit_status_shows_none(
    status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "run       run-1: finished, exit status 0" in shown(ACCOUNTS, capsys)
    lines = shown(replace(ACCOUNTS, status=status, exit_status=None), capsys)
    assert f"run       run-1: {status}" in lines


@pytest.mark.parametrize(
    ("spent", "output"),
    [
        (CeilingSpending(3.0, 3), "3.0 requests allowed = 3 used + nothing lost"),
        (CeilingSpending(3.0, 3, margin=0.04, late=-0.04), "3 used + nothing lost"),
        (
            CeilingSpending(9.0, 3, 6),
            "9.0 requests allowed = 3 used + 6 by other runs + nothing lost",
        ),
        (CeilingSpending(5.0, 3, margin=1.5, late=0.5), "3 used + lost: 1.5 margin, 0.5 late"),
        (
            CeilingSpending(5.0, 3, held=0.04, margin=2.5, input=0.2, late=-0.7),
            "3 used + lost: 0.2 waiting for input, 1.8 margin",
        ),
    ],
)
def test_only_causes_that_count_are_shown(
    spent: CeilingSpending, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "\n".join(shown(replace(ACCOUNTS, ceiling_spending=spent), capsys))
    [found] = re.findall(r"^ceiling.*(?:\n {10}.*)*", lines, re.MULTILINE)
    assert " ".join(found.split()).endswith(output)


def test_a_table_aligns_what_it_shows() -> None:
    rows = [("a", 1, None), ("ünï", 1_000, "x"), ("日本", None, "")]
    assert list(table_lines(("name", "count", "note"), rows, numbers=("count",))) == [
        "name  count  note",
        "a         1",
        "ünï    1000  x",
        "日本",
    ]
