"""A delivery in virtual time: what is sent again, what is not, and what ends it."""

from itertools import pairwise
from pathlib import Path

import pytest
from stage import (
    OK,
    REFUSED,
    RESET,
    SERVER_ERROR,
    THROTTLED,
    UNAUTHORIZED,
    UNREACHABLE,
    Answer,
    Api,
    Killed,
    Request,
    Stage,
    accept,
    failing,
    numbered,
)

from engine.delivery.events import Answered, Planned, Sent, Settled, Stopping
from engine.delivery.outcome import Exchange, Throttled
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.transport import TakeTurn
from engine.errors import ExitStatus, SourceError, StateFullError
from engine.pacing.settings import PacingSettings
from engine.report.accounts import RowCounts, Standing

ALWAYS = lambda _: True  # noqa: E731 - a predicate with a name


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Return a hundred uids in ten batches, and an API that accepts them."""
    return Stage(tmp_path, numbered(100), Api())


def test_every_uid_is_accepted_once(stage: Stage) -> None:
    execution = stage.run()
    assert execution.stop is None
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)
    assert stage.api.sizes == [10] * 10
    assert execution.accounts.uids == Standing(100, accepted=100)
    assert execution.accounts.batches == Standing(10, accepted=10)
    assert execution.accounts.rows == RowCounts(100)
    assert execution.accounts.source_complete
    assert execution.accounts.imbalance is None


def test_what_happens_is_reported(stage: Stage) -> None:
    events = stage.run().events
    assert sum(e.uid_count for e in events if isinstance(e, Planned)) == 100
    assert [e.batch for e in events if isinstance(e, Sent)] == list(range(1, 11))
    assert all(e.seconds == pytest.approx(0.1) for e in events if isinstance(e, Answered))
    assert sum(e.uid_count for e in events if isinstance(e, Settled)) == 100


def test_requests_keep_the_pace(stage: Stage) -> None:
    stage.pacing = PacingSettings(5, 10)
    stage.run()
    times = [request.at for request in stage.api.requests]
    assert all(late - early > 10 for early, late in zip(times, times[5:], strict=False))


def test_until_something_is_accepted_requests_go_one_by_one(stage: Stage) -> None:
    stage.api.script = failing(lambda request: request.number <= 3, SERVER_ERROR, seconds=30)
    stage.run()
    firsts = stage.api.requests[:4]
    assert [request.uids for request in firsts] == [firsts[0].uids] * 4
    assert all(b.at - a.at >= 30 for a, b in pairwise(firsts))


def test_a_slow_api_has_many_requests_under_way_but_no_more_than_set(stage: Stage) -> None:
    under_way = most = 0

    class Slow(Api):
        async def send(self, payload: bytes, take_turn: TakeTurn) -> Exchange:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await super().send(payload, take_turn)
            finally:
                under_way -= 1

    stage.api = Slow(lambda _: Answer(OK, applies=True, seconds=30))
    stage.delivery = DeliverySettings(max_in_flight=4)
    stage.run()
    assert most == 4


@pytest.mark.parametrize("exchange", [SERVER_ERROR, RESET, UNREACHABLE])
def test_a_failure_is_sent_again_until_it_is_accepted(stage: Stage, exchange: Exchange) -> None:
    stage.api.script = failing(lambda request: request.number in {3, 4, 7}, exchange)
    execution = stage.run()
    assert execution.stop is None
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)
    assert execution.accounts.uids == Standing(100, accepted=100)
    assert execution.accounts.requests.retried == (0 if exchange is UNREACHABLE else 3)


def test_waits_between_attempts_grow(stage: Stage) -> None:
    stage.export = numbered(10)
    stage.api.script = failing(lambda request: request.number <= 5, SERVER_ERROR)
    stage.retry = RetrySettings(backoff_seconds=2, backoff_cap_seconds=10)
    stage.run()
    times = [request.at for request in stage.api.requests]
    waits = [b - a - 0.1 for a, b in pairwise(times)]
    # Half of 2, 4, 8 and twice the cap, and up to a slot and some milliseconds.
    assert waits == [pytest.approx(wait, abs=0.25) for wait in (1, 2, 4, 5, 5)]


def test_after_the_last_attempt_a_batch_is_left_unconfirmed(stage: Stage) -> None:
    stage.api.script = failing(lambda request: "u0035" in request.uids, SERVER_ERROR, applies=True)
    stage.retry = RetrySettings(max_attempts=4)
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(100, accepted=90, unconfirmed=10)
    assert sum("u0035" in request.uids for request in stage.api.requests) == 4
    # The same command sends it again, and nothing else.
    stage.api.script = accept
    sent_before = len(stage.api.requests)
    assert stage.run().accounts.uids == Standing(100, accepted=100)
    assert [list(r.uids) for r in stage.api.requests[sent_before:]] == [stage.export.uids[30:40]]


def test_a_429_closes_the_gate_and_uses_up_no_attempt(stage: Stage) -> None:
    wait = Exchange(Throttled(50.0), 429)
    stage.api.script = failing(lambda request: request.number in {3, 4, 5, 6}, wait)
    stage.retry = RetrySettings(max_attempts=1)
    execution = stage.run()
    assert execution.stop is None
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)
    throttled = [request.at for request in stage.api.requests if request.number in {3, 4, 5, 6}]
    for at in throttled:
        assert not [r for r in stage.api.requests if at + 0.11 < r.at < at + 50]


def test_an_hour_of_429s_is_waited_out(stage: Stage) -> None:
    stage.api.script = failing(lambda request: 0.3 < request.at < 3600, THROTTLED)
    execution = stage.run()
    assert execution.stop is None
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)


def test_429s_for_ever_end_the_run(stage: Stage) -> None:
    stage.api.script = failing(lambda request: request.at > 1, THROTTLED)
    execution = stage.run()
    assert execution.exit_status is ExitStatus.INCOMPLETE
    assert execution.stop is not None
    assert "throttled all requests" in execution.stop.reason
    assert 7200 <= stage.api.requests[-1].at <= 7300
    accounts = execution.accounts
    assert accounts.uids.accepted + accounts.uids.pending == accounts.uids.planned
    stage.api.script = accept
    assert stage.run().accounts.uids == Standing(100, accepted=100)


def test_429s_are_no_failures_of_their_batch(stage: Stage) -> None:
    def script(request: Request) -> Answer:
        if request.number <= 6:
            return Answer(SERVER_ERROR if request.number == 6 else THROTTLED)
        return accept(request)

    stage.api.script = script
    stage.retry = RetrySettings(max_attempts=2)
    assert stage.run().accounts.uids == Standing(100, accepted=100)


@pytest.mark.parametrize("exchange", [SERVER_ERROR, UNREACHABLE])
def test_429s_do_not_count_towards_giving_up(stage: Stage, exchange: Exchange) -> None:
    # Batches wait behind the gate for 1,500 s; when it opens at last, two requests fail.
    def script(request: Request) -> Answer:
        if 0.3 < request.at < 1100:
            return Answer(Exchange(Throttled(500.0), 429))
        late.update({request.number} if request.at > 1400 else ())
        return Answer(exchange) if request.number in sorted(late)[:2] else accept(request)

    late: set[int] = set()
    stage.api.script = script
    execution = stage.run()
    assert execution.stop is None
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)


def test_a_wrong_key_costs_one_request(stage: Stage) -> None:
    stage.api.script = failing(ALWAYS, UNAUTHORIZED, seconds=20)
    execution = stage.run()
    assert execution.exit_status is ExitStatus.REFUSED
    assert execution.stop is not None
    assert (execution.stop.reason, execution.stop.hint) == ("401", "check the key")
    assert len(stage.api.requests) == 1
    assert execution.accounts.uids.pending == execution.accounts.uids.planned > 0
    assert execution.accounts.imbalance is None
    # With the right key, the same command goes on.
    stage.api.script = accept
    assert stage.run().accounts.uids == Standing(100, accepted=100)


def test_a_key_that_is_withdrawn_stops_the_run_and_what_was_under_way_is_kept(
    stage: Stage,
) -> None:
    stage.api.script = failing(lambda request: request.number == 5, UNAUTHORIZED, seconds=0.05)
    execution = stage.run()
    assert execution.exit_status is ExitStatus.REFUSED
    assert len(stage.api.requests) <= 7
    accepted = len(stage.api.requests) - 1
    assert execution.accounts.uids.accepted == 10 * accepted
    assert execution.accounts.imbalance is None


def test_an_api_that_is_down_for_long_ends_the_run(stage: Stage) -> None:
    stage.api.script = failing(lambda request: request.at > 1, SERVER_ERROR)
    stage.retry = RetrySettings(max_attempts=1000, give_up_after_seconds=300)
    execution = stage.run()
    assert execution.exit_status is ExitStatus.INCOMPLETE
    assert execution.stop is not None
    assert "500" in execution.stop.reason
    assert 300 <= stage.api.requests[-1].at < 420
    accounts = execution.accounts
    assert accounts.imbalance is None
    assert accounts.uids.unconfirmed > 0
    assert accounts.uids.accepted + accounts.uids.unconfirmed + accounts.uids.pending == 100
    stage.api.script = accept
    assert stage.run().accounts.uids == Standing(100, accepted=100)


def test_an_api_that_cannot_be_reached_ends_the_run_with_nothing_sent(stage: Stage) -> None:
    stage.api.script = failing(ALWAYS, UNREACHABLE)
    execution = stage.run()
    assert execution.exit_status is ExitStatus.INCOMPLETE
    assert stage.api.requests == []
    assert execution.accounts.requests.sent == 0
    assert execution.accounts.uids == Standing()  # nothing was on its way, so nothing is on record


def test_an_answer_now_and_then_keeps_the_run_going(stage: Stage) -> None:
    stage.api.script = failing(lambda request: request.number % 5 != 0, SERVER_ERROR)
    stage.retry = RetrySettings(max_attempts=1000, give_up_after_seconds=150)
    execution = stage.run()
    assert execution.stop is None
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)


def test_nobody_there_ends_the_run_at_once_where_there_is_a_hint(stage: Stage) -> None:
    stage.hint = "start an emulator"
    stage.api.script = failing(ALWAYS, REFUSED)
    execution = stage.run()
    assert execution.exit_status is ExitStatus.INCOMPLETE
    assert execution.stop is not None
    assert execution.stop.hint == "start an emulator"
    assert stage.api.tried == 1


def test_nobody_there_any_more_may_be_a_restart(stage: Stage) -> None:
    stage.hint = "start an emulator"
    stage.api.script = failing(lambda request: 3 <= request.number <= 6, REFUSED)
    assert stage.run().stop is None
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)


@pytest.mark.parametrize("write", [1, 2, 3, 8, 15])
def test_a_full_disk_stops_the_run_and_nothing_is_lost(stage: Stage, write: int) -> None:
    execution = stage.run(fails_at=write, error=StateFullError("full", hint="make room"))
    assert execution.exit_status is ExitStatus.INCOMPLETE
    assert execution.stop is not None
    assert execution.stop.hint == "make room"
    assert execution.accounts.imbalance is None
    # Nothing leaves without an intent on the disk.
    assert len(stage.api.requests) <= write
    assert stage.run().accounts.uids == Standing(100, accepted=100)
    assert stage.api.members == set(stage.export.uids)


def test_a_source_that_fails_midway_ends_the_run_when_what_was_cut_is_settled(
    stage: Stage,
) -> None:
    stage.source_error = SourceError("truncated", hint="get it whole")
    execution = stage.run()
    assert execution.exit_status is ExitStatus.USAGE
    assert execution.stop is not None
    assert (execution.stop.reason, execution.stop.hint) == ("truncated", "get it whole")
    assert Stopping("truncated") in execution.events
    # The last batch may not be the last, so it was never closed.
    assert execution.accounts.uids == Standing(90, accepted=90)
    assert execution.accounts.imbalance is None
    assert not execution.accounts.source_complete
    stage.source_error = None
    assert stage.run().accounts.uids == Standing(100, accepted=100)
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)


def test_a_bug_in_the_reader_is_no_users_mistake(stage: Stage) -> None:
    stage.source_error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        stage.run()


def test_a_bug_in_a_request_stops_the_run_and_shows(stage: Stage) -> None:
    def script(request: Request) -> Answer:
        if request.number == 4:
            raise ZeroDivisionError("a bug")
        return accept(request)

    stage.api.script = script
    with pytest.raises(ZeroDivisionError):
        stage.run()
    stage.api.script = accept
    assert stage.run().accounts.uids == Standing(100, accepted=100)


def test_a_resumed_run_sends_only_what_is_left(stage: Stage) -> None:
    stage.run(stops_at=[1])
    before = set(stage.api.acknowledged)
    assert 0 < len(before) < 100
    sent_before = len(stage.api.requests)
    execution = stage.run()
    again = [uid for request in stage.api.requests[sent_before:] for uid in request.uids]
    assert not before & set(again)
    assert sum(e.uid_count for e in execution.events if isinstance(e, Planned)) == 100 - len(before)
    assert stage.api.acknowledged == dict.fromkeys(stage.export.uids, 1)


def test_a_resumed_run_is_not_slowed_by_a_first_request_that_goes_alone(stage: Stage) -> None:
    stage.run(stops_at=[1])
    stage.api.script = lambda _: Answer(OK, applies=True, seconds=50)
    sent_before = len(stage.api.requests)
    stage.run()
    first, second = stage.api.requests[sent_before : sent_before + 2]
    assert second.at - first.at < 50


def test_a_process_that_is_killed_leaves_what_was_under_way_unconfirmed(stage: Stage) -> None:
    execution = stage.run(fails_at=7, error=Killed())
    assert execution.killed
    assert execution.accounts.imbalance is None
    assert execution.accounts.status == "incomplete"
    assert stage.run().accounts.uids == Standing(100, accepted=100)
    assert stage.api.members == set(stage.export.uids)
