"""The files of a run in the ledger: their uids are those that were planned, whatever happens."""

from pathlib import Path

import pytest
from scripted_server import ScriptedServer
from whole_push import Death, Pushes

from engine.ledger.sqlite import files
from engine.ledger.sqlite.reader import LedgerReader
from engine.ledger.sqlite.schema import open_ledger
from engine.source.source_file import SourceFile
from exports import Export, Row

UIDS = [f"u{number:04}" for number in range(30)]


def planned_of(pushes: Pushes) -> list[SourceFile]:
    with LedgerReader.open(pushes.ledger) as ledger:
        return ledger.history.files(ledger.history.names()[-1])


@pytest.mark.parametrize(
    "death",
    [
        None,
        Death("before begin"),
        Death("after begin"),
        Death("inside intend", 2),
        Death("after intend", 3),
        Death("after conclude", 4),
        Death("before finish"),
    ],
)
def test_each_uid_is_counted_once_over_all_restarts(tmp_path: Path, death: Death | None) -> None:
    pushes = Pushes(tmp_path, ScriptedServer())
    export = Export([[Row(uid) for uid in UIDS[:11]], [], [Row(uid) for uid in UIDS[11:]]])
    ended = pushes.push(export, death=death)
    if death is not None:
        assert ended.died
        ended = pushes.push(export)
    assert ended.result is not None
    assert [file.uids for file in ended.result.files] == [11, 0, 19]
    assert ended.result.accounts.uids.planned == len(UIDS)


def test_a_stop_leaves_the_count_at_what_was_planned(tmp_path: Path) -> None:
    pushes = Pushes(tmp_path, ScriptedServer(), uids_per_payload=1)
    ended = pushes.push(Export([[Row(uid) for uid in UIDS]]), stops_at=(0.5,))
    assert ended.result is not None
    [file] = ended.result.files
    assert file.uids == ended.result.accounts.uids.planned


def test_a_mirror_counts_what_it_read_of_each_file(tmp_path: Path) -> None:
    pushes = Pushes(tmp_path, ScriptedServer())
    ended = pushes.mirror([*UIDS, *UIDS[:5]])
    assert ended.result is not None
    assert [file.uids for file in ended.result.files] == [len(UIDS) + 5]


def test_nobody_knows_the_uids_of_a_run_that_an_older_version_began(tmp_path: Path) -> None:
    pushes = Pushes(tmp_path, ScriptedServer(), uids_per_payload=1)
    pushes.push(Export([[Row(uid) for uid in UIDS]]), death=Death("after conclude", 2))
    ledger = open_ledger(pushes.ledger)
    ledger.execute("DELETE FROM file")
    ledger.close()
    ended = pushes.push(Export([[Row(uid) for uid in UIDS]]))
    assert ended.result is not None
    assert [file.uids for file in ended.result.files] == [None]


def test_files_are_entered_anew_as_they_are_now(tmp_path: Path) -> None:
    pushes = Pushes(tmp_path, ScriptedServer())
    pushes.push(Export([[Row(uid) for uid in UIDS]]))
    ledger = open_ledger(pushes.ledger)
    files.enter(ledger, 1, [SourceFile("./export.csv", 7, 8), SourceFile("export.csv", 9, None)])
    ledger.close()
    first, second = planned_of(pushes)
    assert first == SourceFile("./export.csv", 7, 8, uids=len(UIDS))
    assert second == SourceFile("export.csv", 9, None, uids=None)
