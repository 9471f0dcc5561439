"""No older decision survives a newer one: what is applied late, and who may have sent it."""

from dataclasses import replace
from pathlib import Path

import pytest
from listed_members import adopt
from mirrored_cohort import SETTLE, UIDS, Cohort, Lateness, MirrorRun
from scripted_server import Play, Request

from engine.clock import Stamp
from engine.errors import ExitStatus, IncompleteError
from engine.model.cohort import Action
from engine.runs import transfer
from engine.snapshot.settings import MirrorSettings
from exports import Export, Row

A, B, C = UIDS[:3]
LATE = 600.0


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def mirror_late(cohort: Cohort, *wanted: str) -> None:
    """Mirror, once all has settled; the server applies it late."""
    cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE, lateness=(Lateness(LATE),) * 3))
    cohort.scripted_server.script = lambda _: Play()


def push_late(cohort: Cohort, uid: str, action: Action, play: Play, *, records: bool) -> None:
    cohort.commands.machine.pause(SETTLE)
    cohort.scripted_server.script = lambda _: play
    cohort.commands.push(Export([[Row(uid)]]), action, records=records)
    cohort.scripted_server.script = lambda _: Play()


@pytest.mark.parametrize("play", [Play(500, applied_after=LATE), Play(applied_after=LATE)])
def test_a_push_that_changes_nothing_is_waited_for_all_the_same(cohort: Cohort, play: Play) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    push_late(cohort, A, Action.ADD, play, records=True)
    cohort.carry_out(MirrorRun(frozenset([B]), pause=1.0))
    assert cohort.members() == {B}


@pytest.mark.parametrize("play", [Play(500, applied_after=LATE), Play(applied_after=LATE)])
def test_so_is_one_that_removes_who_was_not_in(cohort: Cohort, play: Play) -> None:
    cohort.carry_out(MirrorRun(frozenset([B]), pause=SETTLE))
    push_late(cohort, A, Action.REMOVE, play, records=True)
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=1.0))
    assert cohort.members() == {A, B}


def test_so_is_one_that_no_snapshot_follows(cohort: Cohort) -> None:
    cohort.scripted_server.members = {A, B}
    push_late(cohort, A, Action.REMOVE, Play(applied_after=LATE), records=False)
    assert cohort.commands.mirror([A, B]).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == {A, B}


def test_an_older_snapshot_that_is_trusted_waits_for_what_came_later(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    push_late(cohort, A, Action.ADD, Play(applied_after=LATE), records=True)
    cohort.snapshots[-1].unlink()
    assert cohort.commands.mirror([B], trust=1).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == {B}


def test_with_nothing_known_everything_waits_for_what_was_sent_lately(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    mirror_late(cohort, B)
    cohort.snapshots[-1].unlink()
    cohort.commands.machine.pause(60)
    assert cohort.commands.mirror([A, B], assume_empty=True).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == {A, B}


def test_what_another_script_may_have_added_to_a_member_is_waited_for(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    now = cohort.commands.machine.now_at_rest
    late = Play(applied_after=LATE)
    cohort.scripted_server.arrive(Request(99, now, "add_members", (A, C)), late)
    cohort.commands.in_session(lambda store: adopt(store, [A, C]))
    assert cohort.commands.mirror([B]).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == {B}


def test_a_step_of_the_wall_clock_settles_nothing(cohort: Cohort) -> None:
    machine = cohort.commands.machine
    late = Play(applied_after=LATE)
    cohort.scripted_server.arrive(Request(99, machine.now_at_rest, "add_members", (A,)), late)
    cohort.commands.in_session(lambda store: adopt(store, [A]))
    honest = machine.stamp

    def stepped() -> Stamp:
        stamp = honest()
        return replace(stamp, utc_ns=stamp.utc_ns + 3_600 * 10**9)

    machine.stamp = stepped  # type: ignore[method-assign] # the clock is an hour ahead now
    assert cohort.commands.mirror([B]).exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == {B}


def test_nothing_is_imported_over_what_was_sent_lately(cohort: Cohort, tmp_path: Path) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    file = tmp_path / "carried.parquet"
    cohort.commands.in_session(lambda store: transfer.export(store, file, None, "here"))
    mirror_late(cohort, B)
    with pytest.raises(IncompleteError, match="not have been applied"):
        cohort.commands.in_session(lambda store: transfer.import_snapshot(store, file, "here"))


def test_a_plan_waits_for_what_was_sent_since_it_was_made(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    planned = cohort.commands.mirror([B], sends=False)
    assert planned.result is not None
    assert planned.result.accounts.run is not None
    # A run that only sends members again makes no new generation.
    cohort.commands.mirroring = MirrorSettings(settle_seconds=SETTLE, resend_over_nights=1)
    cohort.scripted_server.script = lambda _: Play(applied_after=LATE)
    cohort.commands.mirror([A, B])
    cohort.scripted_server.script = lambda _: Play()
    applied = cohort.commands.apply(planned.result.accounts.run)
    assert applied.exit_status is ExitStatus.USAGE
    assert cohort.members() == {A, B}
