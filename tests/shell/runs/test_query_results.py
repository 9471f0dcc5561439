"""Results of queries in the state folder: who keeps them, and what is deleted."""

import os
from pathlib import Path

import pytest

from engine.runs import queries
from engine.runs.queries import sweep
from engine.storage.paths import UidContent, queries_folder, uid_locations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = queries_folder(tmp_path)
    folder.mkdir()
    return folder


def written(path: Path, *, is_old: bool) -> Path:
    path.write_bytes(b"uids")
    if is_old:
        os.utime(path, (0, 0))
    return path


def test_only_what_nobody_uses_or_needs_is_deleted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = written(folder / "young.parquet", is_old=False)
    needed = written(folder / "needed.parquet", is_old=True)
    held = written(folder / "held.parquet", is_old=True)
    other = written(folder / "other.txt", is_old=True)
    unused = written(folder / "unused.parquet", is_old=True)
    link = folder / "link.parquet"
    link.symlink_to(other)
    monkeypatch.setattr(queries, "needed_spools", lambda _: {needed})
    with held.open("rb") as file:
        queries.fcntl.flock(file, queries.fcntl.LOCK_SH)
        assert sweep(folder, tmp_path) == 4
    assert set(folder.iterdir()) == {young, needed, held, other, link}
    assert not unused.exists()
    assert sweep(folder, tmp_path) == 4
    assert not held.exists()
    assert sweep(tmp_path / "none", tmp_path) == 0


def test_a_result_is_one_of_the_places_of_uids(folder: Path, tmp_path: Path) -> None:
    path = written(folder / "a.parquet", is_old=False)
    [found] = uid_locations(tmp_path)
    assert (found.path, found.content) == (path, UidContent.QUERY)
