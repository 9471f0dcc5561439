"""Delivers the batches of a run over the resources that all runs of a workspace share.

The runs share the pace, the connections and the send log. A push is one delivery; a mirror is one
delivery for each part of its plan.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.clock import Clock
from engine.delivery.events import Observer
from engine.delivery.pipeline import Delivery
from engine.delivery.ports import SendLog, Transport
from engine.delivery.read_ahead import ReadAhead
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.delivery.stop import Stop, StopSwitch
from engine.ledger.records import OpenBatch, RunState
from engine.pacing.pacer import Pacer, PaceRecord
from engine.pacing.settings import PacingSettings
from engine.payload.batch import Batch
from engine.payload.limit import Limit

EMULATOR_HINT = (
    "nothing starts an emulator by itself: `cohortsync emulator` does, and `cohortsync demo` "
    "shows a whole run; to send to the real API see config.toml"
)


class SendHistory(Protocol):
    """The recent sends of all processes."""

    async def recent_sends(self, count: int) -> list[float]:
        """Return how many seconds ago each of the last `count` requests was sent."""

    async def seconds_held(self) -> float:
        """Return the remaining seconds of the wait that the last 429 asked for."""


async def resumed_pacer(settings: PacingSettings, sends: SendHistory, clock: Clock) -> Pacer:
    """Return a pacer that counts the sends of all processes within the last window."""
    sent_ago = await sends.recent_sends(settings.requests)
    held_seconds = await sends.seconds_held()
    now = clock.now()
    return Pacer(settings, clock, [now - ago for ago in sent_ago], held_seconds)


@dataclass(frozen=True, slots=True)
class Channel:
    """The resources that all concurrent deliveries of a workspace share."""

    sends: SendLog
    clock: Clock
    pacer: Pacer
    transport: Transport
    delivery: DeliverySettings
    retry: RetrySettings
    is_loopback: bool


class Sender:
    """Delivers the batches of one run, one delivery after another."""

    def __init__(self, channel: Channel, observe: Observer, switch: StopSwitch) -> None:
        self._channel = channel
        self._observe = observe
        self._switch = switch
        self._before = channel.pacer.record()

    @property
    def pace(self) -> PaceRecord:
        """The use of the ceiling since this sender was created, by all runs that share it."""
        return self._channel.pacer.record().since(self._before)

    async def deliver(
        self,
        state: RunState,
        limit: Limit,
        batches: Iterator[Batch],
        open_batches: Sequence[OpenBatch] = (),
    ) -> Stop | None:
        """Deliver batches cut under `limit`; return the stop that ended it early, or None.

        For a batch in the ledger, only its parts in `open_batches` are delivered.
        """
        channel = self._channel
        delivery = Delivery(
            state,
            open_batches,
            lambda wake: ReadAhead(batches, wake),
            limit,
            transport=channel.transport,
            pacer=channel.pacer,
            ledger=channel.sends,
            clock=channel.clock,
            settings=channel.delivery,
            retry=channel.retry,
            jitter=random.random,
            observe=self._observe,
            nobody_listens_hint=EMULATOR_HINT if channel.is_loopback else None,
        )
        with self._switch.connected(delivery.stop):
            return await delivery.run()
