"""State folders that are removed, replaced, shared, spelled otherwise, or named oddly."""

import fcntl
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from scripted_server import Request, ScriptedServer
from whole_push import Pushes

from engine.clock import SystemClock
from engine.errors import ExitStatus, LockHeldError
from engine.ledger import neighbors
from engine.ledger.locks import (
    LOCK_NAME,
    holder_of,
    is_held,
    sole_writer,
)
from engine.ledger.neighbors import announced
from engine.ledger.sqlite.ledger import open_shared
from engine.ledger.state_folder import (
    WorkspaceFolder,
    close_to_others,
    make_folder,
    try_writing,
)
from engine.model.endpoint import Endpoint
from engine.storage.paths import LEDGER_NAME, ledger_folder
from exports import Export, Row

UIDS = [f"u{number:04}" for number in range(40)]
EXPORT = Export([[Row(uid) for uid in UIDS]])


# The lock cannot be taken away.


def deleted(lock: Path) -> None:
    lock.unlink()


def replaced(lock: Path) -> None:
    other = lock.with_name("other")
    other.write_text("{}")
    other.replace(lock)


def linked(lock: Path) -> None:
    lock.unlink()
    lock.symlink_to(lock.with_name("elsewhere"))


def emptied(lock: Path) -> None:
    lock.write_bytes(b"")


