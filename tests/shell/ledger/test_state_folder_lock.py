"""Where a ledger may live, and the lock that keeps everyone else out."""

import asyncio
import errno
import fcntl
import math
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import (
    CohortSyncError,
    IncompleteError,
    LedgerError,
    LockHeldError,
    StateFullError,
)
from engine.ledger import state_folder
from engine.ledger.locks import (
    LOCK_NAME,
    Patience,
    holder_of,
    is_held,
    sole_writer,
)
from engine.ledger.sqlite.access import ledgers
from engine.ledger.state_folder import (
    file_system,
    make_folder,
    refuse_network_file_system,
)
from engine.storage.paths import LEDGER_NAME, ledger_folder

MOUNTS = """\
21 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
22 21 0:20 / /proc rw,nosuid - proc proc rw
30 21 0:40 / /mnt/nfs rw shared:5 master:2 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / /mnt/nfs/local rw - xfs /dev/vdb rw
32 21 0:42 / /mnt/with\\040space\\134and\\011tab rw - cifs //server/share rw
33 21 0:43 / /mnt/übung rw - fuse.sshfs me@host:/ rw
34 21 0:44 / /mnt/over rw - nfs server:/a rw
35 21 0:45 / /mnt/over rw - tmpfs tmpfs rw
36 21 0:46 / /mnt/broken\udcff rw - nfs server:/b rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/cohortsync", "ext4"),
        ("/mnt", "ext4"),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/state/deep", "nfs4"),
        ("/mnt/nfs2/state", "ext4"),
        ("/mnt/nfs/local", "xfs"),
        ("/mnt/nfs/local/state", "xfs"),
        ("/mnt/nfs/local/../state", "nfs4"),
        ("/mnt/with space\\and\ttab/state", "cifs"),
        ("/mnt/übung/state", "fuse.sshfs"),
        ("/mnt/over/state", "tmpfs"),
        ("/mnt/broken\udcff/state", "nfs"),
    ],
)
def test_the_file_system_is_the_one_mounted_nearest(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


def test_without_a_table_the_file_system_is_unknown(tmp_path: Path) -> None:
    assert file_system(tmp_path, "") is None


def test_a_link_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/mnt/nfs/state")
    assert file_system(link / "deeper", MOUNTS) == "nfs4"


def test_this_machines_table_can_be_read(tmp_path: Path) -> None:
    assert file_system(tmp_path, state_folder._mounts())


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"])
def test_a_network_file_system_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = f"1 0 0:1 / / rw - ext4 /dev/vda1 rw\n2 1 0:2 / {tmp_path} rw - {kind} there rw\n"
    monkeypatch.setattr(state_folder, "_mounts", lambda: mounts)
    state = tmp_path / "state"
    for check in (refuse_network_file_system, make_folder):
        with pytest.raises(LedgerError, match="network file system") as caught:
            check(state)
        assert f"({kind})" in caught.value.message
        assert caught.value.hint
    assert not state.exists()


def test_a_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "endpoint" / "workspace"
    mask = os.umask(0)
    try:
        make_folder(folder)
        make_folder(folder)  # there already
    finally:
        os.umask(mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(LedgerError, match="cannot be written") as caught:
            make_folder(folder)
        assert caught.value.hint


FAILURES = pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EROFS, LedgerError),
        (errno.EACCES, LedgerError),
        (errno.ENOSPC, StateFullError),
        (errno.EDQUOT, StateFullError),
    ],
)


@FAILURES
def test_a_folder_that_takes_no_file_is_refused(
    tmp_path: Path, number: int, kind: type[CohortSyncError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(kind) as caught:
        make_folder(tmp_path / "state")
    assert str(tmp_path) in caught.value.message


def test_each_endpoint_and_workspace_has_a_folder_of_its_own(tmp_path: Path) -> None:
    targets = [
        (endpoint, workspace)
        for endpoint in ("https://api-01.moengage.com", "http://127.0.0.1:8765", "http://[::1]:80")
        for workspace in ("A", "B", "A/B", "a b")
    ]
    folders = [ledger_folder(tmp_path, *target) for target in targets]
    assert len(set(folders)) == len(targets)
    for folder in folders:
        assert folder.parent.parent == tmp_path
        make_folder(folder)
        (folder / LEDGER_NAME).touch()
    assert ledgers(tmp_path) == sorted(folder / LEDGER_NAME for folder in folders)


# The lock.

HOLDER = """
import asyncio, sys
from pathlib import Path
from engine.ledger.locks import sole_writer

