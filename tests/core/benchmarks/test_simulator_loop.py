"""Virtual time: it passes at once, in order, and late where the machine is busy."""

import asyncio
import random

import pytest

from simulator.loop import BusyProcessor, VirtualClock, run_virtually


def test_a_century_passes_at_once() -> None:
    century = 100 * 365 * 86_400.0

    async def main() -> float:
        await asyncio.sleep(century)
        return asyncio.get_running_loop().time()

    assert run_virtually(main, start=5.0) == pytest.approx(century + 5, abs=0.01)


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main() -> list[float]:
        fired: list[float] = []

        async def wait(seconds: float) -> None:
            await asyncio.sleep(seconds)
            fired.append(seconds)

        await asyncio.gather(*(wait(seconds) for seconds in (3.0, 1.0, 2.0)))
        return fired

    assert run_virtually(main) == [1.0, 2.0, 3.0]


def test_time_never_stands_still_for_what_rounding_left_of_a_wait() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + 1e-9
        turns = 0
        while (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait / 2)
            turns += 1
        assert turns < 10

    run_virtually(main, start=1e6)


def test_a_deadlock_is_an_error_and_no_silence() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_virtually(main)


def test_a_busy_makes_wakes_late_by_a_burst_at_most_half_of_the_time() -> None:
    busy = BusyProcessor(random.Random(1), burst_seconds=0.02, share=0.5)
    rng = random.Random(2)
    due, late = 0.0, []
    for _ in range(20_000):
        due += rng.uniform(0.01, 0.5)
        late.append(busy(due) - due)
    assert min(late) == 0
    assert max(late) <= 0.02
    assert sum(seconds > 0 for seconds in late) / len(late) == pytest.approx(0.5, abs=0.03)


def test_a_clock_step_moves_the_wall_clock_and_nothing_else() -> None:
    async def main() -> float:
        clock = VirtualClock(wall_clock_error=lambda now: -3600.0 if now > 5 else 0.0)
        before = clock.stamp()
        await asyncio.sleep(10)
        after = clock.stamp()
        assert after.utc_ns < before.utc_ns
        return before.age_at(after)

    assert run_virtually(main) == pytest.approx(10, abs=1e-3)
