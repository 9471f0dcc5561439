"""The command line as a scheduler uses it: a folder with a configuration, and commands."""

import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import typer
from clean_room import API_KEY, ENGINE, PATIENCE_SECONDS, WORKSPACE, environment
from emulated_api import COHORT
from forked_process import ForkedProcess

from engine.cli import application, signals
from records import in_words, records

PARSED = typer.main.get_command(application.app)
"""The command line, which takes 0.05 s to build: as much as many of the commands."""
TARGET = ("--cohort-id", COHORT, "--cohort-name", "Night")


def _full_disk(kib: int) -> list[str]:
    return ["bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    status: int
    stdout: str
    log: str
    """What it wrote to stderr: records, or words on a terminal."""

    @property
    def stderr(self) -> str:
        """The log, with errors, ends and hints in the words that a terminal shows."""
        return in_words(self.log)

    @property
    def records(self) -> list[dict[str, str]]:
        return records(self.log)

    @property
    def words(self) -> str:
        """What stands on stdout, as one line."""
        return " ".join(self.stdout.split())

    @property
    def output(self) -> tuple[int, str, list[dict[str, str]]]:
        """All that it wrote, except the times in its log: equal for the same command."""
        untimed = [{**record, "time": ""} for record in self.records]
        stdout = re.sub(r'"(since|until)": "[^"]*"', r'"\1": ""', self.stdout)
        return self.status, stdout, untimed

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document on stdout, where nothing else may stand."""
        document: dict[str, Any] = json.loads(self.stdout)
        assert self.stdout.count("\n") == 1
        assert document["exit_status"] == self.status
        return document


@dataclass(frozen=True, slots=True)
class Running:
    """A command under way; left alone, it is killed when the test ends."""

    process: ForkedProcess | subprocess.Popen[bytes]
    output: Path
    log: Path

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self.log.read_text()

    def wait(self) -> Ended:
        status = self.process.wait(PATIENCE_SECONDS)
        return _ended(status, self.output.read_text(), self.stderr)

    def kill(self) -> Ended:
        self.process.kill()
        return self.wait()


class _Stream(io.StringIO):
    """A file or a pipe, in UTF-8."""

    encoding = "utf-8"


class _Terminal(_Stream):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def _ended(status: int, stdout: str, log: str, *, on_terminal: bool = False) -> Ended:
    ended = Ended(status, stdout, log)
    if not on_terminal:
        assert ended.records is not None  # Every line is a record.
    # Whatever a command is used for, these never show.
    assert "Traceback" not in ended.log, ended.log
    assert API_KEY not in ended.stdout + ended.log
    return ended


@dataclass(slots=True)
class CommandLine:
    """A folder with a configuration, and the commands run in it."""

    folder: Path
    url: str
    variables: dict[str, str] = field(default_factory=dict)
    _started: list[Running] = field(default_factory=list)

    def configure(self, **tables: Mapping[str, object]) -> None:
        """Write config.toml: light payloads and a short window unless `tables` say otherwise."""
        merged: dict[str, dict[str, object]] = {
            "workspace": {"id": WORKSPACE, "endpoint": self.url},
            "limits": {"requests": 300, "per_seconds": 2.0, "payload_bytes": 2000},
            "retry": {"backoff_seconds": 0.05},
        }
        for name, table in tables.items():
            merged.setdefault(name, {}).update(table)
        lines = []
        for name, table in merged.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        (self.folder / "config.toml").write_text("\n".join(lines) + "\n")

    def write(self, name: str, uids: int = 300) -> set[str]:
        """Write a text export of made-up uids, and return them."""
        found = [f"{name}-uid-{number:06}" for number in range(uids)]
        (self.folder / name).write_text("\n".join(found) + "\n")
        return set(found)

    def spawn(
        self,
        *arguments: str,
        stdin: bytes = b"",
        largest_file_kib: int | None = None,
        anew: bool = False,
    ) -> Ended:
        """Run a command as a process, as `start` does."""
        running = self.start(
            *arguments, stdin=subprocess.PIPE, largest_file_kib=largest_file_kib, anew=anew
        )
        assert running.process.stdin is not None
        with suppress(BrokenPipeError), running.process.stdin as pipe:
            pipe.write(stdin)
        return running.wait()

    def run(self, *arguments: str, folder: Path | None = None, on_terminal: bool = False) -> Ended:
        """Run a command inside this process, which is quicker; a terminal shows no colors."""
        variables = {**self.variables, "NO_COLOR": "1"} if on_terminal else self.variables
        handlers = {number: signal.getsignal(number) for number in signals.STOPS}
        stdout, stderr = (_Terminal() if on_terminal else _Stream() for _ in range(2))
        with (
            patch.dict(os.environ, environment(self.folder, **variables), clear=True),
            patch.object(sys, "argv", ["cohortsync", *arguments]),
            patch.object(application, "app", PARSED),
            chdir(folder or self.folder),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            try:
                application.main()
            except SystemExit as leaving:
                status = leaving.code or 0
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        assert isinstance(status, int)
        return _ended(status, stdout.getvalue(), stderr.getvalue(), on_terminal=on_terminal)

    def push(self, *arguments: str) -> Ended:
        return self.run("push", *arguments, *TARGET, "--json")

    def spawn_push(
        self, *arguments: str, stdin: bytes = b"", largest_file_kib: int | None = None
    ) -> Ended:
        command = ("push", *arguments, *TARGET, "--json")
        return self.spawn(*command, stdin=stdin, largest_file_kib=largest_file_kib)

    def start(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        largest_file_kib: int | None = None,
        anew: bool = False,
    ) -> Running:
        """Begin a command; its stdout is kept in a file unless it is to go elsewhere.

        `largest_file_kib` plays a disk with little room. With `anew`, an interpreter of its own
        begins with it.
        """
        number = len(self._started)
        output, log = self.folder / f"{number}.stdout", self.folder / f"{number}.stderr"
        variables = environment(self.folder, **self.variables)
        with output.open("wb") as kept, log.open("wb") as stderr:
            files = (stdin, kept.fileno() if stdout is None else stdout, stderr.fileno())
            process: ForkedProcess | subprocess.Popen[bytes]
            if anew or largest_file_kib:
                limit = _full_disk(largest_file_kib) if largest_file_kib else []
                command = [*limit, *ENGINE, *arguments]
                process = subprocess.Popen(
                    command,
                    stdin=files[0],
                    stdout=files[1],
                    stderr=files[2],
                    env=variables,
                    cwd=self.folder,
                )
            else:
                process = ForkedProcess(arguments, env=variables, cwd=self.folder, files=files)
        self._started.append(Running(process, output, log))
        return self._started[-1]

    def start_push(self, *arguments: str) -> Running:
        return self.start("push", *arguments, *TARGET, "--json")

    def end(self) -> None:
        """Leave nothing running behind."""
        for running in self._started:
            if running.process.poll() is None:
                running.kill()

    def rejects(self, run: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("rejects", run).stdout.splitlines()]

    def ledger_files(self) -> list[Path]:
        return sorted(self.folder.glob("state/*/*/ledger.sqlite"))

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the only ledger of the state folder."""
        [path] = self.ledger_files()
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as ledger:
            return ledger.execute(sql, values).fetchall()

    def change(self, sql: str) -> None:
        """Tamper with that ledger."""
        [path] = self.ledger_files()
        with closing(sqlite3.connect(path)) as ledger, ledger:
            ledger.execute(sql)


def assert_balanced(document: Mapping[str, Any]) -> None:
    """Check the laws of conservation in a run's JSON document."""
    rows, uids, batches = document["rows"], document["uids"], document["batches"]
    assert rows["read"] == rows["blank"] + rows["invalid"] + rows["excluded"] + uids["planned"]
    for standing in (uids, batches):
        parts = ("accepted", "rejected", "unconfirmed", "pending")
        assert standing["planned"] == sum(standing[part] for part in parts)
