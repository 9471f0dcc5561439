"""Runs whose export is a list of changes: what they send, what they leave alone, what is known."""

from dataclasses import replace
from pathlib import Path

import pytest
from listed_members import reconcile
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from whole_push import COHORT, PARTNER, ExportSource, ListOfChanges

from engine.errors import ExitStatus
from engine.model.cohort import Action, CohortKey
from engine.report.accounts import Accounts
from engine.report.why import find_uid
from exports import Export, Row

A, B, C, D, E = UIDS[:5]
ADD, REMOVE = Action.ADD, Action.REMOVE


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path, resend_over_nights=1)


def follow(cohort: Cohort, **says: Action) -> Accounts:
    """Carry out a night with a list of changes; return its accounts."""
    ended = cohort.carry_out(MirrorRun(frozenset(), says=tuple(says.items()), pause=SETTLE))
    assert ended.exit_status is ExitStatus.ACCEPTED
    assert ended.result is not None
    return ended.result.accounts


def mirrored(cohort: Cohort, *wanted: str) -> Accounts:
    ended = cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE))
    assert ended.exit_status is ExitStatus.ACCEPTED
    assert ended.result is not None
    return ended.result.accounts


def notes_of(accounts: Accounts) -> str:
    assert accounts.mirror is not None
    return "; ".join(accounts.mirror.notes)


def test_uids_without_a_row_stay_and_nothing_is_sent_again(cohort: Cohort) -> None:
    cohort.scripted_server.members |= {D, E}
    accounts = follow(cohort, **{A: ADD, B: ADD, D: REMOVE})
    assert cohort.members() == {A, B, E}
    assert (accounts.uids.accepted, accounts.requests.sent) == (3, 2)
    again = follow(cohort, **{A: ADD, B: ADD})
    assert again.requests.sent == 0  # Members are not sent over nights, either.
    nothing = follow(cohort)
    assert (nothing.rows.read, nothing.requests.sent) == (0, 0)
    assert cohort.members() == {A, B, E}


def test_a_night_without_changes_does_not_forget_the_form_of_the_uids(cohort: Cohort) -> None:
    follow(cohort, **{A: ADD, B: ADD})
    follow(cohort)
    night = MirrorRun(frozenset(), says=(("somebody@example.com", ADD),), pause=SETTLE)
    ended = cohort.carry_out(night)
    assert ended.exit_status is ExitStatus.GUARDED
    assert ended.result is not None
    assert str(ended.result.accounts.reason).startswith("shape: ")


@pytest.mark.parametrize("reply", ["500", "500 applied"])
def test_a_remove_of_an_unknown_uid_whose_outcome_is_unknown_is_sent_again(
    cohort: Cohort, reply: str
) -> None:
    cohort.scripted_server.members |= {A}
    night = MirrorRun(frozenset(), says=((A, REMOVE),), pause=SETTLE)
    ended = cohort.carry_out(replace(night, replies=(reply,) * 3))
    assert ended.exit_status is ExitStatus.INCOMPLETE
    before = len(cohort.scripted_server.arrived)
    assert cohort.carry_out(night).exit_status is ExitStatus.ACCEPTED
    assert len(cohort.scripted_server.arrived) > before
    assert A not in cohort.members()


def test_an_excluded_uid_is_not_added_and_is_removed_if_it_is_known(cohort: Cohort) -> None:
    follow(cohort, **{A: ADD, B: ADD})
    cohort.scripted_server.members |= {D, E}
    cohort.commands.machine.pause(SETTLE)
    listed = ExportSource(Export([[Row(A), Row(B), Row(C), Row(D)]]))
    rows = [(A, ADD), (C, ADD), (D, REMOVE), (E, ADD)]
    ended = cohort.commands.mirror(ListOfChanges(rows), exclude=listed)
    assert ended.exit_status is ExitStatus.ACCEPTED
    assert ended.result is not None
    accounts = ended.result.accounts
    assert accounts.rows.excluded == 1  # C, which no snapshot knows.
    assert cohort.members() == {B, E}  # B has no row.


def test_a_mirror_after_lists_of_changes_says_that_others_may_be_members(cohort: Cohort) -> None:
    cohort.scripted_server.members |= {E}
    follow(cohort, **{A: ADD, B: ADD})
    assert "members that no list has named stay" not in notes_of(follow(cohort, **{C: ADD}))
    assert cohort.commands.rollback(1).exit_status is ExitStatus.ACCEPTED
    assert why_member(cohort, D) == "unknown"
    accounts = mirrored(cohort, A, D)
    assert "members that no list has named stay" in notes_of(accounts)
    assert cohort.members() == {A, D, E}  # What no snapshot knows is not removed.
    assert why_member(cohort, C) == "out"
    assert notes_of(mirrored(cohort, A)) == ""
    follow(cohort, **{B: ADD})  # A complete snapshot stays so.
    assert why_member(cohort, D) == "out"


def test_a_list_of_all_members_makes_a_snapshot_complete(cohort: Cohort) -> None:
    cohort.scripted_server.members |= {D, E}
    follow(cohort, **{A: ADD})
    assert why_member(cohort, B) == "unknown"
    cohort.commands.machine.pause(SETTLE)
    cohort.commands.in_session(lambda store: reconcile(store, [A, D, E]))
    assert why_member(cohort, B) == "out"
    assert "members that no list" not in notes_of(mirrored(cohort, A, B))
    assert cohort.members() == {A, B}


def why_member(cohort: Cohort, uid: str) -> str:
    key = CohortKey(PARTNER, COHORT.id)
    answer = find_uid(cohort.commands.ledger.parent, key, uid)
    assert answer is not None
    return answer.membership
