"""Pushes into a mirrored cohort: refused, or followed by its snapshot."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from scripted_server import Play, Stage
from stage import ReaderOnStage
from whole_push import Death, Ended

from engine.errors import ExitStatus, IncompleteError
from engine.model.cohort import Action
from engine.payload.batch import Batch
from exports import Export, Row


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def push(cohort: Cohort, uids: Sequence[str], action: Action = Action.ADD, **how: object) -> Ended:
    export = Export([[Row(uid) for uid in uids]])
    return cohort.commands.push(export, action, **{"records": True, **how})


def census(cohort: Cohort) -> tuple[int, int, int]:
    newest = cohort.commands.in_session(lambda store: store.generations())[0]
    return newest.members, newest.unknown, newest.out


def test_what_a_push_adds_is_removed_by_the_mirror_that_does_not_want_it(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    cohort.commands.machine.pause(SETTLE)
    added = push(cohort, [*UIDS[2:7], UIDS[5]])
    assert added.exit_status is ExitStatus.ACCEPTED
    assert added.result is not None
    assert added.result.accounts.to_dict()["uids"]["planned"] == 6
    assert census(cohort) == (7, 0, 0)
    cohort.carry_out(MirrorRun(frozenset(UIDS[:3])))
    assert cohort.members() == set(UIDS[:3])


def test_what_a_push_removes_is_added_again(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    cohort.commands.machine.pause(SETTLE)
    push(cohort, UIDS[2:7], Action.REMOVE)
    assert census(cohort)[0] == 2
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    assert cohort.members() == set(UIDS[:4])


def test_a_push_waits_until_earlier_changes_have_settled(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:3])))
    first = cohort.scripted_server.arrived[-1].at
    push(cohort, UIDS[:1], Action.REMOVE)
    assert cohort.scripted_server.arrived[-1].at >= first + SETTLE


def test_it_begins_a_snapshot_where_there_is_none(cohort: Cohort) -> None:
    push(cohort, UIDS[:4])
    assert census(cohort) == (4, 0, 0)
    assert push(cohort, UIDS[:1], records=False).exit_status is ExitStatus.USAGE
    cohort.carry_out(MirrorRun(frozenset(UIDS[2:5])))
    assert cohort.members() == set(UIDS[2:5])


def test_what_may_have_been_applied_is_unknown_unless_it_changes_nothing(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:2])))
    cohort.commands.machine.pause(SETTLE)
    reset = Play(stage=Stage.WAITING, error=ConnectionResetError)
    cohort.scripted_server.script = lambda _: reset
    failed = push(cohort, UIDS[1:4])
    assert failed.exit_status is ExitStatus.INCOMPLETE
    assert census(cohort) == (2, 2, 0)


@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("after begin", 1),
        ("after record_changes", 1),
        *(
            (point, nth)
            for point in ("after intend", "arrived", "inside conclude")
            for nth in (1, 3)
        ),
    ],
)
def test_one_that_died_goes_on_and_all_is_recorded(cohort: Cohort, point: str, nth: int) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:2])))
    cohort.commands.machine.pause(SETTLE)
    assert push(cohort, UIDS[2:12], death=Death(point, nth)).died
    # Gone on with, it needs no flag: what it has sent is being recorded.
    again = push(cohort, UIDS[2:12], records=point == "after begin")
    assert again.exit_status is ExitStatus.ACCEPTED
    assert census(cohort) == (12, 0, 0)
    assert cohort.members() == set(UIDS[:12])


def test_one_that_died_is_known_to_the_mirror_that_follows(cohort: Cohort) -> None:
    push(cohort, UIDS[:9], death=Death("arrived", 3))
    cohort.scripted_server.script = lambda _: Play()
    cohort.carry_out(MirrorRun(frozenset(UIDS[8:10])))
    assert cohort.members() == set(UIDS[8:10])
    overtaken = push(cohort, UIDS[:9])
    assert overtaken.exit_status is ExitStatus.USAGE


def test_a_push_that_was_begun_without_it_is_not_gone_on_with(cohort: Cohort) -> None:
    push(cohort, UIDS[:9], records=False, death=Death("arrived", 2))
    refused = push(cohort, UIDS[:9])
    assert refused.exit_status is ExitStatus.USAGE
    assert refused.error is not None
    assert "without --record" in refused.error.message
    assert push(cohort, UIDS[:9], restart_if_changed=True).exit_status is ExitStatus.ACCEPTED
    assert census(cohort) == (9, 0, 0)


def kept(cohort: Cohort) -> list[Path]:
    return sorted((cohort.commands.ledger.parent / "plans").glob("*/*.parquet"))


def test_a_thread_that_still_reads_after_a_stop_writes_no_more(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Iterator[Batch]] = []

    def reader(batches: Iterator[Batch], wake: Callable[[], None]) -> ReaderOnStage:
        read.append(batches)
        return ReaderOnStage(batches, wake)

    monkeypatch.setattr("whole_push.ReaderOnStage", reader)
    uids = [f"u{number:04}" for number in range(60)]
    assert push(cohort, uids, stops_at=(0.3,)).exit_status is ExitStatus.INCOMPLETE
    before = kept(cohort)
    assert 0 < len(before) < 20
    # The process goes on with others: another run of this cohort may begin now.
    with pytest.raises(IncompleteError):
        next(read[0])
    assert kept(cohort) == before


def test_its_uids_are_kept_for_their_owner_alone(cohort: Cohort) -> None:
    push(cohort, UIDS[:9])
    assert len(kept(cohort)) == 3
    assert {path.stat().st_mode & 0o777 for path in kept(cohort)} == {0o600}
