"""Batches that come apart: too large for the API, or with uids in them that it rejects."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_entries import rows
from stage import (
    ENVELOPE,
    NAMED,
    OK,
    SERVER_ERROR,
    TOO_LARGE,
    UNNAMED,
    Answer,
    Api,
    Request,
    Stage,
    accept,
    failing,
    numbered,
)

from engine.delivery.outcome import Exchange
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.transport import TakeTurn
from engine.errors import ExitStatus
from engine.report.accounts import Standing
from engine.source.block import BLANK
from exports import Export, Row
from payloads import payload_of


def larger_than(uids: int) -> Callable[[Request], bool]:
    """Tell requests that are larger than so many uids of five characters."""
    limit = len(payload_of(ENVELOPE, ["u0000"] * uids))
    return lambda request: len(request.payload) > limit


def holding(*poison: str) -> Callable[[Request], bool]:
    """Tell requests that carry any of these uids."""
    return lambda request: not set(poison).isdisjoint(request.uids)


# Too large.


@pytest.mark.parametrize("real_limit", [63, 33, 20, 5, 1])
def test_a_413_halves_a_batch_and_the_next_ones_are_cut_smaller(
    tmp_path: Path, real_limit: int
) -> None:
    api = Api(failing(larger_than(real_limit), TOO_LARGE))
    stage = Stage(tmp_path, numbered(600), api, uids_per_payload=64)
    execution = stage.run()
    assert execution.stop is None
    assert api.acknowledged == dict.fromkeys(stage.export.uids, 1)
    assert execution.accounts.uids == Standing(600, accepted=600)
    assert execution.accounts.imbalance is None
    # The limit is found by halving, once, and by the batches that were ready or under way.
    refused = [size for size in api.sizes if size > real_limit]
    assert len(refused) <= 4 + 2 ** math.ceil(math.log2(64 / real_limit))
    assert execution.accounts.requests.split == len(refused)


def test_parts_go_one_by_one_too_until_something_is_accepted(tmp_path: Path) -> None:
    api = Api(lambda r: Answer(TOO_LARGE if larger_than(5)(r) else OK, applies=True, seconds=20))
    Stage(tmp_path, numbered(10), api).run()
    assert api.sizes == [10, 5, 5]
    assert all(late.at - early.at >= 20 for early, late in pairwise(api.requests))


def test_a_resumed_run_sends_its_parts_and_keeps_its_batches(tmp_path: Path) -> None:
    api = Api(failing(larger_than(20), TOO_LARGE))
    stage = Stage(tmp_path, numbered(600), api, uids_per_payload=64)
    stage.run(stops_at=[1.5])
    before = set(api.acknowledged)
    assert 0 < len(before) < 600
    assert stage.run().accounts.uids == Standing(600, accepted=600)
    assert api.acknowledged == dict.fromkeys(stage.export.uids, 1)


def test_a_413_for_what_was_accepted_before_is_retried(tmp_path: Path) -> None:
    api = Api(failing(lambda request: request.number == 5, TOO_LARGE))
    stage = Stage(tmp_path, numbered(100), api)
    execution = stage.run()
    assert sorted(api.sizes) == [5, 5] + [10] * 10
    assert execution.accounts.uids == Standing(100, accepted=100)


def test_a_413_for_one_uid_is_retried_after_a_restart_too(tmp_path: Path) -> None:
    api = Api(failing(lambda request: request.uids == ["u0020"] and request.number < 5, TOO_LARGE))
    stage = Stage(tmp_path, numbered(21), api)
    stage.run(stops_at=[0.25])
    assert 0 < len(api.acknowledged) < 21
    assert stage.run().accounts.uids == Standing(21, accepted=21)


def test_a_uid_that_is_too_large_by_itself_is_rejected_and_the_rest_delivered(
    tmp_path: Path,
) -> None:
    uids = [f"u{number:04}" for number in range(60)]
    uids[33] = "x" * 100
    export = Export([[Row(reason=BLANK), *(Row(uid) for uid in uids)]])
    api = Api(failing(lambda request: "x" * 100 in request.uids, TOO_LARGE))
    stage = Stage(tmp_path, export, api, uids_per_payload=20)
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(60, accepted=59, rejected=1)
    assert rows(stage.path, "SELECT file, record, uid, reason FROM rejected") == [
        ("file-0", 35, "x" * 100, "413")
    ]


def test_a_413_for_whatever_is_sent_writes_nothing_off(tmp_path: Path) -> None:
    api = Api(failing(lambda _: True, TOO_LARGE))
    execution = Stage(tmp_path, numbered(600), api, uids_per_payload=64).run()
    assert execution.stop is not None
    assert execution.stop.exit_status is ExitStatus.REFUSED
    assert execution.accounts.uids.rejected == 0
    # Down to single uids, then seven of those.
    assert len(api.requests) <= math.log2(64) + 1 + 7


def test_a_uid_that_can_never_fit_is_rejected_without_a_request(tmp_path: Path) -> None:
    long = "x" * 1000
    export = Export([[Row("u0001"), Row(long), Row("u0002"), Row(long + "y")]])
    stage = Stage(tmp_path, export, Api())
    execution = stage.run()
    assert execution.accounts.uids == Standing(4, accepted=2, rejected=2)
    assert execution.accounts.imbalance is None
    assert [list(r.uids) for r in stage.api.requests] == [["u0001"], ["u0002"]]
    found = rows(stage.path, "SELECT record, uid, reason, request_id FROM rejected ORDER BY record")
    assert [(record, uid, request) for record, uid, _, request in found] == [
        (2, long, None),
        (4, long + "y", None),
    ]
    assert all("fits into no payload" in reason for _, _, reason, _ in found)


def test_an_export_of_nothing_that_fits_sends_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Export([[Row("x" * 1000), Row("y" * 1000)]]), Api())
    execution = stage.run()
    assert execution.stop is None
    assert stage.api.requests == []
    assert execution.accounts.uids == Standing(2, rejected=2)


# Bad uids.


def most_requests(bad: int, of: int) -> int:
    """Return how many requests it may take to find so many bad uids in one batch."""
    return 1 + 2 * bad * math.ceil(math.log2(of))


@pytest.mark.parametrize("exchange", [NAMED, UNNAMED], ids=["named", "unnamed"])
@pytest.mark.parametrize("bad", [0, 31, 63, 64, 100, 190])
def test_a_bad_uid_is_found_and_the_rest_delivered(
    tmp_path: Path, exchange: Exchange, bad: int
) -> None:
    poison = f"u{bad:04}"
    api = Api(failing(holding(poison), exchange))
    stage = Stage(tmp_path, numbered(191), api, uids_per_payload=64)
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(191, accepted=190, rejected=1)
    assert execution.accounts.imbalance is None
    assert api.acknowledged == dict.fromkeys(set(stage.export.uids) - {poison}, 1)
    assert len(api.requests) <= most_requests(1, 64) + 2
    [rejected] = rows(stage.path, "SELECT file, record, uid, reason, request_id FROM rejected")
    reason = exchange.outcome.reason  # type: ignore[union-attr] - it is a Rejected
    assert rejected == ("file-0", bad + 1, poison, reason, "req-1")


@given(st.sets(st.integers(0, 99), max_size=12), st.booleans(), st.integers(2, 40))
def test_all_bad_uids_are_found_and_no_others(bad: set[int], named: bool, per_payload: int) -> None:  # noqa: FBT001 - hypothesis passes by position
    if not named:  # What names nothing is the uids' fault only when something has been accepted.
        bad = {number for number in bad if number >= per_payload}
    poison = {f"u{number:04}" for number in bad}
    api = Api(failing(holding(*poison), NAMED if named else UNNAMED))
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder), numbered(100), api, uids_per_payload=per_payload)
        execution = stage.run()
        assert execution.stop is None
        assert execution.accounts.uids == Standing(100, 100 - len(bad), len(bad))
        assert execution.accounts.imbalance is None
        assert {uid for (uid,) in rows(stage.path, "SELECT uid FROM rejected")} == poison
    assert api.acknowledged == dict.fromkeys(set(stage.export.uids) - poison, 1)
    batches = math.ceil(100 / per_payload)
    assert len(api.requests) <= batches + most_requests(len(bad), per_payload)


def test_failures_on_the_way_do_not_mislead_the_search(tmp_path: Path) -> None:
    def script(request: Request) -> Answer:
        if request.number % 3 == 0:
            return Answer(SERVER_ERROR, applies=not holding("u0007")(request))
        return Answer(NAMED) if holding("u0007")(request) else accept(request)

    stage = Stage(tmp_path, numbered(40), Api(script), uids_per_payload=16)
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(40, accepted=39, rejected=1)


@pytest.mark.parametrize(
    ("uids", "per_payload"),
    [
        *((1, 1), (2, 10), (3, 10), (4, 10), (5, 10), (7, 10), (9, 10), (100, 10), (100, 64)),
        *((100, 1), (100, 2), (100, 3), (100, 4)),
    ],
)
def test_a_request_that_is_wrong_whatever_its_uids_is_given_up_soon(
    tmp_path: Path, uids: int, per_payload: int
) -> None:
    api = Api(failing(lambda _: True, UNNAMED))
    stage = Stage(tmp_path, numbered(uids), api, uids_per_payload=per_payload)
    execution = stage.run()
    assert execution.exit_status is ExitStatus.REFUSED
    assert execution.stop is not None
    assert execution.stop.hint
    assert len(api.requests) <= 8
    accounts = execution.accounts
    assert accounts.uids == Standing(accounts.uids.planned, pending=accounts.uids.planned)
    assert accounts.imbalance is None
    # When the request is mended, the same command delivers it all.
    api.script = accept
    assert stage.run().accounts.uids == Standing(uids, accepted=uids)
    assert api.acknowledged == dict.fromkeys(stage.export.uids, 1)


def test_a_wrong_request_costs_as_little_when_it_is_tried_again(tmp_path: Path) -> None:
    api = Api(failing(lambda _: True, UNNAMED))
    stage = Stage(tmp_path, numbered(100), api)
    for _ in range(4):
        before = len(api.requests)
        assert stage.run().exit_status is ExitStatus.REFUSED
        assert len(api.requests) - before <= 8
    api.script = accept
    assert stage.run().accounts.uids == Standing(100, accepted=100)


def test_a_uid_refused_before_anything_was_accepted_is_judged_afterwards(tmp_path: Path) -> None:
    api = Api(failing(holding("u0000", "u0002"), UNNAMED))
    stage = Stage(tmp_path, numbered(5), api, uids_per_payload=1)
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(5, accepted=3, rejected=2)


def test_uids_that_are_all_bad_are_all_rejected_where_the_api_names_them(tmp_path: Path) -> None:
    api = Api(failing(lambda _: True, NAMED))
    stage = Stage(tmp_path, numbered(20), api)
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(20, rejected=20)


def test_the_search_is_bounded_and_the_rest_stays_pending(tmp_path: Path) -> None:
    poison = [f"u{number:04}" for number in range(0, 400, 5)]
    api = Api(failing(holding(*poison), NAMED))
    stage = Stage(
        tmp_path,
        numbered(400),
        api,
        uids_per_payload=50,
        retry=RetrySettings(max_isolation_requests=40),
    )
    execution = stage.run()
    assert execution.exit_status is ExitStatus.REFUSED
    assert execution.stop is not None
    assert "40 requests" in execution.stop.reason
    searching = [size for size in api.sizes if size < 50]
    assert 40 <= len(searching) <= 40 + stage.delivery.max_in_flight
    assert execution.accounts.uids.pending > 0
    assert execution.accounts.imbalance is None
    # It does not help to try again, until more is allowed.
    before = len(api.requests)
    assert stage.run().exit_status is ExitStatus.REFUSED
    assert len(api.requests) - before <= 8
    stage.retry = RetrySettings(max_isolation_requests=1000)
    execution = stage.run()
    assert execution.accounts.uids == Standing(400, accepted=320, rejected=80)
    assert api.acknowledged == dict.fromkeys(set(stage.export.uids) - set(poison), 1)


def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    api = Api(failing(holding("u0042"), NAMED))
    stage = Stage(tmp_path, numbered(64), api, uids_per_payload=64)
    for seconds in (0.3, 0.7, 1.1):
        stage.run(stops_at=[seconds])
    execution = stage.run()
    assert execution.accounts.uids == Standing(64, accepted=63, rejected=1)
    assert len(api.requests) <= most_requests(1, 64)


def test_both_at_once(tmp_path: Path) -> None:
    too_large = larger_than(12)

    def script(request: Request) -> Answer:
        if too_large(request):
            return Answer(TOO_LARGE)
        return Answer(UNNAMED) if holding("u0003", "u0090")(request) else Answer(OK, applies=True)

    stage = Stage(tmp_path, numbered(100), Api(script), uids_per_payload=32)
    execution = stage.run()
    assert execution.stop is None
    assert execution.accounts.uids == Standing(100, accepted=98, rejected=2)
    assert all(count == 1 for count in stage.api.acknowledged.values())
    assert max(stage.api.sizes[8:]) <= 12


def test_parts_of_batches_are_in_flight_no_more_than_batches_may_be(tmp_path: Path) -> None:
    """All batches in flight are halved at once, and later requests take long."""
    too_large = larger_than(8)

    def script(request: Request) -> Answer:
        is_first = request.number == 1
        if too_large(request) and not is_first:
            return Answer(TOO_LARGE, seconds=0.5)
        return Answer(OK, applies=True, seconds=0.1 if is_first else 30)

    api = Api(script)
    stage = Stage(tmp_path, numbered(160), api, uids_per_payload=16)
    stage.delivery = DeliverySettings(max_in_flight=3)
    in_flight = most = 0
    send = api.send

    async def counted(payload: bytes, take_turn: TakeTurn) -> Exchange:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        try:
            return await send(payload, take_turn)
        finally:
            in_flight -= 1

    with patch.object(api, "send", counted):
        assert stage.run().accounts.uids == Standing(160, accepted=160)
    assert most == 3
