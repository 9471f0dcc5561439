"""Locks of a workspace and of its cohorts: who excludes whom."""

from functools import partial
from pathlib import Path

import pytest

from engine.errors import LockHeldError
from engine.ledger.locks import (
    NO_PATIENCE,
    FileLock,
    Patience,
    cohort_at_once,
    cohort_holder,
    cohort_lock,
    is_held,
    sending_lock,
    until_free,
)
from engine.model.cohort import CohortKey

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


async def test_whoever_waits_for_a_cohort_waits_for_its_run_and_for_whoever_sends(
    tmp_path: Path,
) -> None:
    assert not await until_free(tmp_path, KEY, NO_PATIENCE)
    for lock in (cohort_lock(tmp_path, KEY), sending_lock(tmp_path)):
        await lock.acquire(NO_PATIENCE)
        patience = Patience(60, waiting=partial(_release, lock))
        assert await until_free(tmp_path, KEY, patience)


def _release(lock: FileLock, _: str) -> None:
    lock.release()
