"""An event loop whose time passes in no time, and a clock that returns it."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from engine.clock import Stamp

T = TypeVar("T")

START = 1000.0
"""What the loop's clock shows at first unless another is given, in seconds."""
TICK = 1e-7
"""Seconds that a turn of the loop takes: time never stands still, whatever rounding does."""
BOOT_UTC_NS = 1_700_000_000_000_000_000


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it, and `lateness()` seconds beyond it."""

    def __init__(self, lateness: Callable[[], float] = lambda: 0.0, start: float = START) -> None:
        self._now = start
        selector = selectors.DefaultSelector()
        select = selector.select

        def jump(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None:
                raise RuntimeError("a deadlock: every task waits, and no timer is set")
            self._now += TICK if timeout <= 0 else timeout + lateness()
            return select(0)

        selector.select = jump
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def run_in_executor(self, _: object, function: Callable[..., T], *arguments: Any) -> Any:  # type: ignore[override] # noqa: ANN401 - as the loop has it
        """Stand in for a thread, which virtual time would not wait for."""
        future = self.create_future()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)
        return future


class VirtualClock:
    """The running loop's time, as the engine asks for it; `boot_id` names this boot."""

    def __init__(self, boot_id: str = "boot") -> None:
        self.boot_id = boot_id

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def stamp(self) -> Stamp:
        boot_ns = round(self.now() * 1e9)
        return Stamp(self.boot_id, boot_ns, BOOT_UTC_NS + boot_ns)


def run_virtually(
    main: Callable[[], Coroutine[Any, Any, T]],
    lateness: Callable[[], float] = lambda: 0.0,
    start: float = START,
) -> T:
    """Run `main()` in virtual time, to its end."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(lateness, start)) as runner:
        return runner.run(main())
