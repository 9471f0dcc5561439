"""State that cannot be read, or is not there: every command says so, and none looks healthy."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulated_api import COHORT, Emulator
from nightly import CommandLine, Ended
from past_runs import (
    LIFT,
    another_user,
    assert_refused,
    contents,
    live,
    looks,
    open_folder,
    target,
    works,
)

from engine.errors import IncompleteError
from engine.ledger.sqlite.schema import open_for_reading


class Past:
    """A folder in which something was pushed and mirrored, and what each command says of it."""

    def __init__(self, cli: CommandLine) -> None:
        self.cli = cli
        run = live(cli)
        plan = cli.run("plan", "first.txt", *target(COHORT), *LIFT, "--json").document["run"]
        self.looks = looks(run)
        self.works = works(plan)
        self.said = {name: cli.run(*command).output for name, command in self.looks.items()}

    @property
    def ledger(self) -> Path:
        [path] = self.cli.ledger_files()
        return path


@pytest.fixture(scope="module")
def built(shared_emulator: Emulator) -> Iterator[Past]:
    shared_emulator.reset()
    with open_folder() as parent:
        folder = parent / "state"
        folder.mkdir()
        yield Past(CommandLine(folder, shared_emulator.url))


@pytest.fixture
def past(built: Past) -> Iterator[Past]:
    """Put everything back when the test is over."""
    folder = built.cli.folder
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    yield built
    shutil.rmtree(folder)
    kept.rename(folder)


PARTS = {
    "the state folder": ".",
    "the endpoint's folder": "*",
    "the workspace's folder": "*/*",
    "the ledger": "*/*/ledger.sqlite",
    "its log": "*/*/ledger.sqlite-wal",
    "the log's index": "*/*/ledger.sqlite-shm",
}
NEEDED_BY_SOME = {
    "the lock": "*/*/lock",
    "the folder of snapshots": "*/*/snapshots",
    "a cohort's snapshots": "*/*/snapshots/*/*",
    "a snapshot": "*/*/snapshots/*/*/000002.parquet",
    "the folder of plans": "*/*/plans",
    "a plan": "*/*/plans/*",
    "a plan's uids": "*/*/plans/*/*.parquet",
}


def hide(state: Path, pattern: str) -> None:
    found = [state] if pattern == "." else sorted(state.glob(pattern))
    assert found, pattern
    for path in found:
        path.chmod(0)


@pytest.mark.parametrize("part", PARTS)
def test_no_command_looks_healthy_over_a_part_of_the_ledger_that_it_may_not_read(
    past: Past, part: str
) -> None:
    hide(past.cli.folder / "state", PARTS[part])
    with another_user():
        for name, command in {**past.looks, "check": ("check", "--json")}.items():
            ended = past.cli.run(*command)
            if name == "check":
                assert ended.status == 2, ended.stdout
            else:
                assert_refused(ended, name)


@pytest.mark.parametrize("part", NEEDED_BY_SOME)
def test_a_look_is_right_or_refused_where_a_file_beside_the_ledger_may_not_be_read(
    past: Past, part: str
) -> None:
    hide(past.cli.folder / "state", NEEDED_BY_SOME[part])
    refused = []
    with another_user():
        for name, command in past.looks.items():
            ended = past.cli.run(*command)
            if ended.output != past.said[name]:
                if name == "snapshot verify":  # It lists what is wrong with each.
                    assert ended.status == 2
                    assert "cannot be" in ended.stdout
                else:
                    assert_refused(ended, name)
                refused.append(name)
    assert (part == "the lock") or refused


@pytest.mark.parametrize("part", ["the state folder", "the workspace's folder", "the ledger"])
def test_nothing_is_sent_from_a_state_that_may_not_be_read(
    past: Past, shared_emulator: Emulator, part: str
) -> None:
    before = shared_emulator.received()
    hide(past.cli.folder / "state", PARTS[part])
    with another_user():
        for name, command in past.works.items():
            assert_refused(past.cli.run(*command), name)
    assert shared_emulator.received() == before


def make_read_only(state: Path) -> None:
    for path in (state, *state.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_a_state_that_may_be_read_but_not_written_can_be_looked_at(past: Past) -> None:
    state = past.cli.folder / "state"
    make_read_only(state)
    (state / "lost+found").mkdir(mode=0)  # As where the folder is a disk's own.
    for with_index in (True, False):
        if not with_index:  # As in a copy on a disc.
            for suffix in ("-wal", "-shm"):
                past.ledger.with_name(f"{past.ledger.name}{suffix}").unlink()
        before = contents(state)
        with another_user():
            for name, command in past.looks.items():
                assert past.cli.run(*command).output == past.said[name], name
            for name, command in past.works.items():
                assert_refused(past.cli.run(*command), name)
        assert contents(state) == before


def test_a_copy_with_changes_beside_it_is_read_or_refused(past: Past) -> None:
    """A log that was copied without its index can only be read where an index can be made."""
    log = past.ledger.with_name("ledger.sqlite-wal")
    log.write_bytes(b"\0" * 4096)
    past.ledger.with_name("ledger.sqlite-shm").unlink()
    make_read_only(past.cli.folder / "state")
    with another_user():
        for name, command in past.looks.items():
            assert_refused(past.cli.run(*command), name)


@pytest.mark.parametrize("change", ["the file", "a log beside it"])
def test_a_copy_that_is_written_to_while_it_is_read_is_reported(past: Past, change: str) -> None:
    """Another user may write where this one may not."""
    ledger, log = past.ledger, past.ledger.with_name("ledger.sqlite-wal")
    for path in (log, ledger.with_name("ledger.sqlite-shm")):
        path.unlink()
    make_read_only(past.cli.folder / "state")
    with another_user():
        connection = open_for_reading(ledger)
    if change == "the file":
        os.utime(ledger)
    else:
        log.write_bytes(b"something")
    with pytest.raises(IncompleteError, match="was written to while it was read") as caught:
        connection.close()
    assert caught.value.hint


def test_a_ledger_in_use_in_a_folder_that_may_not_be_written_is_not_read(past: Past) -> None:
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        past.ledger.with_name(name).unlink()
    make_read_only(past.cli.folder / "state")
    with past.ledger.with_name("lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with another_user():
            ended = past.cli.run("runs")
    assert_refused(ended, "runs")
    assert "in use by" in ended.stderr


# What is not there.


def lose_all(state: Path) -> None:
    shutil.rmtree(state)


def put_a_file_in_its_place(state: Path) -> None:
    shutil.rmtree(state)
    state.write_text("in the way")


def lose_the_ledger(state: Path) -> None:
    for path in state.glob("*/*/ledger.sqlite*"):
        path.unlink()


def empty_the_ledger(state: Path) -> None:
    [path] = state.glob("*/*/ledger.sqlite")
    path.write_bytes(b"")


def empty_the_ledger_of_pushes(state: Path) -> None:
    """Leave nothing beside it that shows earlier runs."""
    empty_the_ledger(state)
    [folder] = state.glob("*/*")
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "ledger.sqlite":
            path.unlink()


LOSSES = [
    *(lose_all, put_a_file_in_its_place, lose_the_ledger),
    *(empty_the_ledger, empty_the_ledger_of_pushes),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_no_look_is_healthy_where_the_ledger_was_lost(
    past: Past, loss: Callable[[Path], None]
) -> None:
    loss(past.cli.folder / "state")
    for name, command in past.looks.items():
        assert_refused(past.cli.run(*command), name)


def test_nothing_is_sent_with_a_ledger_that_was_emptied(
    past: Past, shared_emulator: Emulator
) -> None:
    before = shared_emulator.received()
    empty_the_ledger(past.cli.folder / "state")
    for name, command in past.works.items():
        assert_refused(past.cli.run(*command), name)
    assert past.cli.run("check", "--json").status == 2
    assert shared_emulator.received() == before
    assert past.ledger.stat().st_size == 0


@pytest.mark.parametrize("where", [("--state", "elsewhere"), ("--config", "other/config.toml")])
def test_a_state_folder_elsewhere_is_not_taken_for_one_without_runs(
    past: Past, where: tuple[str, str]
) -> None:
    folder = past.cli.folder
    (folder / "other").mkdir()
    shutil.copy(folder / "config.toml", folder / "other")
    for name, command in past.looks.items():
        assert_refused(past.cli.run(*command, *where), name)
    assert not (folder / "elsewhere").exists()
    assert not (folder / "other" / "state").exists()


def test_a_workspace_in_which_nothing_was_sent_has_nothing_to_resume(cli: CommandLine) -> None:
    (cli.folder / "state").mkdir()
    ended: Ended = cli.run("resume", "--json")
    assert (ended.status, ended.document["status"]) == (0, "nothing_to_resume")
    assert cli.run("runs", "--json").stdout == "[]\n"


def test_a_ledger_made_in_the_place_of_a_lost_one_looks_healthy_to_nobody(cli: CommandLine) -> None:
    (cli.folder / "ids.txt").write_text("a1\na2\n")
    mirrored = ("--cohort-id", "m", "--cohort-name", "M")
    assert cli.run("mirror", "ids.txt", *mirrored).status == 0
    [ledger] = cli.ledger_files()
    for file in ledger.parent.glob(f"{ledger.name}*"):
        file.unlink()
    other = ("--cohort-id", "other", "--cohort-name", "Other")
    for command in (
        ("mirror", "ids.txt", *mirrored),
        ("mirror", "ids.txt", *other),
        ("push", "ids.txt", *other),
        ("push", "ids.txt", *other, "--dry-run"),
        *(("resume", "--json"), ("runs",), ("check",), ("snapshot", "list", "--cohort-id", "m")),
        ("why", "a1", "--cohort-id", "m"),
    ):
        ended = cli.run(*command)
        assert (ended.status, "lost" in ended.stdout + ended.stderr) == (2, True), command
    assert cli.run("mirror", "ids.txt", *mirrored, "--assume-empty").status == 0
    assert cli.run("push", "ids.txt", *other).status == 0