async def hold():
    async with sole_writer(Path(sys.argv[1])):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


async def test_a_second_holder_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        assert is_held(tmp_path)
        with pytest.raises(LockHeldError, match=f"process {process.pid} on ") as caught:
            async with sole_writer(tmp_path):
                pytest.fail("two hold the lock")
        assert "--wait" in (caught.value.hint or "")


async def test_the_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        waiting = asyncio.create_task(hold_once(tmp_path, wait_seconds=60))
        await asyncio.sleep(0)
        process.send_signal(signal.SIGKILL)
        await waiting
    assert not is_held(tmp_path)


async def hold_once(folder: Path, wait_seconds: float = 0) -> None:
    async with sole_writer(folder, Patience(wait_seconds)):
        assert is_held(folder)


async def test_the_lock_is_free_when_its_holder_is_done_or_failed(tmp_path: Path) -> None:
    await hold_once(tmp_path)
    with pytest.raises(RuntimeError):
        async with sole_writer(tmp_path):
            raise RuntimeError
    assert not is_held(tmp_path)
    await hold_once(tmp_path)


async def test_a_wait_ends_when_it_is_stopped(tmp_path: Path) -> None:
    asked = 0

    def stop_reason() -> str | None:
        nonlocal asked
        asked += 1
        return "SIGTERM received" if asked > 2 else None

    async with sole_writer(tmp_path):
        with pytest.raises(IncompleteError) as caught:
            async with sole_writer(tmp_path, Patience(math.inf, stop_reason)):
                pytest.fail("two hold the lock")
    assert asked == 3
    assert caught.value.message.startswith("SIGTERM received while it waited for process ")
    assert caught.value.hint == "run the same command again to go on"


async def test_a_wait_is_reported_once_and_names_the_holder(tmp_path: Path) -> None:
    output: list[str] = []
    with holder(tmp_path) as process:
        with pytest.raises(LockHeldError):
            async with sole_writer(tmp_path, Patience(0.7, waiting=output.append)):
                pytest.fail("two hold the lock")
        assert [words.partition(" on ")[0] for words in output] == [f"process {process.pid}"]
        assert holder_of(tmp_path) == output[0]


async def test_a_command_that_does_not_wait_outlasts_a_look_at_the_lock(tmp_path: Path) -> None:
    await hold_once(tmp_path)
    output: list[str] = []
    with (tmp_path / LOCK_NAME).open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        asyncio.get_running_loop().call_later(0.01, fcntl.flock, look, fcntl.LOCK_UN)
        async with sole_writer(tmp_path, Patience(waiting=output.append)):
            assert output == []


async def test_a_wait_ends_when_the_first_is_done(tmp_path: Path) -> None:
    async with sole_writer(tmp_path):
        second = asyncio.create_task(hold_once(tmp_path, wait_seconds=60))
        await asyncio.sleep(0)
        assert not second.done()
    await second


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
async def test_a_lock_file_that_says_nothing_is_still_a_lock(
    tmp_path: Path, content: bytes
) -> None:
    async with sole_writer(tmp_path):
        (tmp_path / LOCK_NAME).write_bytes(content)
        with pytest.raises(LockHeldError, match="another process"):
            await hold_once(tmp_path)


async def test_the_lock_file_is_its_owners_only_and_stays(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        await hold_once(tmp_path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / LOCK_NAME).stat().st_mode) == 0o600


@FAILURES
@pytest.mark.parametrize("call", ["open", "pwrite"])
async def test_a_lock_that_cannot_be_written_is_named(
    tmp_path: Path,
    number: int,
    kind: type[CohortSyncError],
    call: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(kind) as caught:
            await hold_once(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert not is_held(tmp_path)


def test_a_folder_without_a_lock_is_held_by_nobody(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert not is_held(tmp_path / "nowhere")
