"""A delivery through hours in which nothing may be sent."""

from datetime import UTC, time
from pathlib import Path

import pytest
from stage import SERVER_ERROR, Api, Stage, failing, numbered

from engine.delivery.events import Paused
from engine.delivery.retry import RetrySettings
from engine.errors import ExitStatus
from engine.pacing.settings import Hours, PacingSettings
from engine.report.accounts import Standing

# Virtual time begins at 22:30 UTC.
PAUSE = Hours(time(22, 32), time(23, 32), 0)
RESUMED = 62 * 60 + 61.2


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Return uids in fifteen batches, which the ceiling of ten a minute takes past 22:31."""
    return Stage(tmp_path, numbered(150), Api(), pacing=PacingSettings(10, 60, (PAUSE,), UTC))


def test_a_pause_is_waited_out_and_told_once(stage: Stage) -> None:
    execution = stage.run()
    assert execution.accounts.uids == Standing(150, accepted=150)
    times = [request.at for request in stage.api.requests]
    assert any(each < 60 for each in times)
    assert not [each for each in times if 60 <= each < RESUMED]
    [event] = [each for each in execution.events if isinstance(each, Paused)]
    assert event.sentence == "nothing is sent until 23:34, as `limits.hours` allow no request"
    spent = execution.accounts.ceiling_spending
    # Nothing is allowed in the pause, so nothing is lost in it.
    assert 15 <= spent.allowed <= 17
    assert execution.accounts.ceiling.hours == (PAUSE.to_dict(),)


def test_a_pause_is_no_outage(stage: Stage) -> None:
    stage.retry = RetrySettings(max_attempts=1000, give_up_after_seconds=300)
    failed = failing(lambda request: 30 < request.at < RESUMED + 20, SERVER_ERROR)
    stage.api.script = failed
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(150, accepted=150)
    assert [each for each in stage.api.requests if RESUMED < each.at < RESUMED + 20]


def test_a_stop_ends_the_wait_for_a_pause(stage: Stage) -> None:
    execution = stage.run(stops_at=[600])
    assert execution.exit_status is ExitStatus.INCOMPLETE
    assert execution.accounts.uids.accepted == 10 * len(stage.api.requests) < 150
    assert stage.run().accounts.uids == Standing(150, accepted=150)


def test_a_process_that_died_counts_by_its_hours(stage: Stage) -> None:
    stage.pacing = PacingSettings(10, 60, (Hours(time(22, 0), time(23, 59), 5),), UTC)
    stage.run(fails_at=15)
    accounts = stage.run().accounts
    spent = accounts.ceiling_spending
    assert accounts.uids == Standing(150, accepted=150)
    assert spent.unrecorded < 2
    assert accounts.ceiling_use > 0.9
