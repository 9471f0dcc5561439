"""Locks of a workspace and of its cohorts: who excludes whom."""

import asyncio
import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import LockHeldError, StateGoneError
from engine.ledger import locks
from engine.ledger.locks import (
    NO_PATIENCE,
    FileLock,
    Patience,
    cohort_at_once,
    cohort_holder,
    cohort_lock,
    is_held,
    sending_lock,
    sole_writer_at_once,
)
from engine.model.cohort import CohortKey
from engine.storage.paths import cohort_lock_path

KEY = CohortKey("partner", "cohort-1")
OTHERS = [CohortKey("partner", "cohort-2"), CohortKey("another", "cohort-1")]


async def test_a_lock_is_held_until_it_is_released_as_often_as_it_was_acquired(
    tmp_path: Path,
) -> None:
    shared = sending_lock(tmp_path)
    await shared.acquire(NO_PATIENCE)
    await shared.acquire(NO_PATIENCE)
    shared.release()
    assert is_held(tmp_path)
    assert not sending_lock(tmp_path).try_acquire()
    shared.release()
    shared.release()
    assert not shared.is_held
    other = sending_lock(tmp_path)
    assert other.try_acquire()
    other.release()


async def test_a_cohort_is_locked_apart_from_others_and_from_sending(tmp_path: Path) -> None:
    lock = cohort_lock(tmp_path, KEY)
    await lock.acquire(NO_PATIENCE)
    for key in OTHERS:
        with cohort_at_once(tmp_path, key) as is_free:
            assert is_free
    assert not is_held(tmp_path)
    with pytest.raises(LockHeldError, match="cohort cohort-1 is in use by process ") as caught:
        await cohort_lock(tmp_path, KEY).acquire(NO_PATIENCE)
    assert "--wait" in (caught.value.hint or "")
    lock.release()
    assert cohort_holder(tmp_path, KEY) is None


async def test_a_shadow_shares_the_lock_of_its_cohort(tmp_path: Path) -> None:
    shadow = CohortKey(KEY.partner, KEY.cohort_id, is_shadow=True)
    with cohort_at_once(tmp_path, shadow):
        assert not cohort_lock(tmp_path, KEY).try_acquire()


@pytest.mark.parametrize("cohort_id", ["..", ".", "a/b", "é" * 500, " "])
def test_a_lock_lies_in_the_workspaces_folder_whatever_the_cohorts_id(
    tmp_path: Path, cohort_id: str
) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    with cohort_at_once(folder, CohortKey("..", cohort_id)) as is_free:
        assert is_free
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]
    assert [path.name for path in folder.iterdir()] == ["locks"]


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_lock_file_that_was_removed_while_it_was_opened_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_replaced: bool
) -> None:
    """Another process removes the file between the opening and the lock, and locks a new one."""
    path = cohort_lock_path(tmp_path, KEY)
    other = cohort_lock(tmp_path, KEY)
    lock = fcntl.flock

    def flock(descriptor: int, kind: int) -> None:
        monkeypatch.undo()
        path.unlink()
        if is_replaced:
            assert other.try_acquire()
        lock(descriptor, kind)

    late = cohort_lock(tmp_path, KEY)
    monkeypatch.setattr(fcntl, "flock", flock)
    assert not late.try_acquire()
    assert late.try_acquire() is not is_replaced
    assert not cohort_lock(tmp_path, KEY).try_acquire()


@pytest.mark.parametrize("make", [sending_lock, lambda folder: cohort_lock(folder, KEY)])
async def test_a_folder_that_was_removed_is_named(
    tmp_path: Path, make: Callable[[Path], FileLock]
) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    lock = make(folder)
    shutil.rmtree(folder)
    with pytest.raises(StateGoneError, match="workspace was removed"):
        lock.try_acquire()


async def test_a_lock_counts_how_often_it_was_taken(tmp_path: Path) -> None:
    """Not how often it was acquired: others may have held it only between two of these."""
    lock = sending_lock(tmp_path)
    await lock.acquire(NO_PATIENCE)
    await lock.acquire(NO_PATIENCE)
    lock.release()
    assert lock.times_taken == 1
    lock.release()
    with sole_writer_at_once(tmp_path):
        assert not lock.try_acquire()
    assert lock.times_taken == 1
    await lock.acquire(NO_PATIENCE)
    assert lock.times_taken == 2
    lock.release()


async def test_a_run_waits_for_a_recovery_without_a_word_though_it_must_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery, or a prune, holds the lock of a cohort only for a moment."""
    monkeypatch.setattr(locks, "_GRACE_SECONDS", 0.0)
    told: list[str] = []
    lock = cohort_lock(tmp_path, KEY)
    with cohort_at_once(tmp_path, KEY) as is_free:
        assert is_free
        acquiring = asyncio.create_task(lock.acquire(Patience(waiting=told.append)))
        await asyncio.sleep(0)  # It has found the lock held.
        assert not acquiring.done()
    await acquiring
    assert told == []
    with pytest.raises(LockHeldError):
        await cohort_lock(tmp_path, KEY).acquire(NO_PATIENCE)
    lock.release()
