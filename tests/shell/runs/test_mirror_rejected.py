"""Uids that the API would not take: what they keep from being sent, and what not."""

import json
from pathlib import Path

import pytest
from ledger_entries import rows, tampering
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from scripted_server import Play, Request, failure

from engine.errors import ExitStatus
from engine.planning.comparison import OPERATION
from engine.report.history import open_run
from engine.snapshot.settings import MirrorSettings
from engine.storage.files import digest_of
from engine.storage.uid_parquet import read_batches, write_batches
from exports import Export, Row

A, B, C, D, E = UIDS[:5]
NAMELESS = Play(400, failure("bad"), applied_after=None)
NAMED = Play(400, failure("uid is not valid", "uid"), applied_after=None)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def test_a_refused_resend_keeps_no_remove_from_being_sent(cohort: Cohort) -> None:
    cohort.commands.mirroring = MirrorSettings(settle_seconds=SETTLE, resend_over_nights=1)
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.scripted_server.poison = frozenset([A])
    assert (
        cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE)).exit_status
        is ExitStatus.PARTIAL
    )
    cohort.scripted_server.poison = frozenset()
    cohort.carry_out(MirrorRun(frozenset([B]), pause=SETTLE))
    assert cohort.members() == {B}


def test_an_add_that_was_applied_before_it_was_refused_is_removed(cohort: Cohort) -> None:
    plays = iter([Play(500), NAMED])
    cohort.scripted_server.script = lambda _: next(plays, Play())
    assert cohort.commands.mirror([A]).exit_status is ExitStatus.PARTIAL
    cohort.carry_out(MirrorRun(frozenset([B]), pause=SETTLE))
    assert cohort.members() == {B}


def test_a_remove_that_was_applied_before_it_was_refused_is_added(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    plays = iter([Play(500), NAMED])
    cohort.scripted_server.script = lambda _: next(plays, Play())
    cohort.commands.mirror([B])
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    assert cohort.members() == {A, B}


def test_a_remove_that_was_refused_is_reported_each_run(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.scripted_server.poison = frozenset([A])
    assert (
        cohort.carry_out(MirrorRun(frozenset([B]), pause=SETTLE)).exit_status is ExitStatus.PARTIAL
    )
    again = cohort.carry_out(MirrorRun(frozenset([B]), pause=SETTLE))
    assert again.exit_status is ExitStatus.ACCEPTED
    assert again.result is not None
    document = again.result.accounts.to_dict()
    assert (document["remove"]["planned"], document["remove"]["rejected"]) == (1, 1)
    assert document["known_rejects"] == 1


def test_a_lone_refusal_that_names_nothing_stops_no_other_operation(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B, C]), pause=SETTLE))

    def script(request: Request) -> Play:
        return NAMELESS if A in request.uids else Play()

    cohort.scripted_server.script = script
    cohort.commands.machine.pause(SETTLE)
    mirror_run = cohort.commands.mirror([B, C, D, E])
    assert mirror_run.exit_status is ExitStatus.PARTIAL
    assert cohort.members() == set(UIDS[:5])
    cohort.commands.machine.pause(SETTLE)
    assert cohort.commands.mirror([B, C, D, E]).exit_status is ExitStatus.ACCEPTED


def test_a_reject_that_is_tried_again_alone_is_no_failure(cohort: Cohort) -> None:
    cohort.scripted_server.script = lambda request: NAMELESS if A in request.uids else Play()
    assert cohort.commands.mirror([A, B, C]).exit_status is ExitStatus.PARTIAL
    for _ in range(3):
        cohort.commands.machine.pause(8 * 86_400)
        before = len(cohort.scripted_server.arrived)
        mirror_run = cohort.commands.mirror([A, B, C])
        assert mirror_run.exit_status is ExitStatus.ACCEPTED
        assert [request.uids for request in cohort.scripted_server.arrived[before:]] == [(A,)]


def test_a_lone_refusal_with_nothing_accepted_is_not_written_off(cohort: Cohort) -> None:
    cohort.scripted_server.script = lambda _: NAMELESS
    mirror_run = cohort.commands.mirror([A])
    assert mirror_run.exit_status is ExitStatus.REFUSED
    assert mirror_run.result is not None
    assert mirror_run.result.accounts.to_dict()["add"]["rejected"] == 0


def rejected_in(cohort: Cohort) -> list[tuple[str, int, str]]:
    """Return file, record and uid of each rejection of the last run."""
    query = (
        "SELECT file, record, uid FROM rejected WHERE run = (SELECT max(run) FROM run) ORDER BY uid"
    )
    return rows(cohort.commands.ledger, query)


def test_a_rejected_add_is_found_in_the_export_and_a_remove_in_the_plan(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset([A, B]), pause=SETTLE))
    cohort.commands.machine.pause(SETTLE)
    cohort.scripted_server.poison = frozenset([A, D])
    export = Export([[Row(B), Row(C)], [Row(C), Row(D), Row(E), Row(D)]])
    assert cohort.commands.mirror(export).exit_status is ExitStatus.PARTIAL
    assert rejected_in(cohort) == [("removes", 1, A), ("file-1", 2, D)]
    # What the next run does not send again is found there, too.
    cohort.commands.machine.pause(SETTLE)
    mirror_run = cohort.commands.mirror(Export([[Row(D), Row(B)]]))
    assert mirror_run.result is not None
    run = str(mirror_run.result.accounts.run)
    with open_run(cohort.commands.state, run) as report:
        rejects = list(report.rejects())
    assert [(each.file, each.record, each.uid) for each in rejects] == [
        ("file-0", 1, D),
        ("removes", 3, A),
    ]


def test_an_add_of_an_older_plan_is_found_in_the_plan(cohort: Cohort) -> None:
    cohort.scripted_server.poison = frozenset([D])
    plan = cohort.commands.mirror([B, C, D, E], sends=False)
    assert plan.result is not None
    name = str(plan.result.accounts.run)
    folder = cohort.commands.ledger.parent / "plans" / name
    adds = folder / "adds.parquet"
    position = [
        uid for part in read_batches(adds, ["uid"]) for uid in part["uid"].to_pylist()
    ].index(D.encode())
    older = [part.cast(OPERATION) for part in read_batches(adds, OPERATION.names)]
    write_batches(adds, OPERATION, older)
    (folder / "places.parquet").unlink()
    with tampering(cohort.commands.ledger) as ledger:
        digests = {"add": digest_of(adds).hex()}
        ledger.execute("UPDATE plan SET digests = ?", (json.dumps(digests),))
    assert cohort.commands.apply(name).exit_status is ExitStatus.PARTIAL
    assert rejected_in(cohort) == [("adds", position + 1, D)]
