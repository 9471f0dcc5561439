"""Delivers the batches of a run over the resources that all runs of a workspace share.

The runs share the pace, the connections and the send log. A push is one delivery; a mirror is one
delivery for each part of its plan.
"""

import random
from collections.abc import Iterator
from typing import Protocol

from engine.clock import Clock
from engine.delivery.channel import Channel, DeliveredRun
from engine.delivery.pipeline import Delivery
from engine.delivery.read_ahead import ReadAhead
from engine.delivery.stop import Stop, StopSwitch
from engine.pacing.pacer import Pacer
from engine.pacing.schedule import PastSend
from engine.pacing.settings import PacingSettings
from engine.pacing.slots import Slots
from engine.payload.batch import Batch

EMULATOR_HINT = (
    "start an emulator with `cohortsync emulator`, then run the same command again to go on; "
    "`cohortsync init FILE` writes a configuration for the real API"
)


class SendHistory(Protocol):
    """The recent sends of all processes."""

    async def recent_sends(self, count: int) -> list[tuple[float, float]]:
        """Return how many seconds ago each request was sent, and was answered or failed.

        These are the `count` requests that were sent last, and the `count` that ended last, in no
        order.
        """

    async def seconds_held(self) -> float:
        """Return the remaining seconds of the wait that the last 429 asked for."""


async def resumed_pacer(
    settings: PacingSettings,
    sends: SendHistory,
    clock: Clock,
    earlier: Pacer | None = None,
    slots: Slots | None = None,
) -> Pacer:
    """Return a pacer that counts the sends of all processes within the last window.

    It keeps what `earlier`, a pacer of this process that sends no more, has learnt. `slots` is the
    ceiling that it shares with other hosts, if it does.
    """
    recent = await sends.recent_sends(settings.most)
    held_seconds = await sends.seconds_held()
    now = clock.now()
    log = [PastSend(now - sent_ago, now - ended_ago) for sent_ago, ended_ago in recent]
    return Pacer(settings, clock, log, held_seconds, earlier, slots)


async def deliver(
    channel: Channel, run: DeliveredRun, batches: Iterator[Batch], switch: StopSwitch
) -> Stop | None:
    """Deliver batches cut under `run.limit`; return the stop that ended it early, or None."""
    delivery = Delivery(channel, run, lambda wake: ReadAhead(batches, wake), random.random)
    with switch.connected(delivery.stop):
        return await delivery.run()
