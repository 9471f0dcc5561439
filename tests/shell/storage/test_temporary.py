"""Only what the program made, and nobody uses any more, is ever deleted; no link is followed."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from whole_push import Pushes, ScriptedServer

from engine.emulator import server
from engine.emulator.errors import EmulatorError
from engine.errors import ExitStatus, LedgerError, StateFullError, UsageError
from engine.storage.files import keep_copy, new_file, work_folder
from engine.storage.paths import TemporaryPurpose
from engine.storage.settings import PlanningSettings
from engine.storage.temporary import (
    MARK,
    MARK_TEXT,
    part_file,
    remove_abandoned_folders,
    remove_abandoned_parts,
    temporary_folder,
)

DEAD_PID = "4194304"
"""Linux gives no process this number."""


def folder_of(name: str, **files: bytes) -> Callable[[Path], None]:
    def make(parent: Path) -> None:
        (parent / name).mkdir()
        for file, content in files.items():
            (parent / name / file.replace("_", ".")).write_bytes(content)

    return make


def linked_folder(parent: Path) -> None:
    elsewhere = parent.with_name(f"{parent.name}-elsewhere")
    elsewhere.mkdir()
    (elsewhere / MARK).write_bytes(MARK_TEXT)
    (elsewhere / "theirs").write_bytes(b"x")
    (parent / "cohortsync-spill-planted0").symlink_to(elsewhere)


def linked_mark(parent: Path) -> None:
    folder = parent / "cohortsync-spill-planted1"
    folder.mkdir()
    (folder / "marked-elsewhere").write_bytes(MARK_TEXT)
    (folder / MARK).symlink_to(folder / "marked-elsewhere")


def linked_part(parent: Path) -> None:
    (parent / "a-target").write_bytes(b"x")
    (parent / ".cohortsync-planted2.part").symlink_to(parent / "a-target")


def file_of(name: str) -> Callable[[Path], None]:
    def make(parent: Path) -> None:
        (parent / name).write_bytes(b"x")

    return make


FOREIGN = {
    "a dated folder": folder_of("backup-20261123", ids_txt=b"x"),
    "a folder with a year": folder_of("warehouse-2024", ids_txt=b"x"),
    "a folder of an older version's name": folder_of(f"spill-{DEAD_PID}", ids_txt=b"x"),
    "another of those": folder_of(f"list-{DEAD_PID}", ids_txt=b"x"),
    "a folder with our prefix": folder_of("cohortsync-2024", ids_txt=b"x"),
    "an empty folder with our prefix": folder_of("cohortsync-spill-abcdefgh"),
    "a folder with another file of the mark's name": folder_of(
        "cohortsync-spill-a", owner_lock=b"theirs"
    ),
    "a link to a folder that bears the mark": linked_folder,
    "a folder whose mark is a link": linked_mark,
    "a link that is named like a part": linked_part,
    "a pipe that is named like a part": lambda parent: os.mkfifo(
        parent / ".cohortsync-pipe0000.part"
    ),
    "a file with our prefix": file_of("cohortsync-notes"),
    "a part": file_of("ids.part"),
    "a part of an export": file_of("export.parquet.part"),
    "a file of an older version's name": file_of("000002.parquet.changed"),
    "another file of those": file_of("candidate.parquet"),
    "a third": file_of("adopted.parquet"),
}


def tree(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Return all that is in a folder: its mode, and its content."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in sorted(folder.rglob("*")):
        content: bytes | str | None = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, content)
    return found


@contextmanager
def full_of_foreign_things(folder: Path) -> Iterator[None]:
    """Put all that is foreign into a folder, and see that nothing of it has changed."""
    folder.mkdir(exist_ok=True)
    for make in FOREIGN.values():
        make(folder)
    before = tree(folder)
    yield
    after = tree(folder)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_bears_no_mark_of_ours_is_never_deleted(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    parent = tmp_path / "shared"
    parent.mkdir()
    make(parent)
    before = tree(tmp_path)
    remove_abandoned_folders(parent)
    remove_abandoned_parts(parent)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("purpose", ["spill", "session"])
def test_what_a_killed_process_has_left_is_deleted(tmp_path: Path, purpose: str) -> None:
    script = f"""
import os, sys
from pathlib import Path
from engine.storage.temporary import part_file, temporary_folder
parent = Path(sys.argv[1])
with temporary_folder(parent, {purpose!r}) as folder, part_file(parent):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "uids").write_bytes(b"x")
    (folder / "link").symlink_to(parent)
    (folder / "file-link").symlink_to(parent / "theirs")
    os._exit(9)
