"""A folder that gathers dated exports: what each command says of its files, and what it does."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine, Ended

COHORT_ID = ("--cohort-id", COHORT)
FILES = "2 files, 25 Nov 02:10 to 26 Nov 02:11 UTC, "


def write(cli: CommandLine, day: int, uids: int, minute: int = 10) -> Path:
    """Write the export of one day in November, cut off after so many uids."""
    path = cli.folder / "exports" / f"2026-11-{day}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("user_id\n" + "".join(f"{number}\n" for number in range(uids)))
    written = datetime(2026, 11, day, 2, minute, tzinfo=UTC).timestamp()
    os.utime(path, (written, written))
    return path


def configure(cli: CommandLine, **guards: float) -> None:
    cli.configure(mirror={"settle_seconds": 0.0}, guards=guards)


@pytest.fixture(autouse=True)
def gathered(cli: CommandLine) -> None:
    """Mirror one day's export, and let the next day's, which was cut off, lie beside it."""
    configure(cli)
    write(cli, 25, 300)
    assert run(cli, "mirror").status == 0
    write(cli, 26, 40, minute=11)


def run(cli: CommandLine, command: str, *arguments: str, exports: str = "exports/") -> Ended:
    return cli.run(*command.split(), exports, *TARGET, "--json", *arguments)


@pytest.mark.parametrize("command", ["mirror", "plan", "mirror --shadow"])
def test_a_mirror_of_gathered_exports_is_stopped(
    cli: CommandLine, api: Emulator, command: str
) -> None:
    before = api.received()
    ended = run(cli, command)
    assert ended.status == 4
    assert ended.document["reason"].startswith("spread: 2 files, written 24.0 h apart, and 12 h")
    for name in ("exports/2026-11-25.csv", "exports/2026-11-26.csv"):
        assert name in ended.document["reason"]
    assert "name only what was written last: exports/2026-11-26.csv" in ended.stderr
    assert f"reading the export: {FILES}" in ended.stderr
    assert_listed(ended.document)
    assert api.received() == before


def assert_listed(document: dict[str, object]) -> None:
    files, total = document["files"], document["files_total"]
    assert isinstance(files, list)
    assert isinstance(total, dict)
    assert [(file["name"], file["uids"]) for file in files] == [
        ("exports/2026-11-25.csv", 300),
        ("exports/2026-11-26.csv", 40),
    ]
    assert files[1]["written_at"] == total["last_written_at"] == "2026-11-26T02:11:00.000+00:00"
    assert (total["count"], total["bytes"]) == (2, sum(file["bytes"] for file in files))


def test_an_empty_file_counts_among_those_that_are_read(cli: CommandLine) -> None:
    path = write(cli, 26, 0)
    path.write_text("")
    os.utime(path, (datetime(2026, 11, 26, tzinfo=UTC).timestamp(),) * 2)
    ended = run(cli, "mirror")
    assert ended.status == 4
    assert ended.document["files"][1]["uids"] == 0


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_push_of_gathered_exports_is_reported(
    cli: CommandLine, arguments: tuple[str, ...]
) -> None:
    command = ("push", "exports/", "--cohort-id", "pushed", "--cohort-name", "P", "--json")
    ended = cli.run(*command, *arguments)
    assert ended.status == 0
    assert f"reading the export: {FILES}" in ended.stderr
    assert "warning: 2 files, written 24.0 h apart" in ended.stderr
    assert_listed(ended.document)
    if not arguments:
        shown = json.loads(cli.run("show", ended.document["run"], "--json").stdout)
        assert_listed(shown)
        output = cli.run("show", ended.document["run"]).stdout
        assert f"files     {FILES}" in output
        assert "2026-11-26 02:11:00" in output


def test_what_was_written_together_is_mirrored_and_lifted_for_one_run(cli: CommandLine) -> None:
    lifted = run(cli, "mirror", "--allow", "spread", "--reason", "two halves")
    assert lifted.status == 0
    assert run(cli, "mirror").status == 4
    configure(cli, max_spread_hours=25)
    assert run(cli, "mirror").status == 0
    configure(cli, max_removals=300)
    assert run(cli, "mirror", exports="exports/2026-11-26*.csv").status == 0


@pytest.mark.parametrize("command", ["compare", "adopt", "reconcile"])
def test_a_command_that_reads_a_list_says_which_files(cli: CommandLine, command: str) -> None:
    allowed = ("--allow", "spread", "--reason", "tried") if command == "reconcile" else ()
    found = cli.run("snapshot", command, "exports/", *COHORT_ID, "--json", *allowed)
    assert found.status == 0, found.stderr
    document = json.loads(found.stdout)
    assert_listed(document[0] if isinstance(document, list) else document)
    if command == "reconcile":
        refused = cli.run("snapshot", command, "exports/", *COHORT_ID)
        assert refused.status == 4
        assert "spread: 2 files" in refused.stderr


def test_a_pipe_is_reported_or_stopped_by_a_guard_that_is_configured(cli: CommandLine) -> None:
    command = ("mirror", "-", "--format", "text", *TARGET, "--json")
    uids = "".join(f"{number}\n" for number in range(300)).encode()
    output = cli.spawn(*command, stdin=uids)
    assert output.status == 0
    assert "`older` was not checked: the time of writing of the export is unknown" in output.stderr
    assert "1 file, time of writing unknown, size unknown" in output.stderr
    assert any("`older` was not checked" in note for note in output.document["notes"])
    configure(cli, max_age_hours=24)
    stopped = cli.spawn(*command, stdin=uids)
    assert stopped.status == 4
    assert "the time of writing of stdin is unknown" in stopped.document["reason"]
    assert "--allow age" in stopped.stderr


def test_a_resumed_run_lists_its_files_with_all_their_uids(cli: CommandLine, api: Emulator) -> None:
    target = ("--cohort-id", "resumed", "--cohort-name", "R", "--json")
    cli.variables["MOENGAGE_API_KEY"] = "wrong-key"
    assert cli.run("push", "exports/", *target).status == 3
    del cli.variables["MOENGAGE_API_KEY"]
    ended = cli.run("resume", "--json")
    assert ended.status == 0
    assert_listed(ended.document)
    assert len(api.members("resumed")) == 300


def test_a_rollback_reads_no_files_and_no_time_of_theirs_judges_it(cli: CommandLine) -> None:
    configure(cli, max_age_hours=24, max_spread_hours=1, max_removals=300)
    ended = cli.run("rollback", *COHORT_ID, "--to", "1", "--json")
    assert ended.status == 0, ended.stderr
    assert (ended.document["files"], ended.document["files_total"]["count"]) == ([], 0)