@pytest.mark.parametrize("spoil", [deleted, replaced, linked, emptied])
async def test_who_takes_the_lock_file_away_lets_nobody_in(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    async with sole_writer(tmp_path):
        spoil(tmp_path / LOCK_NAME)
        assert is_held(tmp_path)
        for _ in range(2):  # The first one makes the file anew.
            with pytest.raises(LockHeldError):
                async with sole_writer(tmp_path):
                    pytest.fail("two hold the lock")
    assert not is_held(tmp_path)
    async with sole_writer(tmp_path):
        assert str(os.getpid()) in (holder_of(tmp_path) or "")


async def test_a_lock_that_an_older_version_holds_is_respected(tmp_path: Path) -> None:
    with (tmp_path / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_held(tmp_path)
        with pytest.raises(LockHeldError):
            async with sole_writer(tmp_path):
                pytest.fail("two hold the lock")
    async with sole_writer(tmp_path):
        pass


# A state folder that goes away in mid-run.


def removed(pushes: Pushes) -> None:
    shutil.rmtree(pushes.state)


def moved_away(pushes: Pushes) -> None:
    pushes.state.rename(pushes.state.with_name("away"))


def ledger_removed(pushes: Pushes) -> None:
    pushes.ledger.unlink()


def workspace_removed(pushes: Pushes) -> None:
    shutil.rmtree(pushes.ledger.parent)


@pytest.mark.parametrize("take", [removed, moved_away, ledger_removed, workspace_removed])
def test_a_state_folder_that_goes_away_is_noticed_before_the_next_request(
    tmp_path: Path, take: Callable[[Pushes], None]
) -> None:
    scripted_server = ScriptedServer()
    pushes = Pushes(tmp_path, scripted_server)

    def watch(stage: str, request: Request) -> None:
        if (stage, request.number) == ("arrived", 3):
            take(pushes)

    pushes.watch = watch
    ended = pushes.push(EXPORT)
    assert ended.result is not None, ended.error
    accounts = ended.result.accounts
    assert ended.exit_status is ExitStatus.INCOMPLETE
    assert "was removed or replaced" in (accounts.reason or "")
    assert accounts.imbalance is None
    assert len(scripted_server.arrived) <= 4, "one may have had its intent already"
    assert accounts.uids.accepted == 4 * len(scripted_server.arrived)
    # Its ledger was put back: the same command goes on, and knows what was sent.
    pushes.watch = lambda _stage, _request: None
    again = pushes.push(EXPORT)
    assert again.result is not None, again.error
    assert again.exit_status is ExitStatus.ACCEPTED
    assert again.result.accounts.run == accounts.run
    assert len(scripted_server.arrived) == 10
    assert scripted_server.members == set(UIDS)
    assert stat.S_IMODE(pushes.ledger.stat().st_mode) == 0o600
    assert [each.name for each in pushes.ledger.parent.glob("*.put-back*")] == []


def test_a_ledger_that_stands_in_the_place_of_one_that_went_is_left_alone(tmp_path: Path) -> None:
    pushes = Pushes(tmp_path, ScriptedServer())
    empty = pushes.ledger.read_bytes()

    def watch(stage: str, request: Request) -> None:
        if (stage, request.number) == ("arrived", 3):
            pushes.ledger.unlink()
            pushes.ledger.write_bytes(empty)

    pushes.watch = watch
    assert pushes.push(EXPORT).exit_status is ExitStatus.INCOMPLETE
    assert pushes.ledger.read_bytes() == empty


def test_a_state_folder_that_goes_away_at_the_very_end_is_put_back(tmp_path: Path) -> None:
    pushes = Pushes(tmp_path, ScriptedServer())

    def watch(stage: str, request: Request) -> None:
        if (stage, request.number) == ("answered", 10):
            removed(pushes)

    pushes.watch = watch
    ended = pushes.push(EXPORT)
    assert ended.exit_status is ExitStatus.INCOMPLETE
    with closing(sqlite3.connect(pushes.ledger)) as ledger:
        assert ledger.execute("SELECT status FROM run").fetchall() == [("incomplete",)]
    assert pushes.push(EXPORT).exit_status is ExitStatus.ACCEPTED


# One endpoint, whatever its spelling.

SAME = [
    ("http://127.0.0.1:8765", "http://localhost:8765"),
    ("http://127.0.0.1:8765", "http://LOCALHOST:8765/"),
    ("http://127.0.0.1:8765", "http://localhost.:8765"),
    ("http://127.0.0.1:8765", "HTTP://[::1]:8765"),
    ("http://127.0.0.1:8765", "http://[0:0:0:0:0:0:0:1]:8765"),
    ("http://127.0.0.1:8765", "http://[::ffff:127.0.0.1]:8765"),
    ("http://127.0.0.1", "http://localhost:80"),
    ("https://127.0.0.1", "https://localhost:443/"),
    ("https://api-01.moengage.com", "https://API-01.MoEngage.com"),
    ("https://api-01.moengage.com", "https://api-01.moengage.com:443/"),
    ("https://api-01.moengage.com", "https://api-01.moengage.com.:0443"),
]
OTHERS = [
    "http://127.0.0.1:8766",
    "https://127.0.0.1:8765",
    "http://127.0.0.2:8765",
    "https://api-02.moengage.com",
    "https://api-01.moengage.com:8443",
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_each_spelling_of_an_endpoint_leads_to_one_ledger(
    tmp_path: Path, one: str, other: str
) -> None:
    places = [WorkspaceFolder.of(tmp_path, Endpoint.parse(text), "W") for text in (one, other)]
    assert places[0] == places[1]
    for text in OTHERS:
        assert WorkspaceFolder.of(tmp_path, Endpoint.parse(text), "W") not in places


@pytest.mark.parametrize("older", ["http://localhost:8765", "http://[::1]:8765"])
@pytest.mark.parametrize("spelling", ["http://localhost:8765", "http://127.0.0.1:8765"])
def test_a_ledger_of_an_older_version_stays_under_its_own_spelling(
    tmp_path: Path, older: str, spelling: str
) -> None:
    folder = ledger_folder(tmp_path, older, "W")
    make_folder(folder)
    (folder / LEDGER_NAME).touch()
    assert WorkspaceFolder.of(tmp_path, Endpoint.parse(spelling), "W") == WorkspaceFolder(
        folder, older
    )


def test_of_two_older_ledgers_the_one_of_the_configured_spelling_is_taken(tmp_path: Path) -> None:
    urls = ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1")
    for url in urls:
        make_folder(ledger_folder(tmp_path, url, "W"))
        (ledger_folder(tmp_path, url, "W") / LEDGER_NAME).touch()
    for url in urls:
        assert WorkspaceFolder.of(tmp_path, Endpoint.parse(url), "W").endpoint == url


# Names and modes.


@pytest.mark.parametrize(
    "workspace",
    ["..", ".", "...", "a/b", "../../etc", "%2E%2E", "W" * 300, "/" * 200, "~", "*", "a.b", "-x"],
)
def test_a_workspace_s_folder_stands_two_below_the_state_folder(
    tmp_path: Path, workspace: str
) -> None:
    url = "https://api-01.moengage.com"
    folder = ledger_folder(tmp_path / "state", url, workspace)
    make_folder(folder)
    assert folder.resolve().parent.parent == (tmp_path / "state").resolve()
    others = ("..", ".", "%2E", "%2E%2E", "W" * 299, "W" * 301, "/" * 201)
    assert folder not in [
        ledger_folder(tmp_path / "state", url, other) for other in others if other != workspace
    ]


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o277, 0o777])
def test_folders_are_their_owner_s_only_under_any_umask(tmp_path: Path, mask: int) -> None:
    above = tmp_path / "above"
    above.mkdir(mode=0o755)
    above.chmod(0o755)
    folder = above / "state" / "endpoint" / "workspace" / "plans" / "run"
    before = os.umask(mask)
    try:
        make_folder(folder)
    finally:
        os.umask(before)
    made = [folder, *folder.parents[:4]]
    assert made[-1] == above / "state"
    assert {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o700}
    assert stat.S_IMODE(above.stat().st_mode) == 0o755, "it is not ours"


async def test_folders_of_an_older_version_are_closed_to_others_but_not_the_state_folder(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state" / "endpoint" / "workspace"
    folder.mkdir(parents=True)
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)
    ledger = await open_shared(folder, SystemClock(), is_sole=True)
    assert ledger is not None
    try:
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (folder, *folder.parents[:2])]
    finally:
        await ledger.close()
    assert modes == [0o700, 0o700, 0o755]


