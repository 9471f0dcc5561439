"""`cohortsync emulator`: its flags as settings, its errors, and its life as a process."""

import base64
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import engine.emulator as api
from engine.cli.emulator import emulator
from engine.emulator import (
    EmulatorSettings,
    FaultKind,
    FaultSettings,
    FaultShare,
    LimiterModel,
    LimitSettings,
    PlannedFault,
    RetryAfter,
)
from engine.errors import UsageError

app = typer.Typer()
app.command()(emulator)


def settings_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> EmulatorSettings:
    served: list[EmulatorSettings] = []

    def serve(settings: EmulatorSettings, *, port_file: Path | None, listens: object) -> None:
        del port_file, listens
        served.append(settings)

    monkeypatch.setattr(api, "serve", serve)
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    return served[0]


def test_without_flags_it_is_the_api_s_own_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(monkeypatch)
    assert settings == EmulatorSettings()
    assert (settings.limits.requests, settings.limits.per_seconds) == (300, 60)


def test_every_flag_becomes_its_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("a\nb\n")
    (tmp_path / "poison").write_text("bad\n")
    (tmp_path / "plan.json").write_text('[{"request": 9, "fault": "502"}]')
    line = (
        f"--host localhost --port 0 --workspace A:x:y --workspace B:z --blocked B --max-bytes 99 "
        f"--known-users {tmp_path}/users --count-only --allow-remote "
        f"--log {tmp_path}/log "
        "--limiter gcra --requests 5 --per-seconds 2.5 --burst 3 --phase-seconds 1 "
        "--no-count-throttled --retry-after date --rate-headers "
        "--seed 7 --jitter-ms 30 --latency-ms 4 --latency-sigma 0.5 "
        "--fault 500=0.03:0.5 --fault hang=0.01:0:9 "
        f"--fault-at 413=70 --fault-at 401=500- --plan {tmp_path}/plan.json "
        f"--poison worse --poison-file {tmp_path}/poison --no-name-poison"
    )
    assert settings_of(monkeypatch, *line.split()) == EmulatorSettings(
        host="localhost",
        port=0,
        allow_remote=True,
        workspaces={"A": "x:y", "B": "z"},
        blocked=frozenset({"B"}),
        max_bytes=99,
        known_users=frozenset({"a", "b"}),
        count_only=True,
        log=tmp_path / "log",
        limits=LimitSettings(
            model=LimiterModel.GCRA,
            requests=5,
            per_seconds=2.5,
            burst=3,
            phase_seconds=1,
            count_throttled=False,
            retry_after=RetryAfter.DATE,
            rate_headers=True,
        ),
        faults=FaultSettings(
            seed=7,
            jitter_ms=30,
            latency_ms=4,
            latency_sigma=0.5,
            shares=(
                FaultShare(FaultKind.SERVER_ERROR, 0.03, 0.5),
                FaultShare(FaultKind.HANG, 0.01, 0, 9),
            ),
            plan=(
                PlannedFault(FaultKind.TOO_LARGE, 70, 70),
                PlannedFault(FaultKind.UNAUTHORIZED, 500, None),
                PlannedFault(FaultKind.BAD_GATEWAY, 9, 9),
            ),
            poison_uids=frozenset({"bad", "worse"}),
            name_poison=False,
        ),
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--workspace", "secretish"], "ID:KEY"),
        (["--host", "0.0.0.0"], "other machines"),  # noqa: S104  what must be refused
        (["--fault", "500"], "500=0.03"),
        (["--fault-at", "413=x"], "7-9"),
        (["--plan", "nowhere.json"], "nowhere.json"),
        (["--known-users", "nowhere.txt"], "nowhere.txt"),
        (["--port", "70000"], "70000"),
    ],
)
def test_a_flag_that_cannot_be_is_one_sentence(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert word in result.exception.message
    assert "secretish" not in result.exception.message


@contextmanager
def process(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the command on a free port, and end it if the test has not."""
    port_file = tmp_path / "port"
    code = "import typer; from engine.cli.emulator import emulator; typer.run(emulator)"
    command = [sys.executable, "-c", code, "--port", "0", "--port-file", str(port_file)]
    with subprocess.Popen(
        [*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stderr is not None
            line = running.stderr.readline()  # comes when it listens, or ends at its end
            assert "event=listening url=http://127.0.0.1:" in line, line
            yield running, int(line.rsplit(":", 1)[1])
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_says_where_it_listens_and_a_signal_ends_it_well(
    tmp_path: Path, number: signal.Signals
) -> None:
    with process(tmp_path) as (running, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_emulator/health") as answer:
            health: dict[str, Any] = json.load(answer)
        assert health == {"emulator": "cohortsync"}
        running.send_signal(number)
        out, err = running.communicate()
        assert (running.returncode, out, err) == (0, "", "")
        assert not (tmp_path / "port").exists()


def test_the_port_file_holds_the_port(tmp_path: Path) -> None:
    with process(tmp_path) as (_, port):
        assert int((tmp_path / "port").read_text()) == port


def request(key: str = "demo-key") -> bytes:
    """Return a whole request, valid if the key is."""
    body = (
        b'{"action":"add_members","partner":"p",'
        b'"parameters":{"cohort_name":"n","cohort_id":"c","members":[{"uid":"a"}]}}'
    )
    head = (
        "POST /v1/integrations/cohortsync HTTP/1.1\r\nHost: x\r\nMOE-APPKEY: DEMO\r\n"
        f"Authorization: Basic {base64.b64encode(f'DEMO:{key}'.encode()).decode()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def test_a_reset_is_one_on_the_wire(tmp_path: Path) -> None:
    with (
        process(tmp_path, "--fault", "reset=1") as (_, port),
        socket.create_connection(("127.0.0.1", port)) as connection,
    ):
        connection.sendall(request())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_the_log_shows_when_each_request_came_and_what_it_was_answered(tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ("--limiter", "fixed", "--requests", "4", "--fault-at", "reset=2", "--fault-at")
    with process(tmp_path, "--log", str(log), *flags, "truncated=3") as (_, port):
        for key in ("demo-key", "demo-key", "demo-key", "wrong-key", "demo-key", "demo-key"):
            with socket.create_connection(("127.0.0.1", port)) as connection, suppress(OSError):
                connection.sendall(request(key))
                connection.recv(1)
    lines = [line.split() for line in log.read_text().splitlines()]
    times = [float(seconds) for seconds, _ in lines]
    assert [status for _, status in lines] == ["200", "-", "-", "200", "429"]
    assert times == sorted(times)


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    arguments = ["--port", "0", "--log", str(tmp_path / "none" / "log")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert "cannot be written" in result.exception.message


def test_a_port_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    arguments = ["--port", "0", "--port-file", str(tmp_path / "none" / "port")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert "cannot be written" in result.exception.message
