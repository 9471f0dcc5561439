"""An event loop whose time passes in no time, and a clock that returns it."""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from engine.clock import Stamp

T = TypeVar("T")

Wakes = Callable[[float], float]
"""When a loop gets to what is due at a time; never earlier. It is asked with growing times."""

TURN_SECONDS = 1e-6
"""What a turn of the loop takes that waits for nothing.

Were it nothing, code that waits for what rounding left of an interval would wait for ever.
"""
BOOT_UTC_NS = 1_700_000_000_000_000_000
"""The wall clock at time 0."""


def punctual(due: float) -> float:
    """Wake at the due time."""
    return due


class BusyProcessor:
    """Holds the processor for `burst_seconds` at random moments, `share` of the time in all."""

    def __init__(self, rng: random.Random, burst_seconds: float = 0.02, share: float = 0.5) -> None:
        self._rng = rng
        self._burst_seconds = burst_seconds
        self._bursts_a_free_second = share / (1 - share) / burst_seconds
        self._begins = self._ends = 0.0

    def __call__(self, due: float) -> float:
        """Wake when the burst at `due` is over."""
        # Bursts of long ago have no effect: a long wait is skipped.
        self._ends = max(self._ends, due - 100 * self._burst_seconds)
        while self._ends < due:
            self._begins = self._ends + self._rng.expovariate(self._bursts_a_free_second)
            self._ends = self._begins + self._burst_seconds
        return due if due < self._begins else self._ends


class _Jump(selectors.SelectSelector):
    """Watches no file; a wait advances the virtual time."""

    def __init__(self, pass_time: Callable[[float | None], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to when it wakes for the next timer instead of waiting; knows neither files nor I/O.

    Raises RuntimeError where every task waits and no timer is set: nothing could ever go on.
    """

    def __init__(self, start: float = 0.0, wakes: Wakes = punctual) -> None:
        self._virtual_now = start
        self._wakes = wakes
        super().__init__(_Jump(self._pass))

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._virtual_now

    def _pass(self, timeout: float | None) -> None:
        if timeout is None:
            raise RuntimeError("a deadlock: every task waits, and no timer is set")
        if timeout <= 0:
            self._virtual_now += TURN_SECONDS
        else:
            self._virtual_now = self._wakes(self._virtual_now + timeout)


class VirtualClock:
    """The running loop's time, as the engine asks for it.

    `wall_clock_error` returns, for a time of the loop, by how many seconds the wall clock is wrong.
    """

    def __init__(
        self, boot_id: str = "boot", wall_clock_error: Callable[[float], float] = lambda _: 0.0
    ) -> None:
        self._boot_id = boot_id
        self._wall_clock_error = wall_clock_error

    def now(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def stamp(self) -> Stamp:
        """Return the loop's time as time since boot, and what the wall clock makes of it."""
        now = self.now()
        error = self._wall_clock_error(now)
        return Stamp(self._boot_id, round(now * 1e9), BOOT_UTC_NS + round((now + error) * 1e9))


def run_virtually(
    main: Callable[[], Coroutine[Any, Any, T]], *, start: float = 0.0, wakes: Wakes = punctual
) -> T:
    """Run `main()` to its end in virtual time, from `start` seconds on."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start, wakes)) as runner:
        return runner.run(main())
