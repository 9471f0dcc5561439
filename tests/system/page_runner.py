"""Runs the commands of a page in one folder, against the emulator."""

import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from clean_room import ENGINE, PATIENCE_SECONDS, ROOT, environment
from nightly import CommandLine

from pages import Command, Fence, commands

_PUNCTUATION = set("();<>|&")
_VARYING = (
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}"), "RUN"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"(?<=\s)/\S+/"), "FOLDER/"),
    (re.compile(r"\d{4}-\d\d-\d\d|\b\d{1,2} [A-Z][a-z]{2}( \d{4})?\b"), "DATE"),
    (re.compile(r"\b\d\d:\d\d(:\d\d)?(\.\d+)?\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)?( min \d+| h \d+)? ?(s|min|h|ms)\b"), "DURATION"),
    (re.compile(r"\b[\d.]+ ?%"), "SHARE"),
    (re.compile(r"\s+"), " "),
)
"""What differs between two runs of the same command."""


@dataclass(slots=True)
class PageRunner:
    """A folder as a page supposes it, and the commands run in it so far."""

    cli: CommandLine
    binaries: Path
    """A folder with `cohortsync` and `python`, for lines that need a shell."""
    emulators: list[subprocess.Popen[str]] = field(default_factory=list)

    def prepare(self) -> None:
        """Put the commands where a shell finds them."""
        for name, command in (("cohortsync", ENGINE), ("python", [sys.executable])):
            shim = self.binaries / name
            shim.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            shim.chmod(0o755)

    def run(self, step: Fence | Command) -> int:
        """Run a command, or what a fence holds; return how many commands that were."""
        if isinstance(step, Command):
            self._run(step)
            return 1
        if step.comment == "append":
            with (self.cli.folder / step.argument).open("a", encoding="utf-8") as file:
                file.write(f"\n{step.body}\n")
        if step.info != "sh":
            return 0
        found = commands(step)
        for command in found:
            self._run(command)
        return len(found)

    def capture(self, command: Command) -> str:
        """Return what a command prints on a terminal of 80 columns."""
        program, *arguments = shlex.split(command.line)
        assert program == "cohortsync"
        ended = self.cli.run(*arguments, on_terminal=True)
        assert ended.status == command.exit_status, f"{command}\n{ended.stdout}\n{ended.log}"
        printed = re.sub(r"\x1b\[[0-9;]*m", "", ended.stdout).rstrip("\n")
        return f"$ {command.line}\n{printed}"

    def end(self) -> None:
        """Stop the emulators that the page started."""
        for process in self.emulators:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0

    def _run(self, command: Command) -> None:
        line = command.line
        if line.startswith(". "):
            return  # The command on the PATH stands for the one of the virtual environment.
        if line.startswith("make "):
            # The targets themselves are what runs this test.
            subprocess.run(
                ["make", "-n", *line.split()[1:]], cwd=ROOT, check=True, capture_output=True
            )
        elif line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.cli.variables[name] = value
        elif line.startswith("cohortsync emulator"):
            self._serve(line)
        elif line.startswith("cohortsync ") and not _needs_shell(line):
            ended = self.cli.run(*shlex.split(line)[1:])
            assert ended.status == command.exit_status, f"{line}\n{ended.stdout}\n{ended.stderr}"
        else:
            self._run_in_shell(command)

    def _run_in_shell(self, command: Command) -> None:
        variables = environment(self.cli.folder, **self.cli.variables)
        variables["PATH"] = f"{self.binaries}:{variables['PATH']}"
        done = subprocess.run(
            ["bash", "-c", command.line],
            cwd=self.cli.folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == command.exit_status, f"{command}\n{done.stdout}\n{done.stderr}"

    def _serve(self, line: str) -> None:
        """Start an emulator, at a free port: the one that the page names may be taken here."""
        process = subprocess.Popen(
            [*ENGINE, *shlex.split(line)[1:], "--port", "0"],
            cwd=self.cli.folder,
            env=environment(self.cli.folder),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.emulators.append(process)
        assert process.stderr is not None
        assert "event=listening" in process.stderr.readline()


def _needs_shell(line: str) -> bool:
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return "$" in line or "~" in line or any(set(word) <= _PUNCTUATION for word in words)


def without_varying(text: str) -> str:
    """Return printed text without times, names of runs and line ends."""
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text.strip()
