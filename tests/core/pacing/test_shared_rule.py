"""`ceiling.lua` keeps the rule of `Schedule` and `Gate`, for any number of processes."""

import random

import pytest
from lua_ceiling import LuaCeiling

from engine.pacing.gate import Gate
from engine.pacing.schedule import Schedule
from engine.pacing.settings import PacingSettings

WINDOW = 10.0


def most_counted(counted: list[float], seconds: float) -> int:
    times = sorted(counted)
    return max((sum(at - seconds < each <= at for each in times) for at in times), default=0)


@pytest.mark.parametrize("seed", range(1))
def test_the_api_counts_no_window_beyond_the_ceiling(seed: int) -> None:
    draw = random.Random(seed)
    first = LuaCeiling(6, WINDOW, "host:0:x")
    processes = [first] + [LuaCeiling(6, WINDOW, f"host:{n}:x", first.client) for n in (1, 2)]
    shortest, now = 0.02, 0.0
    counted: list[float] = []
    under_way: list[tuple[float, LuaCeiling, str, float]] = []
    """When each request ends, whose it is, its name, and when it was sent."""
    sent = 0
    for _ in range(120):
        ended = sorted(each for each in under_way if each[0] <= now)
        under_way = [each for each in under_way if each[0] > now]
        for at, process, name, sent_at in ended:
            process.shortest = shortest
            kind = draw.choices(["accepted", "answered", "failed"], [8, 1, 1])[0]
            process.finish(max(at, now), name, kind, sent_at)
        process = draw.choice(processes)
        found = process.reserve(now)
        assert found is not None
        name, at = found
        assert at - now < 1.5 * WINDOW
        if draw.random() < 0.05:
            continue  # It dies, or stops, before it sends.
        now = max(now, at) + draw.random() * 0.02
        if process.start(now, name) != b"sent":
            continue
        sent += 1
        way = 0.01 + draw.random() * draw.choice([0.01, 0.1])
        back = 0.01 + draw.random() * 0.02
        counted.append(now + way)
        if draw.random() > 0.05:  # Else it dies, and the end is not reported.
            under_way.append((now + way + back, process, name, now))
        if draw.random() < 0.05:
            now += draw.random() * WINDOW  # None has anything to send.
    assert most_counted(counted, WINDOW) <= 6
    assert sent > 80


def test_a_reservation_is_no_longer_valid_after_two_seconds() -> None:
    ceiling = LuaCeiling(6, 10.0)
    found = ceiling.reserve(0.0)
    assert found is not None
    assert ceiling.start(2.5, found[0]) == b"expired"
    assert not ceiling.client.zcard("sends")


def test_a_clock_that_is_set_back_gives_no_request_more() -> None:
    ceiling = LuaCeiling(3, 1.0)
    for _ in range(3):
        found = ceiling.reserve(10.0)
        assert found is not None
        ceiling.start(10.0, found[0])
        ceiling.finish(10.0, found[0], "accepted", 10.0)
    kind, now, _, at = ceiling.step(4.0, "reserve", 1)
    assert kind == b"reserved"
    assert 1.0 <= (at - now) / 1e6 <= 1.02  # type: ignore[operator]


def test_429s_and_acceptances_change_what_the_schedule_and_the_gate_would() -> None:
    settings = PacingSettings(20, 1.0)
    lua = LuaCeiling(settings.requests, settings.per_seconds)
    schedule, gate = Schedule(settings), Gate(settings.per_seconds)
    draw = random.Random(7)
    now = 1.0
    for _ in range(60):
        found = lua.reserve(now)
        if found is None:
            now = gate.opens_at + 1e-6
            continue
        name, at = found
        now = max(now, at) + 1e-6
        assert lua.start(now, name) == b"sent"
        gate.let_pass()
        schedule.record_send(now)
        sent_at, now = now, now + 0.001
        if draw.random() < 0.1:
            retry_after = draw.choice([None, 0.5])
            lua.finish(now, name, "throttled", sent_at, -1.0 if retry_after is None else 0.5)
            schedule.record_end(sent_at, now)
            if gate.throttle(now, sent_at, retry_after):
                schedule.strike(now)
        else:
            lua.finish(now, name, "accepted", sent_at)
            schedule.record_end(sent_at, now, is_accepted=True)
            schedule.record_acceptance(sent_at, now)
            gate.settle_probe(answered=True)
        state = {
            key.decode(): float(value)
            for key, value in lua.client.hgetall("state").items()
            if key not in {b"epoch", b"probe", b"probing", b"limits"}
        }
        assert state.get("allowed", 20.0) == pytest.approx(schedule._allowed)
        assert state.get("slack", 1e6 / 1800) == pytest.approx(schedule._slack * 1e6, rel=1e-3)
        if gate.opens_at > 0:
            opens_at = state["opens_at"] / 1e6 - 1_800_000_000
            assert opens_at == pytest.approx(gate.opens_at, abs=1e-3)
    assert schedule.found is not None
