"""A push whose export has changed begins anew, if that is asked for and the source allows it."""

from pathlib import Path

import pytest
from scripted_server import ScriptedServer
from whole_push import COHORT, Death, ExportSource, Pushes

from engine.errors import ExitStatus
from engine.model.cohort import Action
from engine.runs.push import push
from engine.runs.push_admission import PushRequest
from exports import Export, Row

UIDS = [f"u{number:04}" for number in range(30)]


@pytest.mark.parametrize("is_rereadable", [True, False])
def test_a_changed_export_is_read_again_only_if_it_can_be(
    tmp_path: Path, *, is_rereadable: bool
) -> None:
    scripted_server = ScriptedServer()
    pushes = Pushes(tmp_path, scripted_server)
    assert pushes.push(Export([[Row(uid) for uid in UIDS]]), death=Death("arrived", 3)).died
    rows = [Row(uid) for uid in reversed(UIDS)]
    changed = ExportSource(Export([rows]), is_rereadable=is_rereadable)
    request = PushRequest(changed, changed.spec, COHORT, Action.ADD, restart_if_changed=True)
    ended = pushes._run(lambda *with_: push(request, *with_), None, ())
    assert ended.result is not None
    assert ended.result.accounts.imbalance is None
    if is_rereadable:
        assert ended.exit_status is ExitStatus.ACCEPTED
        assert scripted_server.members == set(UIDS)
    else:
        assert ended.exit_status is ExitStatus.USAGE
        assert "changed" in (ended.result.accounts.reason or "")