def test_a_folder_that_cannot_be_closed_to_others_is_no_error(tmp_path: Path) -> None:
    close_to_others(tmp_path / "nowhere" / "at all")


@pytest.mark.parametrize("has_nameless_files", [True, False])
def test_trying_a_folder_leaves_nothing_behind_whenever_it_is_killed(
    tmp_path: Path, *, has_nameless_files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real = os.open

    def watched(path: str, flags: int, mode: int = 0o777) -> int:
        if not has_nameless_files and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        descriptor = real(path, flags, mode)
        seen.append([each.name for each in tmp_path.iterdir()])
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    try_writing(tmp_path)
    assert all(not names for names in seen)


ODD = ["a b", "a#b?c=1", "100%41", "it's", 'quo"te', "new\nline", "[x]*?", "-dash", "ü", "state=3"]


@pytest.mark.parametrize("name", ODD)
def test_a_state_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    pushes = Pushes(tmp_path / name, ScriptedServer())
    assert pushes.push(EXPORT).exit_status is ExitStatus.ACCEPTED
    assert pushes.scripted_server.members == set(UIDS)


# Two state folders for one workspace.


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    monkeypatch.setattr(neighbors, "runtime_folders", lambda: [folder])
    return folder


def test_each_process_of_a_workspace_is_informed_of_the_others(
    tmp_path: Path, runtime: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with announced("e", "w", first) as none:
        assert none == []
        with announced("e", "w", second) as [one]:
            assert f"process {os.getpid()} on " in one
            assert one.endswith(f"works on this workspace too, from {first}")
            with announced("e", "w", tmp_path) as both:
                assert len(both) == 2
        for other in (("e", "other"), ("other", "w")):
            with announced(*other, second) as output:
                assert output == []
    assert list(runtime.iterdir()) == []
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


def test_a_process_that_died_is_not_mentioned(tmp_path: Path, runtime: Path) -> None:
    with announced("e", "w", tmp_path):
        [own] = runtime.iterdir()
        left = own.with_name(f"{own.name.partition('-')[0]}-dead")
        left.write_text(json.dumps({"pid": 1, "host": "h", "since": "then", "state": "x"}))
        foreign = runtime / "foreign"
        foreign.touch()
        with announced("e", "w", tmp_path / "other") as output:
            assert len(output) == 1
        assert not left.exists()
        assert foreign.exists()


def a_file(folder: Path) -> None:
    folder.write_text("in the way")


def open_to_others(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def a_link(folder: Path) -> None:
    target = folder.with_name("target")
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


@pytest.mark.parametrize("spoil", [a_file, open_to_others, a_link])
def test_where_nothing_can_be_announced_the_work_goes_on(
    tmp_path: Path, runtime: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(runtime)
    with announced("e", "w", tmp_path), announced("e", "w", tmp_path) as output:
        assert output == []
    if runtime.is_dir():
        assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("is_first", [True, False])
def test_a_mirror_whose_state_folder_went_away_begins_nothing_anew_in_silence(
    tmp_path: Path, *, is_first: bool
) -> None:
    pushes = Pushes(tmp_path, ScriptedServer())
    if not is_first:
        assert pushes.mirror(UIDS[:20]).exit_status is ExitStatus.ACCEPTED
        pushes.machine.pause(1000)
    count = len(pushes.scripted_server.arrived)

    def watch(stage: str, request: Request) -> None:
        if (stage, request.number) == ("arrived", count + 2):
            removed(pushes)

    pushes.watch = watch
    ended = pushes.mirror(UIDS[10:])
    assert ended.result is not None, ended.error
    assert ended.exit_status is ExitStatus.INCOMPLETE
    assert ended.result.accounts.imbalance is None
    assert "was removed or replaced" in (ended.result.accounts.reason or "")
    pushes.watch = lambda _stage, _request: None
    pushes.machine.pause(1000)
    again = pushes.mirror(UIDS[10:])
    assert again.error is not None
    assert again.error.exit_status is ExitStatus.USAGE
    assert again.error.hint
    assert len(pushes.scripted_server.arrived) <= count + 3
