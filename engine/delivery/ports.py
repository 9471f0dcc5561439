"""The protocols that a delivery uses; each is declared here, and implemented elsewhere."""

from collections.abc import Sequence
from typing import Protocol

from engine.delivery.outcome import Exchange
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.transport import TakeTurn
from engine.ledger.records import (
    AttemptResult,
    Division,
    Registration,
    RunState,
    Settlement,
)
from engine.model.workspace import Workspace
from engine.pacing.settings import PacingSettings
from engine.payload.batch import Batch


class SendLog(Protocol):
    """Where a delivery records its attempts; each call is durable when it returns."""

    async def intend(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        attempt: int,
        max_wait_seconds: float = 0.0,
    ) -> None:
        """Enter `batches`, and the intent to send batch `number`.

        For up to `max_wait_seconds` it may wait for another entry to share its commit with.
        """

    async def conclude(
        self,
        state: RunState,
        number: int,
        attempt: int,
        result: AttemptResult,
        change: Settlement | Division | None,
    ) -> None:
        """Enter how an attempt ended, and what follows for its batch."""

    async def change(
        self,
        state: RunState,
        batches: Sequence[Registration],
        number: int,
        change: Settlement | Division,
    ) -> None:
        """Enter `batches`, and a change of batch `number` without an attempt."""


class Transport(Protocol):
    """Carries a payload to the API."""

    async def send(self, payload: bytes, take_turn: TakeTurn) -> Exchange:
        """Send a payload, after `take_turn`, and read the answer."""


class SendingConfig(Protocol):
    """The part of the configuration that sending goes by."""

    @property
    def workspace(self) -> Workspace:
        """Where to send, and as whom."""

    @property
    def pacing(self) -> PacingSettings:
        """How fast at the most."""

    @property
    def delivery(self) -> DeliverySettings:
        """How many requests at once, and for how long."""

    @property
    def retry(self) -> RetrySettings:
        """How often a failed request is tried again."""


class Reader(Protocol):
    """Reads and packs the export while requests are sent."""

    @property
    def failure(self) -> BaseException | None:
        """What reading failed with."""

    @property
    def is_dry(self) -> bool:
        """Whether nothing is left to take, now or later."""

    def start(self) -> None:
        """Begin to read."""

    def take(self) -> Batch | None:
        """Return the next batch in export order, or None if none is ready."""

    def stop(self) -> None:
        """Read no further."""
