"""Nights of mirrors in virtual time: faults, crashes, drains, and an API that applies late.

The server keeps its own members. After any run without faults, and once everything is applied,
they are what that run's export wanted: no older decision survives a newer one.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from mirror_nights import fine_runs, mirror_runs, rows_of_changes
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from whole_push import Death, Ended

from engine.errors import ExitStatus
from engine.ledger.sqlite.reader import LedgerReader
from engine.model.cohort import Action
from engine.planning.guards import Allowance
from engine.planning.settings import GuardSettings
from engine.report.accounts_from_ledger import account
from engine.snapshot.settings import MirrorSettings
from exports import Export, Row


@given(
    st.lists(st.one_of(mirror_runs, fine_runs), max_size=4),
    fine_runs,
    st.sampled_from([10**9, 2, 1]),
    st.sampled_from([0, 0, 1, 3]),
)
@settings(max_examples=settings().max_examples // 2)
def test_after_a_fault_free_run_the_members_are_the_export(
    troubled: list[MirrorRun], last: MirrorRun, most_uids: int, resend_over_nights: int
) -> None:
    with TemporaryDirectory() as name:
        cohort = Cohort(Path(name), most_uids=most_uids, resend_over_nights=resend_over_nights)
        for mirror_run in troubled:
            ended = cohort.carry_out(mirror_run)
            event("died" if ended.died else f"exit {int(ended.exit_status or 0)}")
        ended = cohort.carry_out(last)
        assert ended.exit_status is ExitStatus.ACCEPTED
        assert cohort.members() == last.wanted


@given(
    st.lists(mirror_runs, max_size=3),
    st.lists(st.tuples(fine_runs, rows_of_changes), min_size=1, max_size=3),
    st.frozensets(st.sampled_from(UIDS)),
)
@settings(max_examples=settings().max_examples // 10)
def test_after_fault_free_lists_of_changes_each_uid_is_as_its_last_row_says(
    troubled: list[MirrorRun],
    nights: list[tuple[MirrorRun, tuple[tuple[str, Action], ...]]],
    others: frozenset[str],
) -> None:
    with TemporaryDirectory() as name:
        cohort = Cohort(Path(name))
        # Somebody else has added some before, of whom no snapshot knows.
        cohort.scripted_server.members |= others
        for mirror_run in troubled:
            cohort.carry_out(mirror_run)
        said: dict[str, Action] = {}
        for night, says in nights:
            ended = cohort.carry_out(replace(night, says=says))
            assert ended.exit_status is ExitStatus.ACCEPTED
            said |= says
        members = cohort.members()
        assert {uid: uid in members for uid in said} == {
            uid: said[uid] is Action.ADD for uid in said
        }
        if not troubled:
            assert members - said.keys() == others - said.keys()


@given(st.lists(mirror_runs, max_size=3), fine_runs, st.sampled_from(UIDS))
@settings(max_examples=settings().max_examples // 4)
def test_a_rejected_uid_costs_nobody_else(
    troubled: list[MirrorRun], last: MirrorRun, poison: str
) -> None:
    with TemporaryDirectory() as name:
        cohort = Cohort(Path(name), frozenset({poison}))
        for mirror_run in (*troubled, last):
            ended = cohort.carry_out(mirror_run)
        assert ended.exit_status in {ExitStatus.ACCEPTED, ExitStatus.PARTIAL}
        assert cohort.members() == last.wanted - {poison}
        again = cohort.carry_out(last)  # It is known by now, and makes no run fail.
        assert again.exit_status is ExitStatus.ACCEPTED
        assert again.result is not None
        accounts = again.result.accounts
        assert accounts.requests.sent == 0
        assert accounts.mirror is not None
        assert accounts.uids.rejected == accounts.mirror.known_rejects
        # After a 500 and a 400 nobody can know: where it is not wanted, it is removed, in vain.
        assert accounts.mirror.add.rejected == (poison in last.wanted)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def accounts_of(ended: Ended) -> dict[str, object]:
    assert ended.result is not None
    return ended.result.accounts.to_dict()


def test_the_accounts_of_a_mirror_that_died_before_its_plan_balance(cohort: Cohort) -> None:
    assert cohort.commands.mirror(UIDS, death=Death("before enter_plan", 1)).died
    with LedgerReader.open(cohort.commands.ledger) as ledger:
        [name] = ledger.history.names()
        accounts = account(ledger.history.record(name))
    rows = accounts.to_dict()["rows"]
    assert rows["read"] == rows["undecided"] == len(UIDS)
    assert accounts.imbalance is None


def test_a_second_run_sends_only_what_changed(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:10])))
    cohort.commands.machine.pause(SETTLE)
    before = len(cohort.scripted_server.arrived)
    document = accounts_of(cohort.carry_out(MirrorRun(frozenset(UIDS[1:11]))))
    sent = cohort.scripted_server.arrived[before:]
    assert [(request.action, request.uids) for request in sent] == [
        ("remove_members", (UIDS[0],)),
        ("add_members", (UIDS[10],)),
    ]
    assert document["rows"] == {
        "read": 10,
        "blank": 0,
        "invalid": 0,
        "excluded": 0,
        "duplicate": 0,
        "unchanged": 9,
        "undecided": 0,
    }
    assert "uids" not in document
    assert document["add"] == {
        "planned": 1,
        "accepted": 1,
        "rejected": 0,
        "unconfirmed": 0,
        "pending": 0,
    }


def test_a_reversal_waits_until_the_earlier_change_has_settled(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:4])))
    first = cohort.scripted_server.arrived[0].at
    before = len(cohort.scripted_server.arrived)
    cohort.carry_out(MirrorRun(frozenset([*UIDS[1:4], UIDS[9]])))
    added, removed = cohort.scripted_server.arrived[before:]
    assert (added.action, removed.action) == ("add_members", "remove_members")
    assert added.at < first + SETTLE <= removed.at


def test_nothing_is_sent_when_a_guard_blocks(cohort: Cohort) -> None:
    cohort.commands.guards = GuardSettings(max_removals=2)
    cohort.carry_out(MirrorRun(frozenset(UIDS)))
    before = len(cohort.scripted_server.arrived)
    blocked = cohort.commands.mirror(UIDS[3:])
    assert blocked.exit_status is ExitStatus.GUARDED
    assert blocked.result is not None
    assert "removals: 3 removals" in str(blocked.result.accounts.reason)
    assert "--allow removals=3" in str(blocked.result.hint)
    assert len(cohort.scripted_server.arrived) == before
    assert cohort.members() == set(UIDS)
    lifted = cohort.commands.mirror(
        UIDS[3:], allowances=[Allowance.parse("removals=3")], reason="spring"
    )
    assert lifted.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[3:])


def test_a_plan_is_sent_in_parts_as_it_was_made(cohort: Cohort) -> None:
    planned = cohort.commands.mirror(UIDS, sends=False)
    assert planned.exit_status is ExitStatus.ACCEPTED
    assert not cohort.scripted_server.arrived
    document = accounts_of(planned)
    assert document["status"] == "planned"
    plan = str(document["run"])
    canary = cohort.commands.apply(plan, first=4)
    assert accounts_of(canary)["status"] == "canary"
    assert len(cohort.members()) == 4
    rest = cohort.commands.apply(plan)
    assert accounts_of(rest)["status"] == "finished"
    assert rest.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS)
    sent = [uid for request in cohort.scripted_server.arrived for uid in request.uids]
    assert sorted(sent) == UIDS
    done = cohort.commands.apply(plan)
    assert done.exit_status is ExitStatus.USAGE


def test_a_plan_is_refused_once_the_snapshot_has_moved(cohort: Cohort) -> None:
    plan = str(accounts_of(cohort.commands.mirror(UIDS, sends=False))["run"])
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5])))
    before = len(cohort.scripted_server.arrived)
    refused = cohort.commands.apply(plan)
    assert refused.exit_status is ExitStatus.USAGE
    assert refused.error is not None
    assert "out of date" in refused.error.message
    assert len(cohort.scripted_server.arrived) == before


@pytest.mark.parametrize("harm", ["lost", "corrupt"])
def test_a_snapshot_that_is_lost_is_noticed_before_anything_is_sent(
    cohort: Cohort, harm: str
) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    cohort.commands.machine.pause(SETTLE)
    cohort.carry_out(MirrorRun(frozenset(UIDS[2:8])))
    cohort.commands.machine.pause(SETTLE)
    _, last = cohort.snapshots
    if harm == "lost":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:-9])
    before = len(cohort.scripted_server.arrived)
    noticed = cohort.commands.mirror(UIDS[3:9])
    assert noticed.exit_status is ExitStatus.USAGE
    assert noticed.error is not None
    assert "--trust" in str(noticed.error.hint)
    assert len(cohort.scripted_server.arrived) == before
    trusted = cohort.commands.mirror(UIDS[3:9], trust=1)
    assert trusted.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[3:9])


@pytest.mark.parametrize("step", ["intend_to_make", "enter"])
@pytest.mark.parametrize("when", ["before", "inside", "after"])
def test_a_death_while_an_older_snapshot_is_trusted_trusts_all_or_nothing(
    cohort: Cohort, when: str, step: str
) -> None:
    for wanted in (UIDS[:6], UIDS[2:8], UIDS[4:9]):
        cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE))
    cohort.snapshots[-1].unlink()
    died = cohort.commands.mirror(UIDS[5:11], trust=1, death=Death(f"{when} {step}"))
    assert died.died
    goes_on = {} if (when, step) == ("after", "enter") else {"trust": 1}
    again = cohort.commands.mirror(UIDS[5:11], **goes_on)
    assert again.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[5:11])


def test_an_empty_snapshot_adds_everything_and_removes_nothing(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    cohort.snapshots[-1].unlink()
    again = cohort.commands.mirror(UIDS[3:9], assume_empty=True)
    assert again.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == set(UIDS[:9])


def test_a_push_to_a_mirrored_cohort_is_refused(cohort: Cohort) -> None:

    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    before = len(cohort.scripted_server.arrived)
    refused = cohort.commands.push(Export([[Row("u9999")]]))
    assert refused.exit_status is ExitStatus.USAGE
    assert len(cohort.scripted_server.arrived) == before


def test_old_snapshots_and_plans_are_dropped(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path)
    cohort.commands.mirroring = MirrorSettings(settle_seconds=1.0, keep_generations=2)
    for start in range(5):
        cohort.carry_out(MirrorRun(frozenset(UIDS[start : start + 5])))
    assert [path.stem for path in cohort.snapshots] == ["000004", "000005"]
    assert len(list((cohort.commands.ledger.parent / "plans").iterdir())) == 2
    assert cohort.members() == set(UIDS[4:9])
