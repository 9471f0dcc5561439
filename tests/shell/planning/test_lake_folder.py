"""The Delta table of a cohort: of two that move it one is refused, and what is not kept goes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("deltalake")

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from engine.errors import IncompleteError, LedgerError
from engine.planning.database.generations import NO_HEAD, Head, Move
from engine.planning.database.record import GenerationRecord
from engine.planning.spark.generations import LakeGenerations
from engine.planning.spark.lake import ROWS, CohortFolder, folder_of, work_folder_at
from engine.snapshot.fold import RunChanges
from engine.storage.paths import generation_path, record_path

A, B, C = (letter * 16 for letter in "abc")


@pytest.fixture
def cohort(tmp_path: Path) -> CohortFolder:
    found = CohortFolder(str(tmp_path / "lake"), "cohort")
    found.create()
    found.create()
    return found


def write(cohort: CohortFolder, number: int, token: str, uids: Sequence[bytes] = ()) -> None:
    rows = {"uid": uids, "state": [1] * len(uids), "run": [number] * len(uids)}
    cohort.write(f"{folder_of(number, token)}/part-0.parquet", pa.table(rows, ROWS))


def test_a_commit_replaces_all_rows_and_an_earlier_generation_stays(cohort: CohortFolder) -> None:
    assert cohort.head() == NO_HEAD
    write(cohort, 1, A, [b"a"])
    assert cohort.commit(NO_HEAD, 1, A)
    write(cohort, 2, B)
    assert cohort.commit((1, A), 2, B)
    assert cohort.head() == (2, B)
    assert pa.table(DeltaTable(cohort.root).to_pyarrow_table()).num_rows == 0
    assert [each["uid"].to_pylist() for each in cohort.read(folder_of(1, A))] == [[b"a"]]


def test_of_two_commits_after_one_generation_the_second_is_refused(
    cohort: CohortFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in (A, B):
        write(cohort, 1, token)
    assert cohort.commit(NO_HEAD, 1, A)
    assert not cohort.commit(NO_HEAD, 1, B)
    # The other one commits after this one has read the head, and both have no rows to remove.
    versions = iter([(0, NO_HEAD)])
    real = CohortFolder._head
    monkeypatch.setattr(CohortFolder, "_head", lambda self: next(versions, None) or real(self))
    assert not cohort.commit(NO_HEAD, 1, B)
    assert cohort.head() == (1, A)


def test_a_commit_whose_reply_was_lost_is_recognised(
    cohort: CohortFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit: Any = DeltaTable.create_write_transaction

    def deaf(*given: object, **named: object) -> None:
        commit(*given, **named)
        raise CommitFailedError("timed out")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", deaf)
    write(cohort, 1, A)
    assert cohort.commit(NO_HEAD, 1, A)


def test_a_commit_that_fails_is_named(
    cohort: CohortFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise CommitFailedError("no space left")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", broken)
    write(cohort, 1, A)
    with pytest.raises(IncompleteError, match="no space left"):
        cohort.commit(NO_HEAD, 1, A)


def test_a_table_that_another_program_has_written_is_refused(cohort: CohortFolder) -> None:
    write(cohort, 1, A, [b"a"])
    assert cohort.commit(NO_HEAD, 1, A)
    DeltaTable(cohort.root).optimize.compact()
    assert cohort.head() == (1, A)
    write(cohort, 2, B, [b"b"])
    cohort.commit((1, A), 2, B)
    for name in ("x", "y"):
        cohort.write(f"{folder_of(2, B)}/{name}.parquet", ROWS.empty_table())
    rows = DeltaTable(cohort.root).to_pyarrow_table()
    from deltalake import write_deltalake  # noqa: PLC0415 - one test needs it

    write_deltalake(cohort.root, rows, mode="append")
    with pytest.raises(LedgerError, match="another program has changed"):
        cohort.head()


def test_a_lake_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cohort = CohortFolder(str(tmp_path / "file"), "cohort")
    with pytest.raises(IncompleteError, match=r"the lake .* cannot be used"):
        cohort.create()


def test_folders_of_sessions_that_were_killed_are_deleted_a_day_later(
    cohort: CohortFolder,
) -> None:
    now = datetime(2026, 3, 4, 5, tzinfo=UTC)
    names = [work_folder_at(now - timedelta(hours=hours)) for hours in (0, 23, 25)]
    for name in names:
        cohort.write(f"{name}/list_0/0.parquet", ROWS.empty_table())
    cohort.delete_abandoned(now)
    assert {each.name for each in Path(cohort.root).glob("work-*")} == set(names[:2])


@dataclass
class Files:
    """What a session on Spark does of a move, without it: no rows."""

    cohort: CohortFolder
    shown: list[str] = field(default_factory=list)

    def write(self, _: str, folder: str) -> None:
        self.cohort.write(f"{folder}/part-0.parquet", ROWS.empty_table())

    def show(self, _: str, __: pa.Schema, folder: str) -> None:
        self.shown.append(folder)

    def rows(self, _: str) -> list[tuple[int, int]]:
        return [(1, 5), (2, 1), (3, 2), (4, 1)]

    def new_table(self, *_: object) -> None:
        """Do nothing."""

    make_table = new_table


def move(number: int, token: str, folder: Path, fence: Head | None) -> Move:
    record = GenerationRecord("cluster", "cohort", number, token)
    return Move(record, record_path(generation_path(folder, number)), "the lake", fence)


def test_a_move_is_made_once_more_and_by_nobody_else(cohort: CohortFolder, tmp_path: Path) -> None:
    session: Any = Files(cohort)
    generations = LakeGenerations(cohort)
    changes = RunChanges(1, [], [], [1])
    found = generations.fold(session, move(1, A, tmp_path, NO_HEAD), changes)
    assert found == (5, 2, 2)
    generations.fold(session, move(2, A, tmp_path, (1, A)), changes)
    session.shown.clear()
    generations.fold(session, move(2, B, tmp_path, (1, A)), changes)
    assert session.shown == [folder_of(1, A), folder_of(2, B)]
    assert generations.head(session) == (2, B)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(LedgerError, match="another machine has moved"):
        generations.fold(session, move(2, C, elsewhere, (1, A)), changes)
    with pytest.raises(LedgerError, match="another machine has moved"):
        generations.replace(session, move(2, C, elsewhere, None))
    generations.replace(session, move(3, C, tmp_path, None))
    assert sorted(cohort.generations()) == [(1, A), (2, B), (3, C)]


def test_files_without_a_record_are_deleted_by_the_next_move(
    cohort: CohortFolder, tmp_path: Path
) -> None:
    session: Any = Files(cohort)
    generations = LakeGenerations(cohort)
    for number, token in enumerate((A, B, C), 1):
        generations.replace(session, move(number, token, tmp_path, None))
    write(cohort, 4, A)  # A process that died before its commit.
    record_path(generation_path(tmp_path, 1)).unlink()
    generations.replace(session, move(4, B, tmp_path, None))
    assert sorted(cohort.generations()) == [(2, B), (3, C), (4, B)]
    assert generations.holds(session, 2, B)
    assert not generations.holds(session, 1, A)
    record_path(generation_path(tmp_path, 2)).write_text("{}")
    generations.replace(session, move(5, C, tmp_path, None))
    assert generations.holds(session, 2, B)
