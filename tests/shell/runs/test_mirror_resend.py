"""Members that are added once more, a slice a run: some may have signed up since."""

from pathlib import Path

import pytest
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from scripted_server import Play, Stage
from whole_push import Ended

from engine.errors import ExitStatus
from engine.snapshot.settings import MirrorSettings


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def settle(cohort: Cohort, **settings: int) -> None:
    cohort.commands.mirroring = MirrorSettings(settle_seconds=SETTLE, **settings)


def mirror_run(cohort: Cohort, wanted: list[str]) -> tuple[Ended, list[tuple[str, ...]]]:
    """Mirror once all has settled; return what was added, request by request."""
    before = len(cohort.scripted_server.arrived)
    ended = cohort.carry_out(MirrorRun(frozenset(wanted), pause=SETTLE))
    return ended, [
        request.uids
        for request in cohort.scripted_server.arrived[before:]
        if request.action == "add_members"
    ]


def test_nothing_is_sent_again_unless_it_is_asked_for(cohort: Cohort) -> None:
    mirror_run(cohort, UIDS[:9])
    assert mirror_run(cohort, UIDS[:9])[1] == []


def test_over_so_many_runs_each_member_is_sent_again_newest_first(cohort: Cohort) -> None:
    settle(cohort, resend_over_nights=3)
    mirror_run(cohort, UIDS[:6])
    ended, added = mirror_run(cohort, UIDS[:9])
    assert [sorted(each) for each in added] == [UIDS[6:9], UIDS[:2]]
    assert ended.result is not None
    document = ended.result.accounts.to_dict()
    assert document["resend"] == {
        "planned": 2,
        "accepted": 2,
        "rejected": 0,
        "unconfirmed": 0,
        "pending": 0,
    }
    assert document["rows"]["unchanged"] == 6
    assert document["batches"]["planned"] == 2
    # A round goes on where it was; who came in meanwhile is first in the next.
    assert mirror_run(cohort, UIDS[:9])[1] == [tuple(UIDS[2:5])]
    assert mirror_run(cohort, UIDS[:9])[1] == [(UIDS[5],)]
    assert mirror_run(cohort, UIDS[:9])[1] == [tuple(UIDS[6:9])]
    assert mirror_run(cohort, UIDS[:9])[1] == [tuple(UIDS[:3])]


def test_a_slice_keeps_within_its_requests(cohort: Cohort) -> None:
    settle(cohort, resend_over_nights=1, resend_requests=2)
    mirror_run(cohort, UIDS[:12])
    assert mirror_run(cohort, UIDS[:12])[1] == [tuple(UIDS[:3]), tuple(UIDS[3:6])]
    assert mirror_run(cohort, UIDS[:12])[1] == [tuple(UIDS[6:9]), tuple(UIDS[9:12])]


def test_who_is_removed_is_not_sent_again(cohort: Cohort) -> None:
    settle(cohort, resend_over_nights=1)
    mirror_run(cohort, UIDS[:4])
    assert mirror_run(cohort, UIDS[2:4])[1] == [tuple(UIDS[2:4])]
    assert cohort.members() == set(UIDS[2:4])


def test_a_slice_that_failed_is_sent_again_and_nobody_is_out(cohort: Cohort) -> None:
    settle(cohort, resend_over_nights=2)
    mirror_run(cohort, UIDS[:6])
    hangs = Play(stage=Stage.WAITING, error=ConnectionResetError, applied_after=None)
    cohort.scripted_server.script = lambda _: hangs
    cohort.commands.machine.pause(SETTLE)
    failed = cohort.commands.mirror(UIDS[:6])
    assert failed.exit_status is ExitStatus.INCOMPLETE
    assert failed.result is not None
    assert failed.result.accounts.to_dict()["resend"]["unconfirmed"] == 3
    newest = cohort.commands.in_session(lambda store: store.generations())[0]
    assert (newest.members, newest.unknown) == (6, 0)
    assert mirror_run(cohort, UIDS[:6])[1] == [tuple(UIDS[:3])]


def test_a_remove_waits_for_what_was_sent_again_to_settle(cohort: Cohort) -> None:
    settle(cohort, resend_over_nights=1)
    mirror_run(cohort, UIDS[:4])
    mirror_run(cohort, UIDS[:4])
    resent_at = cohort.scripted_server.arrived[-1].at
    cohort.carry_out(MirrorRun(frozenset(UIDS[1:4]), pause=60.0))
    removed = cohort.scripted_server.arrived[-1]
    assert removed.action == "remove_members"
    assert removed.at >= resent_at + SETTLE


def test_the_plan_says_what_it_costs(cohort: Cohort) -> None:
    settle(cohort, resend_over_nights=3)
    mirror_run(cohort, UIDS[:12])
    cohort.commands.machine.pause(SETTLE)
    plans: list[dict[str, object]] = []
    cohort.commands.mirror(UIDS[:12], sends=False, planned=plans.append)
    [plan] = plans
    output = ("resend", "resend_requests", "resend_nights", "requests", "add")
    assert {key: plan[key] for key in output} == {
        "resend": 4,
        "resend_requests": 2,
        "resend_nights": 3,
        "requests": 2,
        "add": 0,
    }
