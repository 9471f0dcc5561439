"""Off a terminal, as in a mail from cron, what commands print fits into 80 columns."""

import re

import pytest
from configured_sync import cohort, configure
from nightly import CommandLine
from rich.cells import cell_len

COLUMNS = 80
INDENT = 24
"""Columns before the details of `check`."""
LONG = "customers-who-bought-a-very-long-list-of-things-in-the-last-thirty-days-of-the-year"
NAME = "Customers who bought a very long list of things in the last thirty days of the year"
FOLDER = "exports/of-the-department-of-very-long-names/that-are-kept-for-a-rather-long-time"
EXPORT = f"{FOLDER}/{LONG}.txt"
BAD = f"{FOLDER}/bad.txt"
TARGET = ("--cohort-id", LONG, "--cohort-name", NAME)
PYTHON_VALUE = re.compile(r"\b(?:None|True|False)\b|\(\)|\[\]|\{\}|<[a-zA-Z_.]+ object")
COMMANDS = [
    ("check",),
    ("source", "preview", EXPORT),
    ("source", "preview", "--cohort", LONG),
    ("sync", "--dry-run"),
    ("sync", "-v"),
    ("sync",),
    ("push", EXPORT, BAD, "--action", "add", *TARGET, "--record", "-v"),
    ("mirror", BAD, *TARGET, "-v"),
    ("plan", EXPORT, *TARGET, "-v"),
    ("plans",),
    ("runs",),
    ("show", "latest", "--batches"),
    ("status",),
    ("support", "latest"),
    ("report",),
    ("why", "uid-1", "--cohort-id", LONG),
    ("snapshot", "list", "--cohort-id", LONG),
    ("snapshot", "verify", "--cohort-id", LONG),
    ("snapshot", "compare", EXPORT, "--cohort-id", LONG),
    ("abandon", "latest"),
    ("prune", "--dry-run"),
    ("prune",),
    ("backup", f"{FOLDER}/backup"),
    ("restore", f"{FOLDER}/backup"),
    ("status",),
]


@pytest.mark.usefixtures("api")
def test_the_lines_of_each_command_fit_and_are_words(cli: CommandLine) -> None:
    (cli.folder / FOLDER).mkdir(parents=True)
    cli.write(EXPORT, 20)
    (cli.folder / BAD).write_bytes(b"uid-1\n\xff\nuid-2\n\xff\n")
    tables: dict[str, dict[str, object]] = {"mirror": {"settle_seconds": 0.0}}
    tables["workspace"] = {"partner": LONG[:40]}
    configure(cli, {LONG: cohort(EXPORT, name=NAME)}, **tables)
    for command in COMMANDS:
        ended = cli.run(*command)
        assert ended.status in {0, 1, 4}, ended.stderr
        for line in ended.stdout.splitlines():
            assert is_narrow(line), (command, line)
            assert not PYTHON_VALUE.search(line), (command, line)


def is_narrow(line: str) -> bool:
    """Return whether a line fits, or is as long as it is for one path, command or long name."""
    words = re.findall(r"`[^`]*`[^ ]*|[^ ]+", line)
    longest = max(map(cell_len, words), default=0)
    is_command = line.lstrip().startswith("cohortsync ")
    return cell_len(line) <= COLUMNS or is_command or longest > COLUMNS - INDENT
