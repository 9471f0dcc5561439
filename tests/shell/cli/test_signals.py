"""A signal at any instant, from the first line of the program to its end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli import signals
from engine.cli.running import StopSignals
from engine.delivery.stop import StopSwitch
from records import records

ROOT = Path(__file__).resolve().parents[3]
EACH = pytest.mark.parametrize("number", signals.STOPS)


class LeftError(Exception):
    """The process has ended."""


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.STOPS}

    def leave(status: int) -> None:
        raise LeftError(status)

    monkeypatch.setattr(os, "_exit", leave)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# The phases of a command, each by the signals that come in it.


@EACH
@pytest.mark.parametrize("as_json", [False, True])
def test_outside_a_run_it_ends_the_process_with_a_line_and_75(
    number: signal.Signals,
    *,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["cohortsync", "runs", *(["--json"] if as_json else [])])
    signals.exit_at_once()
    with pytest.raises(LeftError, match="75"):
        signal.raise_signal(number)
    output = capfd.readouterr()
    reason = f"{number.name} received while no run was under way"
    [said] = records(output.err)
    assert (said["event"], said["text"], said["exit_status"]) == ("error", reason, "75")
    if as_json:
        document = json.loads(output.out)
        assert (document["exit_status"], document["reason"]) == (75, reason)
    else:
        assert not output.out


def test_who_cannot_be_notified_is_left_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", fail)
    signals.exit_at_once()
    with pytest.raises(LeftError):
        signal.raise_signal(signal.SIGTERM)


@EACH
def test_in_a_run_it_pulls_the_switch(number: signal.Signals) -> None:
    async def work(switch: StopSwitch) -> str:
        signal.raise_signal(number)
        while not switch.is_pulled:
            await asyncio_turn()
        return "drained"

    with StopSignals() as stops:
        assert stops.run(work) == "drained"


async def asyncio_turn() -> None:
    import asyncio  # noqa: PLC0415 - for this alone

    await asyncio.sleep(0)


async def is_stopped(switch: StopSwitch) -> bool:
    return switch.is_pulled


def test_before_and_between_two_runs_it_stops_the_next() -> None:
    with StopSignals() as stops:
        assert stops.run(is_stopped) is False
        signal.raise_signal(signal.SIGHUP)
        assert stops.run(is_stopped) is True


def test_after_a_run_one_is_ignored_and_a_second_ends_it_with_the_run_s_status() -> None:
    with StopSignals() as stops:
        signal.raise_signal(signal.SIGINT)
        stops.end(0)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(LeftError, match="0"):
        signal.raise_signal(signal.SIGTERM)


@EACH
def test_where_there_is_something_to_clean_up_it_is_raised(number: signal.Signals) -> None:
    def interrupted() -> None:
        with signals.raised():
            signal.raise_signal(number)

    with pytest.raises(signals.InterruptedCommandError, match=number.name):
        interrupted()


@EACH
def test_one_that_is_ignored_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    for phase in (signals.exit_at_once, lambda: signals.exit_with(0)):
        phase()
        signal.raise_signal(number)
    with signals.raised(), StopSignals() as stops:
        signal.raise_signal(number)
        assert not stops.run(is_stopped)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_at_the_end_all_are_ignored() -> None:
    signals.ignore()
    for number in signals.STOPS:
        signal.raise_signal(number)


# The instants of a start: a signal as a module is looked for.

PROGRAM = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.{number})

sys.meta_path.insert(0, Finder())
sys.argv = ["cohortsync", *{words!r}]
from engine.__main__ import main
main()
"""
PUSH = ("push", "e.txt", "--cohort-id", "a", "--cohort-name", "A", "--json")
INSTANTS = [
    ("engine.cli.application", "SIGINT", PUSH),
    ("typer.core", "SIGTERM", PUSH),
    ("engine.cli.running", "SIGHUP", PUSH),
]
MORE_INSTANTS = [
    (module, number, words)
    for number in ("SIGINT", "SIGTERM", "SIGHUP")
    for words in (PUSH, ("mirror", *PUSH[1:]), ("resume", "--json"), ("check", "--json"))
    for module in (
        "engine.cli.application",
        "typer",
        "rich",
        "engine.config.loading",
        "pydantic",
        "engine.model.cohort",
    )
]


@pytest.mark.parametrize(("module", "number", "words"), INSTANTS)
def test_a_signal_while_the_program_starts_is_a_line_and_a_status(
    tmp_path: Path, module: str, number: str, words: tuple[str, ...]
) -> None:
    check_start(tmp_path, module, number, words)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "number", "words"), MORE_INSTANTS)
def test_a_signal_at_each_instant_of_a_start_is_a_line_and_a_status(
    tmp_path: Path, module: str, number: str, words: tuple[str, ...]
) -> None:
    check_start(tmp_path, module, number, words)


def check_start(folder: Path, module: str, number: str, words: tuple[str, ...]) -> None:
    (folder / "e.txt").write_text("u1\n")
    (folder / "config.toml").write_text(
        '[workspace]\nid = "W"\nendpoint = "http://127.0.0.1:9"\n', encoding="utf-8"
    )
    program = PROGRAM.format(module=module, number=number, words=words)
    environment = {"PYTHONPATH": str(ROOT), "MOENGAGE_API_KEY": "key", "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
        timeout=100,
    )
    output = f"{module}, {number}, {words}: {done}"
    assert "Traceback" not in done.stderr, output
    if f"{number} received" in done.stderr:
        assert done.returncode == 75, output
        assert json.loads(done.stdout)["exit_status"] == 75, output
    else:  # This command does not import that.
        assert module not in {"engine.cli.application", "typer", "engine.config.loading"}, output
