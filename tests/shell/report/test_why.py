"""What is reported of one uid: where it is, since when, by which request."""

from pathlib import Path
from typing import Any

import pytest
from listed_members import reconcile
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from scripted_server import Play, Stage
from whole_push import COHORT, PARTNER, Death

from engine.cli.why import lines_of
from engine.ledger.sqlite.reader import reading
from engine.model.cohort import Action, CohortKey
from engine.report.why import find_uid
from engine.snapshot.settings import MirrorSettings
from exports import Export, Row


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def why(cohort: Cohort, uid: str) -> dict[str, Any]:
    key = CohortKey(PARTNER, COHORT.id)
    answer = find_uid(cohort.commands.ledger.parent, key, uid)
    assert answer is not None
    return answer.to_dict()


def runs(cohort: Cohort) -> list[str]:
    with reading(cohort.commands.ledger) as ledger:
        return [name for (name,) in ledger.execute("SELECT name FROM run ORDER BY run")]


def test_a_cohort_that_was_pushed_is_reported_with_the_run_that_did(cohort: Cohort) -> None:
    cohort.commands.push(Export([[Row(UIDS[1])]]))
    cohort.commands.push(Export([[Row(UIDS[0])]]))
    answer = why(cohort, UIDS[0])
    pushed = answer["pushed"]
    assert (pushed["run"], pushed["action"], pushed["status"], pushed["runs"]) == (
        runs(cohort)[-1],
        "add",
        "finished",
        2,
    )
    [output, by] = lines_of(answer)
    assert (
        output == f"{UIDS[0]}: cohort {COHORT.id} was pushed, not mirrored: its uids are not kept"
    )
    assert f"add in run {pushed['run']} (finished), the last of 2 such runs; " in by
    assert (answer["membership"], answer["since"], answer["last_export"]) == (
        "not mirrored",
        None,
        None,
    )


def test_a_mirrored_cohort_shows_of_no_push(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    answer = why(cohort, UIDS[0])
    assert answer["pushed"] is None
    assert "in cohort" in next(iter(lines_of(answer)))


def test_it_shows_since_which_request_a_uid_is_in_or_out(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    cohort.carry_out(MirrorRun(frozenset(UIDS[1:7]), pause=SETTLE))
    first, second = runs(cohort)
    stayed, came, left, never = (why(cohort, UIDS[n]) for n in (3, 6, 0, 9))
    assert (stayed["membership"], stayed["since"]["run"]) == ("in", first)
    assert stayed["last_export"] == {**stayed["last_export"], "run": second, "had_it": True}
    assert (came["membership"], came["since"]["run"], came["since"]["action"]) == (
        "in",
        second,
        "add",
    )
    assert came["last_export"]["had_it"] is True
    assert (left["membership"], left["state"], left["since"]["action"]) == ("out", "out", "remove")
    assert (left["since"]["outcome"], left["since"]["attempt"]) == ("accepted", 1)
    assert left["last_export"]["had_it"] is False
    assert (never["membership"], never["state"], never["since"]) == ("out", None, None)
    assert never["last_export"]["had_it"] is False
    # Once the remove has settled, the snapshot no longer holds it; the plan still does.
    cohort.carry_out(MirrorRun(frozenset(UIDS[1:8]), pause=SETTLE + 1))
    again = why(cohort, UIDS[0])
    assert (again["membership"], again["state"]) == ("out", None)
    assert again["since"]["run"] == second


def test_it_shows_of_a_uid_of_which_nobody_can_know(cohort: Cohort) -> None:
    reset = Play(stage=Stage.WAITING, error=ConnectionResetError)
    cohort.scripted_server.script = lambda _: reset
    cohort.commands.mirror(UIDS[:3])
    answer = why(cohort, UIDS[1])
    assert (answer["membership"], answer["state"]) == ("unknown", "may_be_in")
    assert (answer["since"]["outcome"], answer["since"]["attempt"]) == ("unconfirmed", 3)


def test_what_a_process_that_died_has_sent_is_reported_before_it_is_folded(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:3])))
    cohort.carry_out(MirrorRun(frozenset(UIDS[:5]), pause=SETTLE, death=Death("arrived", 1)))
    answer = why(cohort, UIDS[4])
    assert answer["membership"] == "unknown"
    assert (answer["since"]["run"], answer["since"]["outcome"]) == (runs(cohort)[1], None)
    assert why(cohort, UIDS[0])["membership"] == "in"


def test_every_rejection_is_reported_with_its_request(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path, frozenset({UIDS[1]}))
    cohort.commands.mirroring = MirrorSettings(settle_seconds=SETTLE, retry_rejected_days=0.0)
    for _ in range(2):
        cohort.carry_out(MirrorRun(frozenset(UIDS[:3]), pause=SETTLE))
    answer = why(cohort, UIDS[1])
    assert answer["membership"] == "out"
    assert [rejection["run"] for rejection in answer["rejections"]] == runs(cohort)
    assert {rejection["request_id"] for rejection in answer["rejections"]} == {"req-1"}
    assert answer["last_export"]["had_it"] is True


def test_a_known_reject_that_is_left_alone_was_in_the_export(tmp_path: Path) -> None:
    cohort = Cohort(tmp_path, frozenset({UIDS[1]}))
    for _ in range(2):
        cohort.carry_out(MirrorRun(frozenset(UIDS[:3]), pause=SETTLE))
    assert why(cohort, UIDS[1])["last_export"]["had_it"] is True


def test_a_reconciled_list_is_reported_and_what_was_sent_before_it_is_past(cohort: Cohort) -> None:
    cohort.carry_out(MirrorRun(frozenset(UIDS[:6])))
    cohort.commands.machine.pause(SETTLE)
    cohort.commands.in_session(lambda store: reconcile(store, UIDS[2:8]))
    gone, stayed, came, never = (why(cohort, UIDS[n]) for n in (0, 3, 7, 9))
    assert [each["membership"] for each in (gone, stayed, came, never)] == [
        "out",
        "in",
        "in",
        "out",
    ]
    for answer in (gone, stayed, came):
        assert (answer["since"]["generation"], answer["since"]["origin"]) == (2, "reconcile")


def test_a_recorded_push_is_reported_too(cohort: Cohort) -> None:
    rows = [Row(uid) for uid in UIDS[:9]]
    cohort.commands.push(Export([rows]), Action.ADD, records=True)
    answer = why(cohort, UIDS[7])
    assert (answer["membership"], answer["since"]["batch"]) == ("in", 3)
    assert answer["last_export"] is None


def test_where_the_plan_is_no_longer_kept_the_run_is(cohort: Cohort) -> None:
    cohort.commands.mirroring = MirrorSettings(settle_seconds=1.0, keep_generations=1)
    cohort.carry_out(MirrorRun(frozenset(UIDS[:3])))
    for more in range(4, 7):
        cohort.carry_out(MirrorRun(frozenset(UIDS[:more]), pause=SETTLE))
    answer = why(cohort, UIDS[0])
    assert answer["membership"] == "in"
    assert answer["since"]["run"] == runs(cohort)[0]
    assert "batch" not in answer["since"]
    assert answer["last_export"]["had_it"] is True
