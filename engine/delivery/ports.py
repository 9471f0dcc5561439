"""Protocols that a delivery uses; other modules implement them."""

from collections.abc import Sequence
from typing import Protocol

from engine.delivery.outcome import Exchange
from engine.delivery.transport import TakeTurn
from engine.ledger.records import (
    AttemptResult,
    Division,
    Registration,
    RunState,
    Settlement,
)
from engine.payload.batch import Batch


class SendLog(Protocol):
    """Records the attempts of a delivery; each call is durable when it returns."""

    async def intend(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        attempt: int,
        max_wait_seconds: float = 0.0,
    ) -> None:
        """Record `batches`, and the intent to send batch `number`.

        May wait up to `max_wait_seconds` for another entry, to share one commit with it.
        """

    async def conclude(
        self,
        state: RunState,
        number: int,
        attempt: int,
        result: AttemptResult,
        change: Settlement | Division | None,
    ) -> None:
        """Record the result of an attempt, and the resulting change of its batch."""

    async def change(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        change: Settlement | Division,
    ) -> None:
        """Record `batches`, and a change of batch `number` without an attempt."""


class Transport(Protocol):
    """Carries a payload to the API."""

    async def send(self, payload: bytes, take_turn: TakeTurn) -> Exchange:
        """Send a payload after `take_turn`, and return the result."""


class Reader(Protocol):
    """Reads and packs the export while requests are sent."""

    @property
    def failure(self) -> BaseException | None:
        """The exception that ended reading, or None."""

    @property
    def is_dry(self) -> bool:
        """Whether nothing is left to take, now or later."""

    def start(self) -> None:
        """Start reading."""

    def take(self) -> Batch | None:
        """Return the next batch in export order, or None if none is ready."""

    def stop(self) -> None:
        """Stop reading."""
