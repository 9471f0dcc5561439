"""What the emulator does wrong on purpose: drawn by seed or plan, seen by a client, counted."""

import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median, stdev
from typing import Any

import aiohttp
import pytest

from engine.emulator import (
    EmulatorError,
    EmulatorSettings,
    FaultKind,
    FaultSettings,
    FaultShare,
    LimitSettings,
    PlannedFault,
    RetryAfter,
    RunningEmulator,
    parse_planned,
    parse_share,
    read_plan,
    read_uids,
    running,
)
from engine.emulator.faults import Fault, Faults

HEADERS = {
    "Authorization": f"Basic {base64.b64encode(b'DEMO:demo-key').decode()}",
    "MOE-APPKEY": "DEMO",
    "Content-Type": "application/json",
}


@asynccontextmanager
async def failing(
    *plan: PlannedFault, limits: LimitSettings | None = None, **faults: object
) -> AsyncIterator[RunningEmulator]:
    fault_settings: dict[str, Any] = {"plan": plan} | faults
    settings = EmulatorSettings(
        port=0, limits=limits or LimitSettings(), faults=FaultSettings(**fault_settings)
    )
    async with running(settings) as emulator:
        yield emulator


async def send(emulator: RunningEmulator, *uids: str) -> tuple[int, bytes, Any]:
    """POST one request on a connection of its own; the status is 0 when there is no answer."""
    body = {
        "action": "add_members",
        "partner": "p",
        "parameters": {
            "cohort_name": "n",
            "cohort_id": "c",
            "members": [{"uid": uid} for uid in uids or ("a",)],
        },
    }
    url = f"{emulator.url}/v1/integrations/cohortsync"
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=json.dumps(body), headers=HEADERS) as response,
        ):
            return response.status, await response.read(), response.headers
    except aiohttp.ClientError as error:
        return 0, type(error).__name__.encode(), {}


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110  the emulator has no event for it
        await asyncio.sleep(0.001)


def members(emulator: RunningEmulator) -> set[str]:
    return {uid for _, cohort in emulator.emulator.cohorts.all() for uid in cohort.members}


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize(
    ("kind", "status", "word"),
    [
        (FaultKind.SERVER_ERROR, 500, b'"type":"Server Error"'),
        (FaultKind.BAD_GATEWAY, 502, b"Bad Gateway"),
        (FaultKind.UNAVAILABLE, 503, b"Service Unavailable"),
        (FaultKind.GATEWAY_TIMEOUT, 504, b"Gateway Timeout"),
        (FaultKind.HTML, 200, b"<!doctype html>"),
        (FaultKind.LIE, 200, b'"status":"fail"'),
        (FaultKind.PARTIAL, 200, b'{"status":"success"'),
        (FaultKind.RESET, 0, b""),
        (FaultKind.TRUNCATED, 0, b"ClientPayloadError"),
    ],
)
async def test_a_fault_is_seen_counted_and_applied_only_when_it_is_to_be(
    kind: FaultKind, status: int, word: bytes, *, applied: bool
) -> None:
    async with failing(PlannedFault(kind, 1, 1, applied)) as emulator:
        answered, content, _ = await send(emulator)
        assert (answered, word in content) == (status, True)
        assert members(emulator) == ({"a"} if applied else set())
        report = emulator.emulator.report()
        assert report["faults"] == {kind: 1}
        assert report["requests"]["accepted"] == 0
        assert report["requests"]["unanswered"] == ({} if status else {kind: 1})
        assert report["uids"] == {"received": 1, "applied": int(applied)}
        assert report["breaches"] == {}
        assert (await send(emulator, "b"))[0] == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FaultKind.THROTTLED, 429), (FaultKind.TOO_LARGE, 413), (FaultKind.UNAUTHORIZED, 401)],
)
async def test_a_refusal_out_of_turn_is_no_breach(kind: FaultKind, status: int) -> None:
    async with failing(PlannedFault(kind, 2, 3)) as emulator:
        assert [(await send(emulator))[0] for _ in range(4)] == [200, status, status, 200]
        report = emulator.emulator.report()
    assert (report["breaches"], report["faults"]) == ({}, {kind: 2})


