"""The newest of the files or partitions that a pattern matches, on a disk and in a store."""

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import fsspec
import pytest

from engine.errors import MissingExportError, SourceError, UsageError
from engine.source.files.opening import open_source
from engine.source.files.patterns import pick_problem
from engine.source.files.picking import date_in_name, pick_newest
from engine.source.options import ReadingOptions
from engine.source.spec import SourceSpec

Fill = Callable[[str], str]
"""Makes files, by their names in one text, and returns the prefix of their names."""


@pytest.fixture(params=["disk", "store"])
def fill(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fill]:
    store = fsspec.filesystem("memory")

    def made(names: str) -> str:
        for name in names.split():
            if request.param == "store":
                store.pipe_file(f"/picking/{name}", b"uid\na\n")
                continue
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"uid\na\n")
        return "memory://picking/" if request.param == "store" else f"{tmp_path}/"

    yield made
    if store.exists("/picking"):
        store.rm("/picking", recursive=True)


@pytest.mark.parametrize(
    ("names", "pattern", "newest"),
    [
        (
            "vip-2026-11-26.csv vip-2026-11-27.csv vip-2025-12-31.csv",
            "vip-*.csv",
            "vip-2026-11-27.csv",
        ),
        ("a20261126.csv b20261127.csv", "*", "b20261127.csv"),
        ("20261127T0100.csv 20261127T0200.csv", "*.csv", "20261127T0200.csv"),
        ("x20261127010000.csv x20261127020000.csv", "*.csv", "x20261127020000.csv"),
        ("dt=2026-11-26/a.csv dt=2026-11-27/a.csv dt=2026-11-27/b.csv", "dt=*", "dt=2026-11-27"),
        ("dt=2026-11-26/a.csv dt=2026-11-27/a.csv dt=2026-12-01.csv", "dt=*/", "dt=2026-11-27"),
        ("dt=2026-11-26/a.csv dt=2026-11-27/a.csv", "dt=*/a.csv", "dt=2026-11-27/a.csv"),
        (
            "year=2026/month=9/day=30/a.csv year=2026/month=10/day=1/a.csv",
            "year=*/month=*/day=*",
            "year=2026/month=10/day=1",
        ),
        ("2026/11/26/a.csv 2026/11/27/a.csv", "2026/*/*", "2026/11/27"),
        ("v-2026-11-27.csv v-2026-11-28.csv.part v-2026-11-29.csv.tmp", "v-*", "v-2026-11-27.csv"),
        ("v-2026-11-27.csv v-2026-11-27.csv.md5 _v-2026-11-28.csv", "*v-*", "v-2026-11-27.csv"),
        ("from-2026-11-01.csv", "from-*", "from-2026-11-01.csv"),
        ("deep/x/1-2026-11-26.csv deep/2-2026-11-25.csv", "**", "deep/x/1-2026-11-26.csv"),
    ],
)
def test_the_newest_by_the_date_in_the_name(
    fill: Fill, names: str, pattern: str, newest: str
) -> None:
    root = fill(names)
    found = pick_newest(root + pattern)
    assert found == root + newest
    uids = [uid for block in open_source([found], ReadingOptions()).blocks() for uid in block.uids]
    assert len(uids) == sum(
        name.startswith(newest) for name in names.split() if ".csv.md5" not in name
    )


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ("a-2026-11-27.csv b-2026-11-27.csv", "*.csv"),
        ("dt=2026-11-27/1.csv dt=2026-11-27/2.csv dt=2026-11-26/3.csv", "dt=*/*.csv"),
        ("v-2026-11-27-01.csv v-2026-11-27-02.csv v-2026-11-27-000003.csv", "*.csv"),
    ],
)
def test_equally_new_ones_are_an_error(fill: Fill, names: str, pattern: str) -> None:
    root = fill(names)
    with pytest.raises(SourceError, match=r"are equally new, and one can be picked$") as caught:
        pick_newest(root + pattern)
    assert caught.value.exit_status == 2
    assert "dt=*/" in (caught.value.hint or "")


def test_the_newest_by_time_of_writing(tmp_path: Path) -> None:
    for number, name in enumerate(["b.csv", "a-2026-11-28.csv", "p/1.csv", "p/2.csv", "q/1.csv"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a\n", encoding="utf-8")
        os.utime(path, (1000 + number, 1000 + number))
    assert pick_newest(f"{tmp_path}/*.csv") == f"{tmp_path}/a-2026-11-28.csv"
    assert pick_newest(f"{tmp_path}/*/") == f"{tmp_path}/q"
    os.utime(tmp_path / "p" / "1.csv", (2000, 2000))
    assert pick_newest(f"file://{tmp_path}/*/") == f"{tmp_path}/p"
    os.utime(tmp_path / "q" / "1.csv", (2000, 2000))
    with pytest.raises(SourceError, match="equally new"):
        pick_newest(f"{tmp_path}/*/")


def test_an_unknown_time_of_writing_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "a.csv").write_text("a\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"pipe.csv: its time of writing is unknown"):
        pick_newest(f"{tmp_path}/*.csv")
    with pytest.raises(SourceError, match="the folder holds no files"):
        pick_newest(f"{tmp_path}/[ea]*")


def test_nothing_to_pick(fill: Fill) -> None:
    root = fill("a.csv")
    with pytest.raises(MissingExportError, match=r"no-\*.csv: no file matches$"):
        pick_newest(f"{root}no-*.csv")


@pytest.mark.parametrize(
    "pattern", ["a.csv", "-", "folder/", "https://host/a*.csv", "s3://b/a.csv"]
)
def test_a_name_that_nothing_can_be_picked_by(pattern: str) -> None:
    assert pick_problem(pattern)
    with pytest.raises(UsageError, match="picked"):
        pick_newest(pattern)


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("vip-2026-11-27.csv", datetime(2026, 11, 27)),  # noqa: DTZ001 - a date without a zone
        ("2026-11-27/vip-20261127.csv", datetime(2026, 11, 27)),  # noqa: DTZ001 - as above
        ("2026-11-27T10:20:30Z.csv", datetime(2026, 11, 27, 10, 20, 30)),  # noqa: DTZ001 - as above
        ("vip-2026-13-27.csv", None),
        ("vip-1764201600.csv", None),
        ("from-2026-11-01-to-2026-11-27.csv", None),
        ("2026-11.csv", None),
        ("part-12340506.csv", None),
        ("vip-120261127.csv", None),
    ],
)
def test_a_date_in_a_name(name: str, date: datetime | None) -> None:
    assert date_in_name(name) == date


def test_a_spec_of_the_newest_keeps_credentials_and_is_resumed(tmp_path: Path) -> None:
    for day in (26, 27):
        (tmp_path / f"{day}-2026-11-{day}.csv").write_text("a\n", encoding="utf-8")
    newest = SourceSpec((f"{tmp_path}/*.csv",), ReadingOptions(strip=True)).newest()
    assert newest == SourceSpec((f"{tmp_path}/27-2026-11-27.csv",), ReadingOptions(strip=True))
