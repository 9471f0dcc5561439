"""A ledger of an older version: whoever looks at it gets the right answer and changes nothing."""

import sqlite3
from contextlib import closing

import pytest
from clean_room import until
from emulated_api import Emulator
from nightly import CommandLine
from past_runs import contents, downgrade, live, looks, target

from engine.ledger.locks import sole_writer_at_once
from engine.ledger.sqlite.migrations import MIGRATIONS
from engine.ledger.sqlite.schema import open_for_reading, open_ledger

VERSION_0_1 = 3
"""The version of a ledger of cohortsync 0.1."""


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_every_look_at_an_older_ledger_is_right_and_changes_nothing(
    cli: CommandLine, version: int
) -> None:
    # Version 1 knows of no mirror.
    run = live(cli, with_mirror=version > 1)
    commands = looks(run)
    [path] = cli.ledger_files()
    with closing(sqlite3.connect(path)) as ledger, ledger:
        ledger.execute("DELETE FROM file")  # Older versions do not know which files a run read.
    output = {name: cli.run(*command).output for name, command in commands.items()}
    assert {output[name][0] for name in ("runs", "show", "rejects", "resume")} == {0}
    downgrade(path, version)
    before = contents(cli.folder / "state")
    for name, command in commands.items():
        assert cli.run(*command).output == output[name], name
        assert contents(cli.folder / "state") == before, name
    checked = cli.run("check", "--json")
    assert checked.status == 0
    assert "written by an older version" in checked.stdout
    assert contents(cli.folder / "state") == before


def test_the_next_run_migrates_it_and_keeps_a_copy(cli: CommandLine) -> None:
    live(cli)
    [path] = cli.ledger_files()
    downgrade(path, 2)
    assert cli.run("runs").status == 0
    assert not path.with_name("ledger.sqlite.v2.bak").exists()
    listed = cli.run("runs", "--json").stdout
    assert cli.push("first.txt").status in {
        0,
        2,
    }  # The cohort is mirrored: it is opened, at least.
    assert path.with_name("ledger.sqlite.v2.bak").exists()
    assert cli.run("runs", "--json").stdout == listed


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_each_table_of_an_older_ledger_is_read_as_it_will_be_once_migrated(
    cli: CommandLine, version: int
) -> None:
    live(cli, with_mirror=version > 1)
    [path] = cli.ledger_files()
    downgrade(path, version)
    with closing(open_for_reading(path)) as connection:
        connection.row_factory = sqlite3.Row
        shown = _tables(connection)
    with closing(open_ledger(path)) as connection:
        connection.row_factory = sqlite3.Row
        assert shown == _tables(connection)


def _tables(connection: sqlite3.Connection) -> dict[str, list[list[tuple[str, object]]]]:
    names = [
        name
        for (name,) in sqlite3.connect(":memory:")
        .executescript("".join(MIGRATIONS))
        .execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    ]
    return {
        name: sorted(
            sorted(zip(row.keys(), map(repr, row), strict=True))
            for row in connection.execute(f"SELECT * FROM {name}")
        )
        for name in names
    }


def test_a_run_that_version_0_1_left_unfinished_goes_on(cli: CommandLine, api: Emulator) -> None:
    cli.configure(limits={"requests": 2, "per_seconds": 2.0})
    wanted = cli.write("export.txt", 2_000)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 2, "it sends")
    running.kill()
    [path] = cli.ledger_files()
    downgrade(path, VERSION_0_1)
    assert '"the process died"' in cli.run("runs", "--json").stdout
    cli.configure()
    with sole_writer_at_once(path.parent) as is_held:  # As a process of that version would.
        assert is_held
        refused = cli.spawn("plan", "export.txt", *target("other"), "--json")
        assert refused.status == 75
        assert not path.with_name(f"ledger.sqlite.v{VERSION_0_1}.bak").exists()
        assert '"status": "running"' in cli.run("runs", "--json").stdout
    ended = cli.push("export.txt")
    assert ended.status == 0, ended.stderr
    assert ended.document["uids"]["accepted"] == len(wanted)
    assert api.members() == wanted
    assert path.with_name(f"ledger.sqlite.v{VERSION_0_1}.bak").exists()
    assert len(cli.query("SELECT * FROM run")) == 1
