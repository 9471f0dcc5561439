"""A ledger for deliveries that counts in memory."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.ledger.records import AttemptResult, Division, Registration, RunState, Settlement
from engine.model.status import BatchState

if TYPE_CHECKING:
    from engine.clock import Stamp


class OutcomeLog:
    """Counts batches and attempts; each write takes `commit_seconds`."""

    def __init__(self, commit_seconds: float) -> None:
        self._commit_seconds = commit_seconds
        self._open: dict[int, int] = {}
        self.most_open = 0
        """The most batches registered and not yet settled, at any time."""
        self.by_name = Counter[str]()
        """Attempts by the name of their outcome."""
        self.intents = 0
        self.batches = Counter[BatchState]()
        self.uids = Counter[BatchState]()
        self.sent: list[tuple[Stamp, int]] = []
        """The sends with a known outcome, and the wall clock at it; for the next pacer."""

    async def intend(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        attempt: int,
        max_wait_seconds: float = 0.0,
    ) -> None:
        """Record `batches` and an intent, in a commit of its own."""
        del state, number, attempt
        self._register(batches)
        self.intents += 1
        await asyncio.sleep(max_wait_seconds + self._commit_seconds)

    async def conclude(
        self,
        state: RunState,
        number: int,
        attempt: int,
        result: AttemptResult,
        change: Settlement | Division | None,
    ) -> None:
        """Record the outcome of an attempt, and the change of its batch."""
        del state, attempt
        self.by_name[result.outcome] += 1
        if result.sent is not None:
            self.sent.append((result.sent, result.ended_utc_ns))
        self._change(number, change)
        await asyncio.sleep(self._commit_seconds)

    async def change(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        change: Settlement | Division,
    ) -> None:
        """Record `batches`, and the change of one of them without an attempt."""
        del state
        self._register(batches)
        self._change(number, change)
        await asyncio.sleep(self._commit_seconds)

    def _register(self, batches: Sequence[Registration]) -> None:
        self._open |= {batch.number: batch.uid_count for batch in batches}
        self.most_open = max(self.most_open, len(self._open))

    def _change(self, number: int, change: Settlement | Division | None) -> None:
        if isinstance(change, Division):
            first, second = change.parts
            del self._open[number]
            self._open |= {first.number: first.uid_count, second.number: second.uid_count}
        elif change is not None:
            self.batches[change.state] += 1
            self.uids[change.state] += self._open.pop(number)
