"""The emulator as a process of its own, and what it says it saw."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from clean_room import API_KEY, PATIENCE_SECONDS, WORKSPACE, environment, until
from forked_process import ForkedProcess

COHORT = "night"
"""The cohort that is pushed to unless a test says otherwise."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator, asked for what it saw."""

    url: str

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self._ask("report"))
        return report

    def received(self) -> int:
        return int(self.report()["requests"]["received"])

    def members(self, cohort_id: str = COHORT, query: str = "") -> set[str]:
        """Return who is in; nobody where no cohort has the id."""
        try:
            answer = self._ask(f"cohorts/{cohort_id}/members{query}")
        except HTTPError as error:
            with error:
                if error.code == 404:
                    return set()
                raise
        return {json.loads(line) for line in answer.splitlines()}

    def reset(self) -> None:
        self._ask("reset", method="POST")

    def _ask(self, path: str, method: str = "GET") -> bytes:
        request = Request(f"{self.url}/_emulator/{path}", method=method)  # noqa: S310 - loopback
        opener = build_opener(ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            content: bytes = answer.read()
            return content


@contextmanager
def emulator(folder: Path, *flags: str) -> Iterator[Emulator]:
    """Run an emulator for the length of the block."""
    port_file = folder / "port"
    command = ("emulator", "--port", "0", "--port-file", str(port_file))
    command += ("--workspace", f"{WORKSPACE}:{API_KEY}", *flags)
    with (folder / "emulator.log").open("wb") as log:
        files = (subprocess.DEVNULL, log.fileno(), log.fileno())
        process = ForkedProcess(command, env=environment(folder), cwd=folder, files=files)
    try:
        until(lambda: port_file.exists() or process.poll() is not None, "the emulator listens")
        assert process.poll() is None, (folder / "emulator.log").read_text()
        yield Emulator(f"http://127.0.0.1:{port_file.read_text().strip()}")
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    assert "Traceback" not in (folder / "emulator.log").read_text()
