"""Books that only count: what a delivery asks of a ledger, without a disk."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

from engine.clock import Stamp
from engine.ledger.records import AttemptResult, Division, Registration, RunState, Settlement
from engine.model.status import BatchState


class Books:
    """Counts batches and attempts; each entry takes `commit_seconds`."""

    def __init__(self, recent_sends: int, commit_seconds: float) -> None:
        self._commit_seconds = commit_seconds
        self._open: dict[int, int] = {}
        self.most_open = 0
        """The most batches that were entered and not yet settled."""
        self.outcomes = Counter[str]()
        """Attempts by their outcome's name."""
        self.intents = 0
        self.batches = Counter[BatchState]()
        self.uids = Counter[BatchState]()
        self.sent = deque[Stamp](maxlen=recent_sends)
        """The latest sends that an outcome is known of, for the next execution's log."""

    async def intend(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        attempt: int,
        max_wait_seconds: float = 0.0,
    ) -> None:
        """Enter `batches`, and an intent, which finds nobody to share its commit with."""
        del state, number, attempt
        self._enter(batches)
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
        """Enter how an attempt ended, and what becomes of its batch."""
        del state, attempt
        self.outcomes[result.outcome] += 1
        if result.sent is not None:
            self.sent.append(result.sent)
        self._change(number, change)
        await asyncio.sleep(self._commit_seconds)

    async def change(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        change: Settlement | Division,
    ) -> None:
        """Enter `batches`, and what becomes of one of them without an attempt."""
        del state
        self._enter(batches)
        self._change(number, change)
        await asyncio.sleep(self._commit_seconds)

    def _enter(self, batches: Sequence[Registration]) -> None:
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
