"""A state folder that is restored from a backup: the cohort ends right, whatever was sent since."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as some
from mirrored_cohort import SETTLE, UIDS, Cohort, MirrorRun
from restored import LIFT, back_up, put_back
from scripted_server import ACCEPT
from whole_push import Pushes

from engine.delivery.stop import StopSwitch
from engine.errors import ExitStatus
from engine.runs import transfer
from exports import Export, Row


def adopt(pushes: Pushes, wanted: set[str]) -> None:
    """Take over a list that was sent after the backup."""
    blocks = list(Export([[Row(uid) for uid in sorted(wanted)]]).blocks(7))
    pushes.in_session(lambda store: transfer.adopt(store, blocks, StopSwitch()))


wishes = some.frozensets(some.sampled_from(UIDS), min_size=1)
mirror_runs = some.builds(
    MirrorRun,
    wanted=wishes,
    replies=some.lists(some.sampled_from(["fine", "500", "500 applied", "reset applied"])).map(
        tuple
    ),
    pause=some.sampled_from([60.0, 2 * SETTLE]),
)


@given(
    before=some.lists(mirror_runs, max_size=3),
    after=some.lists(mirror_runs, max_size=3),
    last=wishes,
)
@settings(max_examples=settings().max_examples // 5)
def test_the_cohort_equals_the_export_once_what_was_sent_since_is_adopted(
    before: list[MirrorRun], after: list[MirrorRun], last: frozenset[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        cohort = Cohort(Path(name))
        pushes = cohort.commands
        for mirror_run in before:
            cohort.carry_out(mirror_run)
        back_up(pushes, Path(name) / "backup")
        for mirror_run in after:
            cohort.carry_out(mirror_run)
        put_back(pushes, Path(name) / "backup")
        received = len(cohort.scripted_server.arrived)
        if pushes.look(lambda store: store.generations()):
            asked = pushes.mirror(sorted(last))
            assert asked.exit_status is ExitStatus.GUARDED
            assert asked.result
            assert "restored: the snapshot was restored" in str(asked.result.accounts.reason)
            assert len(cohort.scripted_server.arrived) == received
        for mirror_run in after:
            adopt(pushes, set(mirror_run.wanted))
        cohort.scripted_server.script = lambda _: ACCEPT
        for _ in range(2):
            ended = pushes.mirror(sorted(last), **LIFT)
            assert ended.exit_status is ExitStatus.ACCEPTED, ended
        cohort.scripted_server.catch_up()
        assert cohort.members() == set(last)
        # Once it is lifted, the next runs are not blocked.
        ended = pushes.mirror(sorted(last))
        assert ended.exit_status is ExitStatus.ACCEPTED
