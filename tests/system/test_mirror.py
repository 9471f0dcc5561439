"""Whole mirrors: the command, the emulator, and what each guard lets through to it."""

import os
import signal
from collections.abc import Mapping, Sequence
from subprocess import PIPE
from typing import Any

import pytest
from clean_room import is_waiting, until
from emulated_api import Emulator
from nightly import TARGET, CommandLine, Ended

NO_WAIT = {"settle_seconds": 0.0}


def mirror(cli: CommandLine, *arguments: str) -> Ended:
    return cli.run("mirror", *arguments, *TARGET, "--json")


def write(cli: CommandLine, uids: Sequence[str], name: str = "export.txt") -> set[str]:
    (cli.folder / name).write_text("".join(f"{uid}\n" for uid in uids))
    return set(uids)


def uids(start: int, end: int) -> list[str]:
    return [f"uid-{number:06}" for number in range(start, end)]


def test_run_after_run_the_cohort_is_the_export(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror=NO_WAIT)
    sent = []
    for start in (0, 20, 20, 50):
        wanted = write(cli, uids(start, start + 2_000))
        before = api.received()
        ended = mirror(cli, "export.txt")
        assert ended.status == 0, ended.stderr
        assert api.members() == wanted
        document = ended.document
        rows = document["rows"]
        parts = ("blank", "invalid", "duplicate", "unchanged")
        assert rows["read"] == sum(rows[part] for part in parts) + document["add"]["planned"]
        sent.append(api.received() - before)
    assert sent[0] > 10 * sent[1] > 0
    assert sent[2] == 0


def test_every_kind_of_row_is_in_a_mirrors_accounts(cli: CommandLine, api: Emulator) -> None:
    cli.configure(guards={"max_invalid": 1.0, "max_duplicates": 1.0})
    (cli.folder / "export.csv").write_bytes(b"uid,x\na,1\n,2\na,3\n\xff,4\nb,5,5\nc,6\n")
    ended = mirror(cli, "export.csv", "--column", "uid")
    assert ended.status == 1
    assert ended.document["rows"] == {
        "read": 6,
        "blank": 1,
        "invalid": 2,
        "excluded": 0,
        "duplicate": 1,
        "unchanged": 0,
        "undecided": 0,
    }
    assert api.members() == {"a", "c"}
    rejects = cli.rejects(ended.document["run"])
    assert [(reject["kind"], reject["record"]) for reject in rejects] == [
        ("blank", 2),
        ("invalid", 4),
        ("invalid", 5),
    ]


GOOD = uids(0, 2_000)
OTHER_KIND = [f"{number}@example.com" for number in range(2_000)]


@pytest.mark.parametrize(
    ("guards", "tonight", "flags", "guard"),
    [
        ({}, GOOD[300:], (), "removals"),
        ({"max_removals": [0.5, 10]}, GOOD[11:], (), "removals"),
        ({}, [*GOOD, *uids(5_000, 6_001)], (), "additions"),
        ({"expected_size": [1_500, 1_999]}, GOOD, (), "size"),
        ({}, [], (), "empty"),
        ({}, ["", " "], (), "empty"),
        ({"max_duplicates": 0.1}, GOOD + GOOD[:300], (), "duplicates"),
        ({"uid_pattern": "uid-[0-9]{6}"}, [*GOOD, "uid-x"], (), "pattern"),
        ({"max_removals": 1.0, "max_additions": 1.0}, OTHER_KIND, (), "shape"),
        ({}, GOOD, ("--cohort-name", "Another"), "name"),
    ],
)
def test_a_guard_that_blocks_lets_no_request_through(  # noqa: PLR0913, PLR0917 - a table of cases
    cli: CommandLine,
    api: Emulator,
    guards: Mapping[str, Any],
    tonight: Sequence[str],
    flags: Sequence[str],
    guard: str,
) -> None:
    cli.configure(mirror=NO_WAIT)
    write(cli, GOOD)
    assert mirror(cli, "export.txt").status == 0
    cli.configure(mirror=NO_WAIT, guards=guards)
    write(cli, tonight)
    before = api.received()
    for command in ("plan", "mirror"):
        blocked = cli.run(command, "export.txt", *TARGET, *flags, "--json")
        assert blocked.status == 4, blocked.stderr
        assert f"{guard}: " in str(blocked.document["reason"])
    assert api.received() == before
    assert api.members() == set(GOOD)


def test_invalid_rows_beyond_the_bound_stop_a_mirror(cli: CommandLine, api: Emulator) -> None:
    (cli.folder / "export.csv").write_bytes(b"uid,x\n" + b"a,1\n" * 9 + b"b,1,1\n")
    blocked = mirror(cli, "export.csv", "--column", "uid")
    assert blocked.status == 4
    assert "invalid: 1 invalid row of 10" in blocked.document["reason"]
    assert api.received() == 0


def test_an_export_older_than_the_last_stops_a_mirror(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror=NO_WAIT)
    write(cli, GOOD)
    assert mirror(cli, "export.txt").status == 0
    before = api.received()
    write(cli, GOOD[1:])
    os.utime(cli.folder / "export.txt", (1, 1))
    blocked = mirror(cli, "export.txt")
    assert blocked.status == 4
    assert "older: " in blocked.document["reason"]
    cli.configure(mirror=NO_WAIT, guards={"max_age_hours": 1.0})
    assert "age: " in mirror(cli, "export.txt").document["reason"]
    assert api.received() == before


