"""Each file and each column of the ledger that holds a uid is listed."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import PIPE

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from emulated_api import Emulator
from nightly import TARGET, CommandLine
from past_runs import downgrade, target

from engine.ledger.sqlite.migrations import UID_COLUMNS
from engine.storage.paths import UidContent, UidLocation, uid_locations

COLOR = re.compile(r"\x1b\[[0-9]+m")
MARKER = b"zq7xw9kv3lp8"
"""A part of every uid here; nothing else in a state folder looks like it."""


def uids(start: int, end: int) -> list[str]:
    return [f"{MARKER.decode()}-{number:06}" for number in range(start, end)]


def write(cli: CommandLine, name: str, found: list[str]) -> str:
    (cli.folder / name).write_text("\n".join(found) + "\n")
    return name


def succeed(cli: CommandLine, *command: str) -> None:
    ended = cli.run(*command)
    assert ended.status == 0, ended.stderr


@pytest.fixture
def used(tmp_path: Path, emulate: Callable[..., Emulator]) -> CommandLine:
    """Make a state folder in which everything has happened that leaves uids behind."""
    poison = f"{MARKER.decode()}-poison"
    cli = CommandLine(tmp_path, emulate("--poison", poison).url)
    cli.configure(
        mirror={"settle_seconds": 0.0, "resend_over_nights": 2},
        guards={"max_removals": 1.0, "max_additions": 1.0},
        limits={"requests": 10_000},
        **{
            "connections.here": {"url": "sqlite:asked.db"},
            "cohorts.asked": {"name": "Asked", "mode": "add"},
            "cohorts.asked.source": {"connection": "here", "query": "select uid from audience"},
        },
    )
    (cli.folder / "push.csv").write_text(f"id,x\n{uids(0, 1)[0]},1\n,1\n{poison},1\nbad,1,1\n")
    pushed = cli.run("push", "push.csv", "--column", "id", *target("pushed"))
    assert pushed.status == 1, pushed.stderr
    succeed(cli, "mirror", write(cli, "first.txt", uids(0, 40)), *TARGET)
    [path] = cli.ledger_files()
    downgrade(path, 2)  # The next run migrates it, and keeps a copy.
    succeed(cli, "push", write(cli, "more.txt", uids(40, 50)), "--record", *TARGET)
    succeed(cli, "mirror", write(cli, "second.txt", uids(20, 60)), *TARGET)
    succeed(cli, "rollback", "--to", "1", *TARGET[:2])
    succeed(cli, "mirror", "second.txt", *TARGET, "--shadow")
    succeed(cli, "plan", "second.txt", *TARGET)
    with closing(sqlite3.connect(cli.folder / "asked.db")) as database, database:
        database.execute("create table audience (uid)")
        database.executemany("insert into audience values (?)", [(uid,) for uid in uids(0, 500)])
    assert cli.run("sync", "--max-requests", "1").status == 75  # It keeps the query's result.
    return cli


def interrupt_a_plan(cli: CommandLine) -> None:
    """Kill a plan that has read most of its export; what it keeps of that has no name."""
    running = cli.start("plan", "-", "--format", "text", *TARGET, stdin=PIPE)
    assert running.process.stdin is not None
    running.process.stdin.write("".join(f"{uid}\n" for uid in uids(0, 300_000)).encode())
    running.process.stdin.flush()
    running.kill()
    running.process.stdin.close()


def holds_marker(path: Path) -> bool:
    """Say whether a file holds the marker, as bytes or compressed."""
    content = path.read_bytes()
    if MARKER in content or MARKER.hex().encode() in content:
        return True
    if not content.startswith(b"PAR1"):
        return False
    texts = [
        column.cast(pa.binary())
        for column in pq.read_table(path).columns
        if column.type in {pa.string(), pa.binary()}
    ]
    return any(pc.any(pc.match_substring(each, MARKER.decode())).as_py() for each in texts)


def test_every_file_and_column_that_holds_a_uid_is_listed(used: CommandLine) -> None:
    interrupt_a_plan(used)
    [path] = used.ledger_files()
    (path.parent / ".cohortsync-abcdefgh.part").write_bytes(MARKER)
    listed = uid_locations(path.parent)
    holding = {
        each for each in (used.folder / "state").rglob("*") if each.is_file() and holds_marker(each)
    }
    assert holding <= {location.path for location in listed}
    found = {location.content for location in listed if location.path in holding}
    assert found == set(UidContent) - {UidContent.RESCUED}
    assert all(location.bytes == location.path.stat().st_size for location in listed)
    assert columns_with_marker(path) == UID_COLUMNS


def test_check_shows_the_list_within_80_columns(used: CommandLine) -> None:
    [path] = used.ledger_files()
    shown = COLOR.sub("", used.run("check", on_terminal=True).stdout)
    assert max(map(len, shown.splitlines())) <= 80
    [finding] = [
        each for each in used.run("check", "--json").document["findings"] if each["name"] == "uids"
    ]
    lines = finding["detail"].splitlines()
    assert lines[0] == f"{path.parent}:"
    kinds = {line.split(":")[0].strip() for line in lines[1:] if line.startswith("  ")}
    assert kinds == set(UidContent) - {UidContent.RESCUED, UidContent.TEMPORARY}
    assert "rejected.uid" in finding["detail"]
    assert MARKER.decode() not in finding["detail"]


def columns_with_marker(ledger: Path) -> set[tuple[str, str]]:
    """Return each table and column of a ledger that holds the marker, in plain or in hex."""
    found = set()
    with closing(sqlite3.connect(ledger)) as connection:
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        for (table,) in connection.execute(tables).fetchall():
            for column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
                values = connection.execute(f"SELECT {column} FROM {table}").fetchall()
                text = " ".join(str(value) for (value,) in values)
                if MARKER.decode() in text or MARKER.hex() in text:
                    found.add((table, column))
    return found


def test_a_rescued_ledger_and_what_is_elsewhere_are_listed(tmp_path: Path) -> None:
    spill, other = tmp_path / "spill" / "cohortsync-spill-abcdefgh", tmp_path / "cohortsync-1000"
    spill.mkdir(parents=True)
    other.mkdir()
    (spill / "rows-0.tmp").write_bytes(b"uids")
    (other / "theirs").write_bytes(b"x")
    rescued = tmp_path / "ledger.sqlite.put-back-7"
    rescued.write_bytes(b"uid")
    (tmp_path / "lock").write_bytes(b"{}")
    (tmp_path / "plans").symlink_to(tmp_path / "nowhere")
    assert uid_locations(tmp_path, [tmp_path / "spill"]) == [
        UidLocation(rescued, UidContent.RESCUED, 3),
        UidLocation(spill / "rows-0.tmp", UidContent.TEMPORARY, 4),
    ]
