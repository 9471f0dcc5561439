"""Answers of a gateway after the API has applied a request: the next mirror sets it right."""

from pathlib import Path

import pytest
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from scripted_server import ACCEPT, Play, failure

from engine.errors import ExitStatus

A, B, C = UIDS[:3]
PAGE = b"<html>a gateway</html>"

ANSWERS: dict[str, tuple[Play, ExitStatus]] = {
    # These end the run; what they have answered may have been applied.
    **{str(status): (Play(status, PAGE), ExitStatus.REFUSED) for status in (302, 403, 404, 409)},
    "404 in form": (Play(404, failure("no such thing")), ExitStatus.REFUSED),
    # These are tried again.
    **{str(status): (Play(status, PAGE), ExitStatus.ACCEPTED) for status in (408, 413, 429, 499)},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_gateway_answers_after_it_was_applied_is_unknown_to_the_snapshot(
    tmp_path: Path, answer: str
) -> None:
    play, exit_status = ANSWERS[answer]
    cohort = Cohort(tmp_path)
    plays = iter([play])
    cohort.scripted_server.script = lambda _: next(plays, ACCEPT)
    assert cohort.commands.mirror([A, B]).exit_status is exit_status
    assert cohort.members() >= {A, B}
    # They are no longer wanted: what nobody knows of would stay for good.
    ended = cohort.carry_out(MirrorRun(frozenset([C]), pause=SETTLE))
    assert ended.exit_status is ExitStatus.ACCEPTED
    assert cohort.members() == {C}


@pytest.mark.parametrize("status", [408, 429])
def test_a_gateway_that_never_lets_an_answer_through_leaves_them_unknown(
    tmp_path: Path, status: int
) -> None:
    cohort = Cohort(tmp_path)
    cohort.scripted_server.script = lambda _: Play(status, PAGE)
    ended = cohort.commands.mirror([A, B], stops_at=(9000,))
    assert ended.exit_status is ExitStatus.INCOMPLETE
    assert ended.result is not None
    assert ended.result.accounts.uids.unconfirmed == 2
    cohort.carry_out(MirrorRun(frozenset([C]), pause=SETTLE))
    assert cohort.members() == {C}
