"""A push without excluded uids: killed anywhere and resumed, its accounts balance."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import ScriptedServer
from whole_push import Death, Pushes

from engine.errors import ExitStatus, ExportChangedError
from exports import NASTY, Export, Row, exports

SHORT = st.text(st.sampled_from(["X", "Y", *NASTY]), min_size=1, max_size=2)
"""Odd uids, each of which fits into a payload."""
DEATHS = st.builds(
    Death, st.sampled_from(["begun", "sent", "arrived", "answered"]), st.integers(1, 3)
)


@given(exports(SHORT), st.data(), st.lists(DEATHS, max_size=2))
@settings(max_examples=settings().max_examples // 2, deadline=None)
def test_a_push_that_is_killed_excludes_the_same(
    export: Export, data: st.DataObject, deaths: list[Death]
) -> None:
    listed = data.draw(st.sets(st.sampled_from(export.uids))) if export.uids else set()
    wanted = [uid for uid in export.uids if uid not in listed]
    with TemporaryDirectory() as name:
        server = ScriptedServer()
        pushes = Pushes(Path(name), server)
        for death in deaths:
            pushes.push(export, exclude=sorted(listed), death=death)
        ended = pushes.push(export, exclude=sorted(listed, reverse=True))
    assert ended.result is not None
    accounts = ended.result.accounts
    assert accounts.imbalance is None
    assert accounts.rows.read == len(export.rows)
    assert accounts.rows.excluded == len(export.uids) - len(wanted)
    assert accounts.uids.planned == len(wanted)
    assert server.members == set(wanted)


def test_a_changed_list_is_a_changed_export(tmp_path: Path) -> None:
    uids = [f"u{number:04}" for number in range(30)]
    export = Export([[Row(uid) for uid in uids]])
    server = ScriptedServer()
    pushes = Pushes(tmp_path, server)
    assert pushes.push(export, exclude=["u0029"], death=Death("arrived", 3)).died
    refused = pushes.push(export, exclude=["u0029", "u0028"])
    assert isinstance(refused.error, ExportChangedError)
    assert refused.exit_status is ExitStatus.USAGE
    ended = pushes.push(export, exclude=["u0028"], restart_if_changed=True)
    assert ended.exit_status is ExitStatus.ACCEPTED
    assert ended.result is not None
    assert ended.result.accounts.rows.excluded == 1
    assert server.members == set(uids) - {"u0028"}