async def test_half_an_acceptance_does_not_parse() -> None:
    async with failing(PlannedFault(FaultKind.PARTIAL, 1, 1)) as emulator:
        _, content, headers = await send(emulator)
    assert headers["Content-Type"].startswith("application/json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)


async def test_a_throttle_out_of_turn_asks_for_its_seconds() -> None:
    limits = LimitSettings(retry_after=RetryAfter.SECONDS)
    fault = PlannedFault(FaultKind.THROTTLED, 1, 1, seconds=7)
    async with failing(fault, limits=limits) as emulator:
        assert (await send(emulator))[2]["Retry-After"] == "7"


async def test_a_hanging_request_ends_in_a_reset() -> None:
    async with failing(PlannedFault(FaultKind.HANG, 1, 1, seconds=0)) as emulator:
        assert (await send(emulator))[0] == 0
        assert emulator.emulator.report()["requests"]["unanswered"] == {"hang": 1}


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.SLOW])
@pytest.mark.parametrize("applied", [False, True])
async def test_what_waits_is_applied_before_or_not_yet_and_never_holds_up_a_stop(
    kind: FaultKind, *, applied: bool
) -> None:
    async with failing(PlannedFault(kind, 1, 1, applied, seconds=3600)) as emulator:
        client = asyncio.create_task(send(emulator))
        await until(lambda: bool(emulator.emulator.counts.faults))
        assert members(emulator) == ({"a"} if applied else set())
        assert not client.done()
    status, _, _ = await client
    assert status == (200 if kind is FaultKind.SLOW else 0)
    assert members(emulator) == ({"a"} if applied or kind is FaultKind.SLOW else set())


async def test_a_fault_befalls_only_what_would_have_been_accepted() -> None:
    plan = PlannedFault(FaultKind.SERVER_ERROR, 1, None, applied=True)
    limits = LimitSettings(requests=1, per_seconds=600)
    async with failing(plan, limits=limits) as emulator:
        assert (await send(emulator, ""))[0] == 400
        assert (await send(emulator, "a"))[0] == 429
        assert emulator.emulator.report()["faults"] == {}


@pytest.mark.parametrize(("name_poison", "attribute"), [(True, "uid"), (False, None)])
async def test_a_poison_uid_has_the_whole_request_refused(
    *, name_poison: bool, attribute: str | None
) -> None:
    poison = frozenset({"bad"})
    async with failing(poison_uids=poison, name_poison=name_poison) as emulator:
        status, content, _ = await send(emulator, "a", "bad")
        assert (status, json.loads(content)["error"].get("attribute")) == (400, attribute)
        assert members(emulator) == set()
        assert (await send(emulator, "a", "good"))[0] == 200
        assert emulator.emulator.report()["breaches"] == {}


async def test_latency_holds_back_the_answer_and_jitter_the_request() -> None:
    async with failing(jitter_ms=3_600_000, seed=1) as emulator:
        client = asyncio.create_task(send(emulator))
        await until(lambda: emulator.emulator.counts.requests == 1)
        assert emulator.emulator.report()["workspaces"] == {}
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)
    async with failing(latency_ms=3_600_000) as emulator:
        client = asyncio.create_task(send(emulator))
        await until(lambda: members(emulator) == {"a"})
        assert emulator.emulator.report()["requests"]["by_status"] == {}
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)


def test_latencies_are_alike_or_lognormal() -> None:
    alike = Faults(FaultSettings(latency_ms=80))
    assert {alike.next_latency() for _ in range(10)} == {0.08}
    varied = [Faults(FaultSettings(latency_ms=80, latency_sigma=0.5, seed=3)) for _ in range(2)]
    drawn, again = ([faults.next_latency() for _ in range(2000)] for faults in varied)
    assert drawn == again
    assert median(drawn) == pytest.approx(0.08, rel=0.05)
    assert stdev(map(math.log, drawn)) == pytest.approx(0.5, rel=0.05)


