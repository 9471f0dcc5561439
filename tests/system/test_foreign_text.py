"""Text from outside in every output of every command: nothing that a terminal or a sheet obeys."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulated_api import Emulator
from nightly import CommandLine, Ended

from engine.model.foreign_text import UNSAFE
from records import plain

HOSTILE = "\u202e\u2028\u200b\ufeff"
CONTROLS = "\x1b[2J\x9b\x85\t\x7f"
UIDS = [
    *(f"{first}{HOSTILE}{CONTROLS}1" for first in ("=", "+", "-", "@", "'", "\uff1d", "\\")),
    *("-5", "+49", "@home", "=1+1", "'quoted", "a\\b", 'q"r,s', "plain"),
]
NAME = f"n{HOSTILE}ame"


@pytest.fixture
def cli(tmp_path: Path, emulate: Callable[..., Emulator]) -> Iterator[CommandLine]:
    """Make a state folder in which every uid of `UIDS` but the last is rejected."""
    api = emulate(*(word for uid in UIDS[:-1] for word in ("--poison", uid)))
    folder = tmp_path / f"f{HOSTILE}older"
    folder.mkdir()
    begun = CommandLine(folder, api.url)
    begun.configure(mirror={"settle_seconds": 0})
    rows = [json.dumps({"id\u202e": uid}) for uid in UIDS]
    (folder / f"e{HOSTILE}{CONTROLS}\n.ndjson").write_text("\n".join(rows) + "\n{broken\u2028}\n")
    yield begun
    begun.end()


def check(ended: Ended, *, on_terminal: bool) -> None:
    output = ended.stdout + ended.log
    if on_terminal:
        output = plain(output)
    assert set(UNSAFE.findall(output)) <= {"\n"}, ascii(output)


@pytest.mark.parametrize("on_terminal", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_no_command_shows_what_a_terminal_obeys(cli: CommandLine, *, on_terminal: bool) -> None:
    [export] = [path.name for path in cli.folder.glob("*.ndjson")]
    cohort = ("--cohort-id", f"c{HOSTILE}")
    target = (*cohort, "--cohort-name", NAME, "--cohort-description", NAME)
    read = (export, "--column", "id\u202e")

    def run(*words: str, status: int = 0) -> Ended:
        ended = cli.run(*words, on_terminal=on_terminal)
        check(ended, on_terminal=on_terminal)
        assert ended.status == status, (words, ended.log)
        return ended

    run("push", *read, *target, "--dry-run", status=1)
    run("push", *read, *target, status=1)
    [pushed] = json.loads(run("runs", "--json").stdout)
    run("runs")
    for words in (("show",), ("show", "--csv"), ("show", "--json"), ("rejects",)):
        run(*words, pushed["run"])
    run("why", UIDS[0], *cohort)
    run("why", UIDS[0], *cohort, "--json")
    mirrored = ("--cohort-id", f"m{HOSTILE}", *target[2:])
    planned = json.loads(
        run("plan", *read, *mirrored, "--allow", "invalid=9", "--reason", NAME, "--json").stdout
    )
    run("apply", planned["run"], status=1)
    run("show", planned["run"])
    run("snapshot", "list", *mirrored[:2])
    run("snapshot", "compare", *read, *mirrored[:2])
    run("why", UIDS[0], *mirrored[:2])
    run(
        "mirror",
        *read,
        *mirrored[:2],
        "--cohort-name",
        f"o{HOSTILE}",
        "--allow",
        "invalid=9",
        "--reason",
        "x",
        status=4,
    )
    run("check", "--config", f"{HOSTILE}.toml", status=2)
    for words in (
        ("push", f"{HOSTILE}.csv", *target),
        ("push", *read[:2], HOSTILE, *target),
        ("show", HOSTILE),
        (HOSTILE,),
        ("mirror", f"--{HOSTILE}"),
        ("apply", HOSTILE),
        ("resume", HOSTILE),
        ("why", "x", "--cohort-id", HOSTILE),
    ):
        run(*words, status=2)
        run(*words, "--json", status=2)
    (cli.folder / "config.toml").write_text(f'[workspace]\nid = "{HOSTILE}"\n"{HOSTILE}" = 1\n')
    run("push", *read, *target, status=2)


def test_rejects_as_csv_are_safe_and_can_be_read_back(cli: CommandLine) -> None:
    [export] = [path.name for path in cli.folder.glob("*.ndjson")]
    target = ("--cohort-id", "c", "--cohort-name", "C")
    pushed = cli.run("push", export, "--column", "id\u202e", *target, "--json").document
    exact = [json.loads(line) for line in cli.run("rejects", pushed["run"]).stdout.splitlines()]
    assert {record["uid"] for record in exact if record["uid"]} == set(UIDS[:-1])
    text = cli.run("rejects", pushed["run"], "--csv").stdout
    assert not set(UNSAFE.findall(text)) - {"\n"}
    rows = list(csv.DictReader(text.splitlines()))
    for row, record in zip(rows, exact, strict=True):
        for name, cell in row.items():
            assert not cell.startswith(("=", "+", "-", "@", "\uff1d"))
            # As the README says: one apostrophe off, then the escapes read.
            read = cell.removeprefix("'").encode("latin-1", "backslashreplace")
            assert read.decode("unicode_escape") == str(record[name] or ""), name