def test_a_guard_is_lifted_so_far_and_the_ledger_keeps_by_whom(
    cli: CommandLine, api: Emulator
) -> None:
    cli.configure(mirror=NO_WAIT)
    write(cli, GOOD)
    assert mirror(cli, "export.txt").status == 0
    wanted = write(cli, GOOD[300:])
    assert mirror(cli, "export.txt", "--allow", "removals=299", "--reason", "x").status == 4
    assert mirror(cli, "export.txt", "--allow", "removals=300").status == 2
    lifted = mirror(cli, "export.txt", "--allow", "removals=300", "--reason", "spring clean")
    assert lifted.status == 0
    assert api.members() == wanted
    [(allowances,)] = cli.query(
        "SELECT allowances FROM plan JOIN run USING (run) WHERE name = ?", lifted.document["run"]
    )
    for kept in ("removals", "300", "spring clean", '"user"', '"host"'):
        assert kept in allowances


def test_a_plan_shows_what_a_mirror_would_do_and_apply_does_it(
    cli: CommandLine, api: Emulator
) -> None:
    cli.configure(mirror=NO_WAIT)
    wanted = write(cli, GOOD)
    planned = cli.run("plan", "export.txt", *TARGET, "--json")
    assert planned.status == 0
    assert api.received() == 0
    plan = planned.document["plan"]
    assert (plan["add"], plan["remove"], plan["held"]) == (2_000, 0, 0)
    assert set(plan["sample"]["add"]) < wanted
    assert {output["verdict"] for output in plan["guards"]} == {"passes"}
    name = planned.document["run"]
    canary = cli.run("apply", name, "--first", "100", "--json")
    assert (canary.status, canary.document["status"]) == (0, "canary")
    assert len(api.members()) == 100
    applied = cli.run("apply", name, "--json")
    assert applied.status == 0, applied.stderr
    assert api.members() == wanted
    assert api.received() == plan["requests"] + 1
    assert cli.run("apply", name, "--json").status == 2
    assert cli.run("apply", "no-such-plan", "--json").status == 2
    output = cli.run("plan", "export.txt", *TARGET)
    assert output.stdout == "Plan: nothing to change, 2,000 unchanged.\n"
    output = cli.run("plan", "export.txt", *TARGET, "-v")
    assert "2,000 unchanged + 0 to add" in output.words
    assert "guard     removals" in output.stdout


def test_a_mirror_is_not_resumed(cli: CommandLine, api: Emulator) -> None:
    api.received()
    write(cli, GOOD)
    cli.run("plan", "export.txt", *TARGET, "--json")
    [(name,)] = cli.query("SELECT name FROM run")
    refused = cli.run("resume", name, "--json")
    assert refused.status == 2
    assert "mirror" in refused.stderr
    assert cli.run("resume", "--json").document["status"] == "nothing_to_resume"


def test_two_flags_that_exclude_each_other_are_reported(cli: CommandLine) -> None:
    write(cli, GOOD)
    refused = mirror(cli, "export.txt", "--assume-empty", "--trust", "1")
    assert refused.status == 2
    assert "exclude" in refused.stderr
    assert mirror(cli, "export.txt", "--trust", "7").status == 2
    assert mirror(cli, "export.txt", "--allow", "removal=3", "--reason", "x").status == 2


def test_files_that_hold_uids_are_their_owners_alone(cli: CommandLine, api: Emulator) -> None:
    api.received()
    write(cli, GOOD)
    assert mirror(cli, "export.txt").status == 0
    files = [path for path in (cli.folder / "state").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".parquet", ".sqlite"}
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


@pytest.mark.parametrize("sent", [b"", b"a-uid\nanother\n" * 500])
def test_a_signal_ends_a_mirror_that_waits_for_a_pipe(
    cli: CommandLine, api: Emulator, sent: bytes
) -> None:
    running = cli.start("mirror", "-", *TARGET, "--format", "text", "--json", stdin=PIPE)
    pipe = running.process.stdin
    assert pipe is not None
    with pipe:
        pipe.write(sent)
        pipe.flush()
        if sent:
            until(lambda: "reading the export" in running.stderr, "it reads")
        else:
            until(lambda: is_waiting(running.process.pid), "it waits for the pipe")
        running.process.send_signal(signal.SIGTERM)
        ended = running.wait()
    assert ended.status == 75
    assert "SIGTERM received" in ended.document["reason"]
    assert api.received() == 0


def test_a_signal_ends_the_wait_for_earlier_changes(cli: CommandLine, api: Emulator) -> None:
    write(cli, GOOD)
    assert mirror(cli, "export.txt").status == 0
    write(cli, GOOD[10:])
    running = cli.start("mirror", "export.txt", *TARGET, "--json")
    until(lambda: "may apply earlier changes" in running.stderr, "it waits")
    running.process.send_signal(signal.SIGINT)
    ended = running.wait()
    assert ended.status == 75
    assert ended.document["remove"]["pending"] == 10
    cli.configure(mirror=NO_WAIT)
    assert mirror(cli, "export.txt").status == 0
    assert api.members() == set(GOOD[10:])
