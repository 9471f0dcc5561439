"""The parts of a delivery: those that the runs of a workspace share, and those of its run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.clock import Clock
from engine.delivery.events import Observer
from engine.delivery.ports import SendLog, Transport
from engine.delivery.retry import RetrySettings
from engine.delivery.settings import DeliverySettings
from engine.ledger.records import OpenBatch, RunState
from engine.pacing.budget import Budget
from engine.pacing.pacer import Pacer
from engine.pacing.ranks import Ranks
from engine.payload.limit import Limit


@dataclass(frozen=True, slots=True)
class Channel:
    """The parts that all deliveries of a workspace share."""

    ledger: SendLog
    clock: Clock
    pacer: Pacer
    transport: Transport
    settings: DeliverySettings
    retry: RetrySettings
    nobody_listens_hint: str | None = None
    """If set, a connection refused before any answer ends a run at once, with this hint."""
    ranks: Ranks = field(default_factory=Ranks)


@dataclass(frozen=True, slots=True)
class DeliveredRun:
    """The run whose batches are delivered."""

    state: RunState
    limit: Limit
    """The limit under which its batches are cut; a 413 lowers it."""
    observe: Observer
    budget: Budget
    """Records how the run uses the ceiling."""
    open_batches: Sequence[OpenBatch] = ()
    """The parts to deliver of batches that are in the ledger already."""
    rank: int = 0
    """Of runs that could send at the same time, the one with the lower rank sends first."""
