"""One attempt: what its end keeps, whatever happens meanwhile."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from engine.delivery.attempt import Attempt
from engine.delivery.outcome import Exchange, Rejected

if TYPE_CHECKING:
    from engine.delivery.work import Work

PATIENCE_SECONDS = 60.0


@dataclass
class WorkInAFile:
    """Work whose place is read from a file on a slow disk."""

    uid_count: int = 1
    begun: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def place(self) -> tuple[str, int]:
        assert threading.current_thread() is not threading.main_thread()
        self.begun.set()
        assert self.release.wait(PATIENCE_SECONDS)
        return "export.csv", 7


async def test_a_place_is_found_in_a_thread_and_a_cancellation_loses_no_outcome() -> None:
    work = WorkInAFile()
    exchange = Exchange(Rejected("400: uid", names_members=True), 400)
    attempt = Attempt(cast("Work", work), began=0.0, is_intended=True)
    ending = asyncio.create_task(attempt.ended(exchange, 1))
    await asyncio.to_thread(work.begun.wait, PATIENCE_SECONDS)
    for _ in range(2):
        ending.cancel()
        await asyncio.sleep(0)
    work.release.set()
    ended = await ending
    assert (ended.exchange, ended.place) == (exchange, ("export.csv", 7))
