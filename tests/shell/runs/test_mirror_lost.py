"""Files that are lost, and flags that forget: noticed before anything is sent."""

import shutil
from pathlib import Path

import pytest
from ledger_entries import rows
from listed_members import adopt, reconcile
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from scripted_server import Play, failure
from whole_push import Death, DiedError

from engine.errors import ExitStatus, SourceError
from engine.model.cohort import Action
from engine.planning.guards import Allowance
from engine.planning.settings import GuardSettings
from engine.runs import transfer
from engine.snapshot.settings import MirrorSettings
from exports import Export, Row
from virtual_time import BOOT_UTC_NS

A, B, C, D, E, F = UIDS[:6]
DAY_NS = 86_400 * 10**9


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


@pytest.mark.parametrize("flag", [{"assume_empty": True}, {"trust": 1}])
@pytest.mark.parametrize("how", ["planned", "blocked"])
def test_what_is_not_sent_forgets_nothing(
    cohort: Cohort, flag: dict[str, object], how: str
) -> None:
    for wanted in ([A, B], [B, C]):
        cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE))
    if how == "blocked":
        cohort.commands.guards = GuardSettings(expected_size=[5, 9])
    ended = cohort.commands.mirror([C], sends=how == "blocked", **flag)
    assert ended.exit_status is (ExitStatus.GUARDED if how == "blocked" else ExitStatus.ACCEPTED)
    if ended.result is not None and ended.result.accounts.run is not None:
        assert cohort.commands.apply(ended.result.accounts.run).exit_status is ExitStatus.USAGE
    cohort.commands.guards = GuardSettings()
    cohort.carry_out(MirrorRun(frozenset([C, D]), pause=SETTLE))
    assert cohort.members() == {C, D}