"""
    (tmp_path / "theirs").write_bytes(b"x")
    subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert len(list(tmp_path.iterdir())) == 3
    remove_abandoned_folders(tmp_path)
    remove_abandoned_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_processes_with_the_same_id_share_a_folder(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(patch("os.getpid", lambda: 1))
        first = stack.enter_context(temporary_folder(tmp_path, TemporaryPurpose.LIST))
        (first / "uids").write_bytes(b"x")
        second = stack.enter_context(temporary_folder(tmp_path, TemporaryPurpose.LIST))
        descriptor, part = stack.enter_context(part_file(tmp_path))
        os.write(descriptor, b"x")
        assert first != second
        remove_abandoned_folders(tmp_path)
        remove_abandoned_parts(tmp_path)
        assert (first / "uids").read_bytes() == part.read_bytes() == b"x"
        assert second.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks_only_its_owner_deletes_a_folder(tmp_path: Path) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    with (
        patch.object(fcntl, "flock", unsupported),
        temporary_folder(tmp_path, TemporaryPurpose.LIST) as folder,
    ):
        (folder / "uids").write_bytes(b"x")
        remove_abandoned_folders(tmp_path)
        assert (folder / "uids").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_folder_of_another_user_is_left_alone(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(tmp_path, TemporaryPurpose.LIST))
        os.chown(folder, 12345, 12345)
        copied = tmp_path / "cohortsync-spill-theirs00"
        copied.mkdir()
        (copied / MARK).write_bytes(MARK_TEXT)
        os.chown(copied, 12345, 12345)
        remove_abandoned_folders(tmp_path)
        assert (copied / MARK).exists()
        os.chown(folder, 0, 0)


def test_a_folder_for_temporary_files_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with (
        pytest.raises(LedgerError, match="cannot be written"),
        work_folder(tmp_path / "file", TemporaryPurpose.LIST),
    ):
        pass
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        patch("engine.storage.temporary.mkdtemp", side_effect=full),
        pytest.raises(StateFullError),
        work_folder(tmp_path, TemporaryPurpose.LIST),
    ):
        pass


def test_a_folder_that_cannot_be_marked_does_not_stay(tmp_path: Path) -> None:
    too_many = OSError(errno.EMFILE, "Too many open files")
    with (
        patch("engine.storage.temporary._mark", side_effect=too_many),
        pytest.raises(OSError, match="Too many"),
        temporary_folder(tmp_path, TemporaryPurpose.LIST),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


# Files that are written to a name that a user, or somebody else, may have used.


def test_a_folder_is_deleted_although_a_thread_deletes_its_own_file_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def unlink_late(path: str | Path, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        if str(path) == "unfinished":
            raise FileNotFoundError(path)

    with temporary_folder(tmp_path, TemporaryPurpose.LIST) as folder:
        (folder / "unfinished").touch()
        (folder / "whole").touch()
        monkeypatch.setattr(os, "unlink", unlink_late)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_written_touches_nothing_beside_it(tmp_path: Path) -> None:
    target, theirs = tmp_path / "out.parquet", tmp_path / "theirs"
    theirs.write_bytes(b"x")
    (tmp_path / "out.parquet.part").symlink_to(theirs)
    (tmp_path / "out.part").write_bytes(b"y")
    with full_of_foreign_things(tmp_path):
        with new_file(target) as file:
            assert not target.exists()
            file.write(b"whole")
        assert target.read_bytes() == b"whole"
        assert target.stat().st_mode & 0o777 == 0o600
        assert (theirs.read_bytes(), (tmp_path / "out.part").read_bytes()) == (b"x", b"y")
        assert not list(tmp_path.glob(".cohortsync-????????.part.*"))


def make_file(path: Path) -> None:
    path.write_bytes(b"theirs")


def make_link(path: Path) -> None:
    path.with_name("theirs").write_bytes(b"theirs")
    path.symlink_to(path.with_name("theirs"))


TAKEN = {
    "a file": make_file,
    "a link": make_link,
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("links", ["has links", "has none"])
@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN.keys())
def test_a_name_that_is_taken_meanwhile_is_not_overwritten(
    tmp_path: Path, take: Callable[[Path], None], links: str
) -> None:
    target = tmp_path / "out.parquet"
    before: list[dict[str, tuple[int, bytes | str | None]]] = []

    def write() -> None:
        with new_file(target, replaces=False) as file:
            file.write(b"ours")
            take(target)
            [part] = tmp_path.glob(".*.part")
            before.append({name: at for name, at in tree(tmp_path).items() if name != part.name})

    no_links = patch("os.link", side_effect=OSError(errno.EPERM, "Operation not permitted"))
    with ExitStack() as stack:
        if links == "has none":
            stack.enter_context(no_links)
        with pytest.raises(UsageError, match="exists already"):
            write()
        assert [tree(tmp_path)] == before
        (tmp_path / "free").mkdir()
        with new_file(tmp_path / "free" / "out", replaces=False) as file:
            file.write(b"ours")
        assert tree(tmp_path / "free").keys() == {"out"}


def test_a_file_is_written_under_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 255)
    with new_file(target, replaces=False) as file:
        file.write(b"x")
    assert target.read_bytes() == b"x"


def test_a_copy_that_is_kept_overwrites_nothing(tmp_path: Path) -> None:
    source = tmp_path / "ledger.sqlite"
    (tmp_path / "ledger.sqlite.v1.bak").write_bytes(b"an earlier one")
    (tmp_path / "ledger.sqlite.v1.bak.1").symlink_to(tmp_path / "nowhere")
    (tmp_path / "ledger.sqlite.v1.bak.2").mkdir()
    source.write_bytes(b"of today")
    before = tree(tmp_path)
    for _ in range(2):  # Tried again, it is not kept twice.
        keep_copy(source, tmp_path / "ledger.sqlite.v1.bak")
        after = tree(tmp_path)
        mode, content = after.pop("ledger.sqlite.v1.bak.3")
        assert (mode & 0o777, content) == (0o600, b"of today")
        assert after == before


NOT_A_PORT = {
    "notes": lambda path: path.write_text("notes"),
    "a link": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("take", NOT_A_PORT.values(), ids=NOT_A_PORT.keys())
def test_a_port_file_replaces_only_one_of_an_emulator(
    tmp_path: Path, take: Callable[[Path], None]
) -> None:
    port_file = tmp_path / "port"
    take(port_file)
    before = tree(tmp_path)
    with pytest.raises(EmulatorError, match="holds no port"), server._port_in(port_file, 7):
        pass
    assert tree(tmp_path) == before


@pytest.mark.parametrize("left", [b"", b"80\n"])
def test_a_port_file_is_deleted_only_by_the_emulator_that_wrote_it(
    tmp_path: Path, left: bytes
) -> None:
    port_file = tmp_path / "port"
    port_file.write_bytes(left)
    with server._port_in(port_file, 8001):
        assert tree(tmp_path).keys() == {"port"}
        with server._port_in(port_file, 8002):
            assert port_file.read_text() == "8002\n"
        assert not port_file.exists()
        port_file.write_text("8003\n")
    assert port_file.read_text() == "8003\n"


# Whole commands.


def test_commands_leave_alone_what_is_not_theirs(tmp_path: Path) -> None:
    shared = tmp_path / "scratch"
    planning = PlanningSettings(memory_megabytes=64, threads=1, spill_dir=str(shared))
    commands = Pushes(tmp_path, ScriptedServer(), planning=planning)
    with full_of_foreign_things(shared):
        assert commands.mirror(["a", "b"]).exit_status is ExitStatus.ACCEPTED
        [snapshots] = (commands.ledger.parent / "snapshots").glob("*/*")
        [plan] = (commands.ledger.parent / "plans").glob("*")
        plan.joinpath("theirs.part").write_bytes(b"x")
        with full_of_foreign_things(snapshots):
            assert commands.mirror(["b", "c"]).exit_status is ExitStatus.ACCEPTED
            assert commands.mirror(["d"], assume_empty=True).exit_status is ExitStatus.ACCEPTED
            assert commands.mirror(["d"], trust=1, sends=False).exit_status is ExitStatus.ACCEPTED
            ours = {path.name for path in snapshots.glob("0*.parquet")}
        assert ours == {path.name for path in snapshots.iterdir() if path.name[0] == "0"} - {
            "000002.parquet.changed"
        }
        assert not list(snapshots.glob("cohortsync-[fslpi]*-????????/*.parquet"))
        assert plan.joinpath("theirs.part").exists()