async def test_a_client_that_leaves_within_its_body_is_counted_as_gone() -> None:
    async with failing() as emulator:
        _, writer = await asyncio.open_connection(emulator.host, emulator.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(
            f"POST /v1/integrations/cohortsync HTTP/1.1\r\nHost: x\r\n{head}"
            'Content-Length: 100\r\n\r\n{"action"'.encode()
        )
        await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        await until(lambda: bool(emulator.emulator.counts.unanswered))
        report = emulator.emulator.report()
    assert report["requests"]["unanswered"] == {"client_gone": 1}
    assert report["cohorts"] == []


def drawn(settings: FaultSettings, number: int) -> list[Fault | None]:
    faults = Faults(settings)
    return [faults.next().fault for _ in range(number)]


def test_shares_are_drawn_as_asked_and_again_by_the_same_seed() -> None:
    shares = (FaultShare(FaultKind.SERVER_ERROR, 0.3, 0.5), FaultShare(FaultKind.RESET, 0.1, 1))
    befallen = drawn(FaultSettings(shares=shares), 20_000)
    errors = [fault for fault in befallen if fault and fault.kind is FaultKind.SERVER_ERROR]
    resets = [fault for fault in befallen if fault and fault.kind is FaultKind.RESET]
    assert len(errors) == pytest.approx(6000, rel=0.05)
    assert sum(fault.applied for fault in errors) == pytest.approx(3000, rel=0.05)
    assert len(resets) == pytest.approx(2000, rel=0.1)
    assert all(fault.applied for fault in resets)
    assert len(errors) + len(resets) == sum(fault is not None for fault in befallen)
    assert drawn(FaultSettings(shares=shares), 20_000) == befallen
    assert drawn(FaultSettings(shares=shares, seed=1), 20_000) != befallen


def test_jitter_is_spread_evenly_up_to_the_most() -> None:
    faults = Faults(FaultSettings(jitter_ms=200))
    delays = [faults.next().jitter for _ in range(2000)]
    assert 0 <= min(delays) < 0.01
    assert 0.19 < max(delays) <= 0.2


def test_a_plan_comes_before_chance_and_its_first_item_before_the_second() -> None:
    settings = FaultSettings(
        shares=(FaultShare(FaultKind.LIE, 1),),
        plan=(
            PlannedFault(FaultKind.RESET, 2, 3),
            PlannedFault(FaultKind.HTML, 3, 4, applied=True),
            PlannedFault(FaultKind.SLOW, 6, None, seconds=2),
        ),
    )
    befallen = [fault for fault in drawn(settings, 7) if fault]
    kinds = ["lie", "reset", "reset", "html", "lie", "slow", "slow"]
    assert [fault.kind for fault in befallen] == kinds
    assert [fault.applied for fault in befallen] == [False] * 3 + [True] + [False] * 3
    assert befallen[-1].seconds == 2


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("500=0.03", FaultShare(FaultKind.SERVER_ERROR, 0.03)),
        ("reset=.01:1", FaultShare(FaultKind.RESET, 0.01, 1)),
        ("hang=0.01:0:30", FaultShare(FaultKind.HANG, 0.01, 0, 30)),
    ],
)
def test_a_share_is_read(text: str, share: FaultShare) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize(
    "text",
    [
        *("500", "500=", "500=x", "500=nan", "500=1.5", "500=0.1:2", "500=0.1:0:5"),
        *("418=0.1", "429=0.1:0.5", "hang=0.1:0:5:6"),
    ],
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(EmulatorError):
        parse_share(text)


@pytest.mark.parametrize(
    ("text", "first", "last"), [("413=70", 70, 70), ("413=1-5", 1, 5), ("413=500-", 500, None)]
)
def test_a_planned_fault_is_read(text: str, first: int, last: int | None) -> None:
    assert parse_planned(text) == PlannedFault(FaultKind.TOO_LARGE, first, last)


@pytest.mark.parametrize("text", ["413", "413=", "413=0", "413=5-4", "413=-4", "413=x", "418=1"])
def test_what_is_no_planned_fault_is_refused(text: str) -> None:
    with pytest.raises(EmulatorError):
        parse_planned(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plan.json", '[{"request":"5-","fault":503,"applied":true},{"request":2,"fault":"slow"}]'),
        (
            "plan.toml",
            """
            [[faults]]
            request = "5-"
            fault = "503"
            applied = true
            [[faults]]
            request = 2
            fault = "slow"
            """,
        ),
    ],
)
def test_a_plan_is_read_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_plan(path) == (
        PlannedFault(FaultKind.UNAVAILABLE, 5, None, applied=True),
        PlannedFault(FaultKind.SLOW, 2, 2),
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "cannot be parsed"),
        ("{}", "no list of faults"),
        ('[{"request":1,"fault":"500"},{"fault":"500"}]', "fault 2"),
        ('[{"request":1,"fault":"500","often":true}]', "fault 1"),
        ('[{"request":1,"fault":"418"}]', "418"),
        ('[{"request":1,"fault":"500","applied":1}]', "applied"),
        ('[{"request":1,"fault":"slow","seconds":"1"}]', "seconds"),
        ('[{"request":1,"fault":"413","applied":true}]', "never applied"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_its_place(
    tmp_path: Path, text: str, word: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(EmulatorError, match=word):
        read_plan(path)


def test_uids_are_read_a_line_each_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "uids.txt"
    path.write_bytes("\ufeff007\r\n a \n\n\u2028é".encode())
    assert read_uids(path) == {"007", " a ", "\u2028é"}
    path.write_bytes(b"\xff")
    with pytest.raises(EmulatorError, match="not UTF-8"):
        read_uids(path)
    with pytest.raises(EmulatorError, match="cannot be read"):
        read_uids(tmp_path / "none")


@pytest.mark.parametrize(
    "wrong",
    [
        {"jitter_ms": -1},
        {"latency_ms": float("nan")},
        {"latency_sigma": -0.1},
        {"latency_sigma": float("nan")},
        {"latency_sigma": 3.1},
        {"shares": (FaultShare(FaultKind.LIE, 0.6), FaultShare(FaultKind.HTML, 0.6))},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EmulatorError):
        FaultSettings(**wrong)
