"""`cohortsync demo`: a run against the emulator, with a check that no uid was lost."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli import signals
from engine.cli.messages import write_message
from engine.cli.options import refuse_nan
from engine.cli.streams import print_lines, printing
from engine.errors import ExitStatus, IncompleteError
from engine.model.quantity import counted

if TYPE_CHECKING:
    from engine import Observers, RunResult
    from engine.cli.run_view import View

WORKSPACE, API_KEY = "DEMO", "demo-key"
_COHORT = "demo-cohort"
_START_SECONDS = 20.0


def demo(
    uids: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000_000, help="How many uids to push.")
    ] = 250_000,
    requests: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=10_000_000, help="The ceiling: requests in a window."),
    ] = 300,
    per_seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=86_400,
            callback=refuse_nan,
            help="The window's length.",
        ),
    ] = 60.0,
) -> None:
    """Push a made-up export into the emulator, and compare its members with the export.

    Everything happens in a temporary folder and on loopback; nothing is left behind.
    """
    try:
        with signals.raised():
            status = _run_demo(uids, requests, per_seconds)
    except signals.InterruptedCommandError as interruption:
        raise IncompleteError(str(interruption)) from None
    sys.exit(status)


def _run_demo(uids: int, requests: int, per_seconds: float) -> ExitStatus:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cohortsync-demo-") as name:
        folder = Path(name)
        export = folder / "export.csv"
        write_message(f"writing an export of {counted(uids, 'uid')}")
        _write_export(export, uids)
        with _emulator(folder, requests, per_seconds) as url:
            config = folder / "config.toml"
            config.write_text(
                f'[workspace]\nid = "{WORKSPACE}"\nendpoint = "{url}"\n'
                f"[limits]\nrequests = {requests}\nper_seconds = {per_seconds}\n",
                encoding="utf-8",
            )
            status = _push(export, config)
            has_finished = status in {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}
            if not has_finished:
                write_message("a demo keeps nothing: `cohortsync demo` starts again", label="note")
            elif not _is_complete(export, url, requests, per_seconds):
                status = ExitStatus.UNBALANCED
    return status


def _write_export(path: Path, uids: int) -> None:
    import random

    made_up = random.Random(250_000)  # noqa: S311 - the same export every time, and no secret
    with path.open("w", encoding="utf-8") as file:
        file.write("uid,country\n")
        file.writelines(f"{made_up.getrandbits(96):024x},IN\n" for _ in range(uids))


@contextmanager
def _emulator(folder: Path, requests: int, per_seconds: float) -> Iterator[str]:
    import subprocess
    import time

    port_file = folder / "port"
    command = [
        *(sys.executable, "-m", "engine", "emulator", "--port", "0", "--port-file", str(port_file)),
        *("--workspace", f"{WORKSPACE}:{API_KEY}", "--limiter", "sliding"),
        *("--requests", str(requests), "--per-seconds", str(per_seconds)),
    ]
    # In a separate session: Ctrl-C signals a whole session, and the push still needs answers.
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own command
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (port_file.exists() and port_file.read_text(encoding="ascii").strip()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise IncompleteError("the emulator did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text(encoding='ascii').strip()}"
    finally:
        with signals.forwarded_to(lambda _: None):  # Another signal must not leave it running.
            process.terminate()
            process.wait()


def _push(export: Path, config: Path) -> ExitStatus:
    from engine import Cohort, Engine
    from engine.cli.running import StopSignals, carry_out

    async def start(engine: Engine, _: "View", observers: "Observers") -> "RunResult":
        cohort = Cohort(_COHORT, "Demo cohort")
        return await engine.push(export, cohort, column="uid", **observers)

    opening = Engine.open(config, environ={"MOENGAGE_API_KEY": API_KEY})
    with StopSignals() as stops:
        return carry_out(opening, start, as_json=False, stops=stops)


def _is_complete(export: Path, url: str, requests: int, per_seconds: float) -> bool:
    """Compare the emulator's own members with the export, uid by uid, and show the result."""
    import json

    with export.open(encoding="utf-8") as file:
        next(file)
        planned = {line.partition(",")[0] for line in file}
    members = {json.loads(line) for line in _get(url, f"cohorts/{_COHORT}/members").splitlines()}
    report = json.loads(_get(url, "report"))
    missing, extra = len(planned - members), len(members - planned)
    most, breaches = report["workspaces"][WORKSPACE]["most_in_window"], report["breaches"]
    with printing():
        print_lines(
            (
                f"proof     the emulator's cohort has {len(members):,} members, the export "
                f"{counted(len(planned), 'uid')}: {missing} missing, {extra} extra\n"
                f"          most requests in any {per_seconds:g} s, as the emulator counted: "
                f"{most} of {requests}; breaches of the contract: {breaches or 'none'}"
            ).split("\n")
        )
    return not (missing or extra or breaches)


def _get(url: str, path: str) -> bytes:
    from urllib.request import ProxyHandler, build_opener

    # No proxy: the emulator is on loopback.
    with build_opener(ProxyHandler({})).open(f"{url}/_emulator/{path}", timeout=60) as answer:
        content: bytes = answer.read()
        return content
