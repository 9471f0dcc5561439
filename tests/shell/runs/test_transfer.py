"""Snapshots that come from elsewhere, shadows, and the way back."""

from pathlib import Path
from unittest.mock import patch

import pytest
from listed_members import adopt, listed, reconcile
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun

from engine.delivery.stop import StopSwitch
from engine.errors import ExitStatus, GuardError, IncompleteError, LedgerError, UsageError
from engine.planning.guards import Allowance
from engine.planning.settings import GuardSettings
from engine.runs import transfer
from engine.snapshot.file_format import look_up
from engine.snapshot.records import UidState
from exports import Export, Row


def sent_since(cohort: Cohort, before: int) -> list[tuple[str, set[str]]]:
    return [
        (request.action, set(request.uids)) for request in cohort.scripted_server.arrived[before:]
    ]


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def test_adopted_uids_are_added_where_wanted_and_removed_where_not(cohort: Cohort) -> None:
    cohort.scripted_server.members = set(UIDS[:4])
    adopted = cohort.commands.in_session(lambda store: adopt(store, UIDS[:3]))
    assert (adopted.members, adopted.unknown, adopted.origin) == (0, 3, "adopt")
    began = cohort.commands.machine.now_at_rest
    ended = cohort.carry_out(MirrorRun(frozenset([UIDS[1], UIDS[9]]), pause=0.0))
    assert ended.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == {UIDS[1], UIDS[3], UIDS[9]}  # Nobody knew of the fourth.
    *adds, last = cohort.scripted_server.arrived
    assert {request.action for request in adds} == {"add_members"}
    # The script that pushed them may have done so a moment ago.
    assert last.action == "remove_members"
    assert last.at >= began + SETTLE


def test_an_adoption_leaves_what_is_known(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:2])))
    adopted = cohort.commands.in_session(lambda store: adopt(store, UIDS[1:4]))
    assert (adopted.members, adopted.unknown) == (2, 2)


def test_a_list_that_lacks_most_of_what_is_known_reconciles_nothing(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:10])))
    cohort.commands.machine.pause(SETTLE)
    guards = GuardSettings(small_cohort=3)
    with pytest.raises(GuardError, match="removals: 7 removals of a cohort of 10") as caught:
        cohort.commands.in_session(lambda store: reconcile(store, UIDS[7:12], guards))
    assert str(caught.value.hint).endswith('--allow removals=7 --reason "why"')
    [(known, _)] = cohort.commands.look(lambda store: store.verify_all())
    assert known.members == 10
    lifted = [Allowance.parse("removals=7")]
    made = cohort.commands.in_session(lambda store: reconcile(store, UIDS[7:12], guards, lifted))
    assert made.members == 5