def test_a_ledger_that_was_moved_away_is_noticed_by_the_snapshots(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    [file] = cohort.snapshots
    before, content = len(cohort.scripted_server.arrived), file.read_bytes()
    for path in cohort.commands.ledger.parent.glob("ledger.sqlite*"):
        path.unlink()
    noticed = cohort.commands.mirror([B])
    assert noticed.exit_status is ExitStatus.USAGE
    assert noticed.error is not None
    assert "snapshot import" in str(noticed.error.hint)
    assert len(cohort.scripted_server.arrived) == before
    assert file.read_bytes() == content
    cohort.commands.in_session(lambda store: transfer.import_snapshot(store, file, "here"))
    cohort.carry_out(MirrorRun(frozenset([B]), pause=SETTLE))
    assert cohort.members() == {B}


def test_a_ledger_that_is_one_run_old_is_noticed_by_the_snapshots(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    backup = cohort.commands.ledger.read_bytes()
    cohort.carry_out(MirrorRun(frozenset([A, B, C]), pause=SETTLE))
    for path in cohort.commands.ledger.parent.glob("ledger.sqlite*"):
        path.unlink()
    cohort.commands.ledger.write_bytes(backup)
    cohort.commands.machine.pause(SETTLE)
    before = len(cohort.scripted_server.arrived)
    for command in (cohort.commands.mirror([A, B]), cohort.commands.push(Export([[Row(D)]]))):
        assert command.exit_status is ExitStatus.USAGE
    assert len(cohort.scripted_server.arrived) == before
    cohort.commands.in_session(
        lambda store: transfer.import_snapshot(store, cohort.snapshots[-1], "here"),
        catches_up=False,
    )
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    assert cohort.members() == {A, B}


def test_a_push_does_not_take_a_lost_ledger_for_a_cohort_that_was_never_mirrored(
    cohort: Cohort,
) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    for path in cohort.commands.ledger.parent.glob("ledger.sqlite*"):
        path.unlink()
    before = len(cohort.scripted_server.arrived)
    assert cohort.commands.push(Export([[Row(C)]])).exit_status is ExitStatus.USAGE
    assert len(cohort.scripted_server.arrived) == before


@pytest.mark.parametrize("when", ["before", "inside", "after"])
@pytest.mark.parametrize("step", ["intend_to_make", "enter"])
def test_a_death_while_a_list_is_adopted_is_no_lost_ledger(
    cohort: Cohort, when: str, step: str
) -> None:
    death = Death(f"{when} {step}")
    with pytest.raises(DiedError):
        cohort.commands.in_session(lambda store: adopt(store, [A, B]), death=death)
    cohort.commands.in_session(lambda store: adopt(store, [A, B]))
    cohort.carry_out(MirrorRun(frozenset([B, C]), pause=SETTLE))
    assert cohort.members() == {B, C}


def test_a_plan_that_a_guard_blocks_cannot_be_applied_though_its_process_died(
    cohort: Cohort,
) -> None:
    cohort.commands.guards = GuardSettings(small_cohort=3)
    cohort.carry_out(MirrorRun(frozenset(UIDS[:10]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    assert cohort.commands.mirror(UIDS[:2], death=Death("after enter_plan", 1)).died
    [(run,)] = rows(cohort.commands.ledger, "SELECT name FROM run ORDER BY run DESC LIMIT 1")
    before = len(cohort.scripted_server.arrived)
    assert cohort.commands.apply(run).exit_status is ExitStatus.USAGE
    assert len(cohort.scripted_server.arrived) == before


def test_a_plan_whose_files_are_no_longer_what_they_were_sends_nothing(cohort: Cohort) -> None:
    plans = [cohort.commands.mirror(wanted, sends=False) for wanted in ([A, B], [C, D])]
    runs = [str(plan.result.accounts.run) for plan in plans if plan.result]
    [theirs, ours] = [
        cohort.commands.ledger.parent / "plans" / run / "adds.parquet" for run in runs
    ]
    if theirs.exists():
        shutil.copyfile(theirs, ours)
    else:  # Only the latest plan is kept.
        ours.write_bytes(ours.read_bytes()[:-1])
    refused = cohort.commands.apply(runs[1])
    assert refused.exit_status is ExitStatus.USAGE
    assert "are not what they were" in str(refused.error)
    assert not cohort.scripted_server.arrived


def test_an_imported_snapshot_is_not_overruled_by_what_was_sent_before_it(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    file = cohort.snapshots[-1]
    elsewhere = cohort.commands.folder / "elsewhere.parquet"
    elsewhere.write_bytes(file.read_bytes())
    cohort.commands.machine.pause(SETTLE)
    # Dead before its fold; then another machine takes C out, and its snapshot is brought back.
    assert cohort.commands.mirror([A, B, C], death=Death("before unfolded", 2)).died
    assert cohort.members() == {A, B, C}
    cohort.scripted_server.members -= {C}
    cohort.commands.machine.pause(SETTLE)
    cohort.commands.in_session(
        lambda store: transfer.import_snapshot(store, elsewhere, "here"), catches_up=False
    )
    cohort.commands.mirror([A, B, C])
    assert cohort.members() == {A, B, C}


def test_a_plan_on_an_assumed_snapshot_ends_well_though_the_last_is_lost(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    assert cohort.commands.mirror([A, C], death=Death("arrived", 1)).died
    cohort.snapshots[-1].unlink()
    planned = cohort.commands.mirror([A, C], sends=False, assume_empty=True)
    assert planned.exit_status is ExitStatus.ACCEPTED


def test_a_stray_file_among_the_snapshots_is_none(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    [file] = cohort.snapshots
    file.with_name("000001-backup.parquet").write_bytes(file.read_bytes())
    cohort.carry_out(MirrorRun(frozenset([B]), pause=SETTLE))
    assert cohort.members() == {B}


def test_a_leftover_that_may_not_be_deleted_stops_nobody(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.parent.name == "someone":
            raise PermissionError
        real(path, missing_ok=missing_ok)

    assert cohort.commands.mirror([A], sends=False).error is None
    left = cohort.commands.ledger.parent / "plans" / "someone"
    left.mkdir(parents=True)
    (left / "export.parquet").touch()
    monkeypatch.setattr(Path, "unlink", unlink)
    assert cohort.commands.mirror([A], sends=False).error is None


def test_what_may_have_been_added_is_not_let_pass_twice(cohort: Cohort) -> None:
    cohort.commands.guards = GuardSettings(small_cohort=3)
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6]), pause=SETTLE))
    answers = ("500 applied",) * 9
    half = cohort.carry_out(MirrorRun(frozenset(UIDS[:9]), replies=answers, pause=SETTLE))
    assert half.exit_status is ExitStatus.INCOMPLETE
    # Three may be in, and count as members; five more are more than half of nine.
    more = cohort.carry_out(MirrorRun(frozenset(UIDS), pause=SETTLE))
    assert more.exit_status is ExitStatus.GUARDED


def test_a_plan_is_out_of_date_once_a_push_has_been_at_the_cohort(cohort: Cohort) -> None:
    planned = cohort.commands.mirror([A, B], sends=False)
    assert planned.result is not None
    cohort.commands.push(Export([[Row(C)]]))
    before = len(cohort.scripted_server.arrived)
    refused = cohort.commands.apply(str(planned.result.accounts.run))
    assert refused.exit_status is ExitStatus.USAGE
    assert len(cohort.scripted_server.arrived) == before


def test_a_push_that_no_snapshot_knows_of_is_reported_until_it_is_adopted(cohort: Cohort) -> None:
    cohort.commands.push(Export([[Row(C)]]))
    output: list[int] = []
    for wanted in ([A], [A, B]):
        cohort.commands.machine.pause(SETTLE)
        cohort.commands.mirror(wanted, planned=lambda plan: output.append(len(plan["notes"])))
    cohort.commands.in_session(lambda store: adopt(store, [C]))
    cohort.commands.machine.pause(SETTLE)
    cohort.commands.mirror([A], planned=lambda plan: output.append(len(plan["notes"])))
    assert output == [1, 1, 0]
    assert cohort.members() == {A}


def test_uids_of_a_plan_that_are_lost_are_noticed(cohort: Cohort) -> None:
    assert cohort.commands.mirror([A, B], death=Death("arrived", 1)).died
    for folder in (cohort.commands.ledger.parent / "plans").iterdir():
        shutil.rmtree(folder)
    cohort.commands.machine.pause(SETTLE)
    noticed = cohort.commands.mirror([C])
    assert noticed.exit_status is ExitStatus.USAGE
    assert noticed.error is not None
    assert "--assume-empty" in str(noticed.error.hint)
    assert cohort.members() == {A, B}


def test_a_push_on_a_lost_snapshot_sends_nothing(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    cohort.snapshots[-1].unlink()
    before = len(cohort.scripted_server.arrived)
    refused = cohort.commands.push(Export([[Row(C)]]), records=True)
    assert refused.exit_status is ExitStatus.USAGE
    assert len(cohort.scripted_server.arrived) == before


def test_a_first_run_that_died_makes_the_cohort_a_mirrored_one(cohort: Cohort) -> None:
    assert cohort.commands.mirror([A], death=Death("arrived", 1)).died
    assert cohort.commands.push(Export([[Row(C)]])).exit_status is ExitStatus.USAGE


def test_the_snapshots_are_listed_though_the_last_is_lost(cohort: Cohort) -> None:
    for wanted in ([A, B], [A, C]):
        cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE))
    assert cohort.commands.mirror([A, D], death=Death("arrived", 1)).died
    cohort.snapshots[-1].unlink()
    [(last, wrong), (first, whole)] = cohort.commands.look(lambda store: store.verify_all())
    assert (last.number, first.number) == (2, 1)
    assert wrong is not None
    assert "cannot be read" in wrong
    assert whole is None


def test_trust_shows_what_was_brought_since(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A]), pause=SETTLE))
    cohort.commands.in_session(lambda store: adopt(store, [F]))
    cohort.snapshots[-1].unlink()
    plans: list[dict[str, list[str]]] = []
    cohort.commands.machine.pause(SETTLE)
    cohort.commands.mirror([A, B], trust=1, planned=plans.append)
    [note] = plans[0]["notes"]
    assert "generation 2, by adopt, is not in generation 1" in note


def test_going_on_with_a_push_undoes_no_reconciliation(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    export = Export([[Row(uid) for uid in UIDS[1:10]]])
    assert cohort.commands.push(export, records=True, death=Death("begun", 3)).died
    cohort.commands.machine.pause(SETTLE)
    cohort.scripted_server.members -= {B}  # by hand
    real = sorted(cohort.scripted_server.members)
    cohort.commands.in_session(lambda store: reconcile(store, real))
    cohort.commands.push(export, records=True)
    cohort.carry_out(MirrorRun(frozenset(UIDS[:10]), pause=SETTLE))
    assert cohort.members() == set(UIDS[:10])


def test_a_list_of_nobody_is_not_taken(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    for take in (adopt, reconcile):
        with pytest.raises(SourceError, match="no uid"):
            cohort.commands.in_session(lambda store, take=take: take(store, []))  # type: ignore[misc] # a default is bound


@pytest.mark.parametrize("how", ["signal", "death", "canary"])
def test_a_first_run_that_stopped_halfway_goes_on(cohort: Cohort, how: str) -> None:
    cohort.commands.guards = GuardSettings(small_cohort=3)
    if how == "signal":
        assert cohort.commands.mirror(UIDS, stops_at=(0.25,)).exit_status is ExitStatus.INCOMPLETE
    elif how == "death":
        assert cohort.commands.mirror(UIDS, death=Death("begun", 3)).died
    else:
        planned = cohort.commands.mirror(UIDS, sends=False)
        assert planned.result is not None
        assert planned.result.accounts.run is not None
        cohort.commands.apply(planned.result.accounts.run, first=4)
    again = cohort.commands.mirror(UIDS)
    assert again.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS)


def test_what_was_let_pass_once_is_no_leave_for_more(cohort: Cohort) -> None:
    cohort.commands.guards = GuardSettings(small_cohort=3)
    cohort.commands.mirror(UIDS[:8], stops_at=(0.25,))
    blocked = cohort.commands.mirror([f"x{number:04}" for number in range(30)])
    assert blocked.exit_status is ExitStatus.GUARDED
    assert blocked.result is not None
    assert "were allowed in an earlier run" in str(blocked.result.accounts.reason)


def test_a_clock_that_ran_ahead_bars_no_later_run(cohort: Cohort) -> None:
    cohort.commands.mirror([A, B], written_utc_ns=BOOT_UTC_NS + 365 * DAY_NS)
    for day in range(1, 4):
        cohort.commands.machine.pause(86_400)
        mirror_run = cohort.commands.mirror([A, B], written_utc_ns=BOOT_UTC_NS + day * DAY_NS)
        assert mirror_run.exit_status is ExitStatus.ACCEPTED


def test_an_older_export_that_was_let_through_sets_the_mark(cohort: Cohort) -> None:
    lifted = {"allowances": [Allowance.parse("older")], "reason": "the right one"}
    cohort.commands.mirror([A, B], written_utc_ns=BOOT_UTC_NS + 9)
    cohort.commands.mirror([A, B], written_utc_ns=BOOT_UTC_NS + 5, **lifted)
    again = cohort.commands.mirror([A, B], written_utc_ns=BOOT_UTC_NS + 6)
    assert again.exit_status is ExitStatus.ACCEPTED


def test_a_run_that_the_api_refused_is_no_measure(cohort: Cohort) -> None:
    cohort.scripted_server.script = lambda _: Play(
        401, failure("App Secret key mismatch."), applied_after=None
    )
    refused = cohort.commands.mirror([A, B], written_utc_ns=BOOT_UTC_NS + 9)
    assert refused.exit_status is ExitStatus.REFUSED
    cohort.scripted_server.script = lambda _: Play()
    right = cohort.commands.mirror(["1", "2", "3"], written_utc_ns=BOOT_UTC_NS + 5)
    assert right.exit_status is ExitStatus.ACCEPTED


def test_plans_that_nobody_can_need_are_dropped(cohort: Cohort) -> None:
    cohort.commands.mirroring = MirrorSettings(settle_seconds=0.0, keep_generations=2)
    cohort.carry_out(MirrorRun(frozenset(UIDS)))
    cohort.commands.guards = GuardSettings(max_removals=2)
    for _ in range(6):
        cohort.commands.mirror(UIDS[4:])
        cohort.commands.mirror(UIDS, is_shadow=True)
        cohort.commands.mirror(UIDS[1:], sends=False, death=Death("before enter_rows_read"))
    cohort.commands.guards = GuardSettings()
    cohort.commands.mirror(UIDS[1:])
    left = list((cohort.commands.ledger.parent / "plans").iterdir())
    assert len(left) <= 4


@pytest.mark.parametrize("trouble", ["rejected", "unconfirmed"])
def test_a_part_of_a_plan_ends_as_it_went(cohort: Cohort, trouble: str) -> None:
    planned = cohort.commands.mirror(UIDS, sends=False)
    assert planned.result is not None
    assert planned.result.accounts.run is not None
    plan = planned.result.accounts.run
    if trouble == "rejected":
        cohort.scripted_server.poison = frozenset(UIDS)
        ended = cohort.commands.apply(plan, first=2)
        assert ended.exit_status is ExitStatus.PARTIAL
    else:
        cohort.scripted_server.script = lambda _: Play(500, applied_after=None)
        ended = cohort.commands.apply(plan, first=3)
        assert ended.exit_status is ExitStatus.INCOMPLETE
    assert ended.result is not None
    assert ended.result.accounts.status == "canary"


def test_a_plan_that_was_stopped_is_made_anew(cohort: Cohort) -> None:
    planned = cohort.commands.mirror(UIDS, sends=False)
    assert planned.result is not None
    assert planned.result.accounts.run is not None
    stopped = cohort.commands.apply(planned.result.accounts.run, stops_at=(0.25,))
    assert stopped.exit_status is ExitStatus.INCOMPLETE
    assert stopped.result is not None
    assert "make a new plan" in str(stopped.result.hint)
    again = cohort.commands.apply(planned.result.accounts.run)
    assert again.error is not None
    assert "is closed" in again.error.message


def test_an_adopted_list_is_no_growth_of_the_audience(cohort: Cohort) -> None:
    cohort.commands.guards = GuardSettings(small_cohort=3)
    cohort.commands.in_session(lambda store: adopt(store, UIDS))
    cohort.commands.machine.pause(SETTLE)
    assert cohort.commands.mirror(UIDS).exit_status is ExitStatus.ACCEPTED
    cohort.commands.guards = GuardSettings(small_cohort=3, max_removals=0.5)
    assert cohort.commands.mirror(UIDS[8:]).exit_status is ExitStatus.GUARDED


def test_a_part_is_removed_by_a_push(cohort: Cohort) -> None:
    push = cohort.commands.push(Export([[Row(A)]]), Action.REMOVE, records=True)
    assert push.exit_status is ExitStatus.ACCEPTED