def test_a_reconciled_list_takes_the_place_of_what_was_known(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    with pytest.raises(IncompleteError, match="not have been applied"):
        cohort.commands.in_session(lambda store: reconcile(store, UIDS[2:6]))
    cohort.commands.machine.pause(SETTLE)
    cohort.scripted_server.members = set(UIDS[2:6])  # Somebody has been at it by hand.
    made = cohort.commands.in_session(lambda store: reconcile(store, UIDS[2:6]))
    assert (made.members, made.unknown) == (4, 0)
    before = len(cohort.scripted_server.arrived)
    cohort.carry_out(MirrorRun(frozenset(UIDS[3:7])))
    assert cohort.members() == set(UIDS[3:7])
    assert sent_since(cohort, before) == [
        ("remove_members", {UIDS[2]}),
        ("add_members", {UIDS[6]}),
    ]


def test_a_snapshot_moves_to_another_machine(cohort: Cohort, tmp_path: Path) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    cohort.carry_out(MirrorRun(frozenset(UIDS[1:5])))
    carried = tmp_path / "carried.parquet"
    cohort.commands.in_session(lambda store: transfer.export(store, carried, None, "here"))
    assert carried.stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    other = Cohort(tmp_path / "other")
    other.scripted_server.members = set(UIDS[1:5])
    brought = other.commands.in_session(
        lambda store: transfer.import_snapshot(store, carried, "here")
    )
    assert (brought.members, brought.out, brought.origin) == (4, 1, "import")
    [file] = (other.commands.ledger.parent / "snapshots").glob("*/*/*.parquet")
    assert look_up(file, UIDS[1]) == (UidState.IN, 0)
    began = other.commands.machine.now_at_rest
    other.carry_out(MirrorRun(frozenset([*UIDS[1:4], UIDS[0]]), pause=0.0))
    assert other.members() == {*UIDS[1:4], UIDS[0]}
    # Both undo what the other machine may have sent a moment ago.
    assert all(request.at >= began + SETTLE for request in other.scripted_server.arrived)


def test_a_snapshot_of_another_target_is_taken_only_when_that_is_meant(
    cohort: Cohort, tmp_path: Path
) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    cohort.commands.machine.pause(SETTLE)
    trial = tmp_path / "trial.parquet"
    cohort.commands.in_session(lambda store: transfer.export(store, trial, None, "the emulator"))
    with pytest.raises(UsageError, match="is for the emulator, not for the API"):
        cohort.commands.in_session(lambda store: transfer.import_snapshot(store, trial, "the API"))
    brought = cohort.commands.in_session(
        lambda store: transfer.import_snapshot(store, trial, "the API", from_elsewhere=True)
    )
    assert brought.members == 5


def test_what_is_no_snapshot_is_not_taken_for_one(cohort: Cohort, tmp_path: Path) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    [file] = (cohort.commands.ledger.parent / "snapshots").glob("*/*/*.parquet")
    cohort.commands.machine.pause(SETTLE)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(file.read_bytes()[:-20])
    [operation] = (cohort.commands.ledger.parent / "plans").glob("*/adds.parquet")
    for path in (broken, operation, tmp_path / "missing.parquet"):
        with pytest.raises(UsageError, match=path.name):
            cohort.commands.in_session(
                lambda store, path=path: transfer.import_snapshot(store, path, "here")
            )  # type: ignore[misc] # a default is bound
    with pytest.raises(UsageError, match="exists already"):
        cohort.commands.in_session(lambda store: transfer.export(store, broken, None, "here"))
    with pytest.raises(UsageError, match="no generation 7"):
        cohort.commands.in_session(
            lambda store: transfer.export(store, tmp_path / "new", 7, "here")
        )


def test_a_list_is_laid_beside_a_snapshot(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    found = cohort.commands.in_session(
        lambda store: transfer.compare_with(store, listed([*UIDS[3:7], UIDS[3]]), StopSwitch())
    )
    assert found == {
        "in_both": 2,
        "only_in_the_list": 2,
        "only_in_the_snapshot": 3,
        "duplicate_rows": 1,
        "blank_rows": 0,
        "invalid_rows": 0,
        "unknown_in_the_snapshot": 0,
        "some_only_in_the_list": found["some_only_in_the_list"],
        "some_only_in_the_snapshot": found["some_only_in_the_snapshot"],
    }
    assert set(found["some_only_in_the_list"]) == set(UIDS[5:7])
    assert set(found["some_only_in_the_snapshot"]) == set(UIDS[:3])
    assert {path.name for path in snapshot_folder(cohort).iterdir()} == {"000001.parquet"}


def test_a_list_is_laid_beside_a_snapshot_that_can_only_be_read(
    cohort: Cohort, tmp_path: Path
) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    before = {path: path.stat().st_mtime_ns for path in snapshot_folder(cohort).iterdir()}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    read_only = patch(
        "engine.runs.transfer.make_folder", side_effect=LedgerError("cannot be written")
    )
    with read_only, patch("engine.storage.paths.tempfile.gettempdir", lambda: str(elsewhere)):
        found = cohort.commands.look(
            lambda store: transfer.compare_with(store, listed(UIDS[3:7]), StopSwitch())
        )
    assert (found["in_both"], found["only_in_the_list"]) == (2, 2)
    assert {path: path.stat().st_mtime_ns for path in snapshot_folder(cohort).iterdir()} == before
    assert not list(elsewhere.iterdir())


def snapshot_folder(cohort: Cohort) -> Path:
    [folder] = (cohort.commands.ledger.parent / "snapshots").glob("*/*")
    return folder


def test_a_shadow_moves_and_sends_nothing(cohort: Cohort) -> None:
    first = cohort.commands.mirror(UIDS[:8], is_shadow=True)
    second = cohort.commands.mirror(UIDS[2:9], is_shadow=True)
    assert not cohort.scripted_server.arrived
    documents = []
    for ended in (first, second):
        assert ended.exit_status is ExitStatus.ACCEPTED
        assert ended.result is not None
        documents.append(ended.result.accounts.to_dict())
        assert ended.result.accounts.imbalance is None
    assert [document["status"] for document in documents] == ["shadow", "shadow"]
    assert documents[0]["add"]["pending"] == 8
    planned = {operation: documents[1][operation]["planned"] for operation in ("add", "remove")}
    assert planned == {"add": 1, "remove": 2}
    shadow = cohort.commands.in_session(lambda store: store.generations(), shadow=True)
    assert [generation.members for generation in shadow] == [7, 8]
    assert cohort.commands.in_session(lambda store: store.generations()) == []
    # The cohort itself was never mirrored: whoever pushes into it goes on.
    assert cohort.commands.push(Export([[Row("u9999")]])).exit_status is ExitStatus.ACCEPTED
    real = cohort.carry_out(MirrorRun(frozenset(UIDS[:3])))
    assert real.result is not None
    assert real.result.accounts.to_dict()["add"]["planned"] == 3


def test_a_guard_stops_a_shadow_too(cohort: Cohort) -> None:
    cohort.commands.guards = GuardSettings(max_removals=2)
    cohort.commands.mirror(UIDS, is_shadow=True)
    blocked = cohort.commands.mirror(UIDS[3:], is_shadow=True)
    assert blocked.exit_status is ExitStatus.GUARDED
    shadow = cohort.commands.in_session(lambda store: store.generations(), shadow=True)
    assert [generation.members for generation in shadow] == [len(UIDS)]


def test_a_plan_in_the_shadow_is_never_applied(cohort: Cohort) -> None:
    shadow = cohort.commands.mirror(UIDS[:8], is_shadow=True)
    assert shadow.result is not None
    assert shadow.result.accounts.run is not None
    refused = cohort.commands.apply(shadow.result.accounts.run)
    assert refused.exit_status is ExitStatus.USAGE
    assert not cohort.scripted_server.arrived


def test_a_rollback_makes_the_cohort_what_it_was(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    cohort.carry_out(MirrorRun(frozenset(UIDS[4:12]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    before = len(cohort.scripted_server.arrived)
    ended = cohort.commands.rollback(1)
    assert ended.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:6])
    actions = [action for action, _ in sent_since(cohort, before)]
    assert actions == ["remove_members", "remove_members", "add_members", "add_members"]
    newest = cohort.commands.in_session(lambda store: store.generations())[0]
    assert (newest.number, newest.members) == (3, 6)


def test_a_rollback_is_guarded(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:2])))
    cohort.carry_out(MirrorRun(frozenset(UIDS), pause=SETTLE))
    cohort.commands.guards = GuardSettings(max_removals=3)
    before = len(cohort.scripted_server.arrived)
    blocked = cohort.commands.rollback(1)
    assert blocked.exit_status is ExitStatus.GUARDED
    assert len(cohort.scripted_server.arrived) == before
    lifted = cohort.commands.rollback(
        1, allowances=[Allowance.parse("removals=12")], reason="a bad export"
    )
    assert lifted.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:2])


def test_a_rollback_to_nowhere_is_reported(cohort: Cohort) -> None:
    assert cohort.commands.rollback(1).exit_status is ExitStatus.USAGE
    cohort.commands.in_session(lambda store: adopt(store, UIDS[:3]))
    nameless = cohort.commands.rollback(1)
    assert nameless.exit_status is ExitStatus.USAGE
    assert nameless.error is not None
    assert nameless.error.hint == "pass --cohort-name"
