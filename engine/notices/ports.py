"""What notices need of the sync that makes them, and of a workspace's ledger."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from engine.clock import Clock
from engine.delivery.stop import StopSwitch
from engine.ledger.notice_records import GuardState, MetricCount, ToldProblem
from engine.ledger.sync_records import SyncRecord


class NoticeStore(Protocol):
    """Who was told what, which `after` commands succeeded, and what metrics count.

    Each change is durable when its call returns. All methods raise `CohortSyncError` if the ledger
    cannot be read or written.
    """

    async def told(self, partner: str) -> Sequence[ToldProblem]:
        """Return the problems that recipients were told of, and that last."""

    async def replace_told(
        self,
        partner: str,
        recipient: str,
        cohorts: Iterable[str],
        problems: Iterable[ToldProblem],
    ) -> None:
        """Replace the problems of `cohorts` that a recipient was told of."""

    async def last_successes(self, partner: str) -> Mapping[str, int]:
        """Return when each cohort last ended with exit status 0, by its id; in ns since 1970."""

    async def last_guards(self, partner: str) -> Mapping[str, Sequence[GuardState]]:
        """Return what each guard said of the last plan of each mirrored cohort, by its id."""

    async def last_finished_run(self, partner: str, cohort_id: str) -> str | None:
        """Return the name of the last run of a cohort that finished; None if there is none."""

    async def followed_run(self, partner: str, cohort: str) -> str | None:
        """Return the last run of a cohort after which its `after` command succeeded."""

    async def record_followed(self, partner: str, cohort: str, run: str) -> None:
        """Record that the `after` command of a cohort has succeeded after a run."""

    async def counts(self) -> Sequence[MetricCount]:
        """Return what metrics count over all syncs."""

    async def add_counts(self, counts: Iterable[MetricCount]) -> None:
        """Add the counts of one process to those of earlier ones."""


class SyncHistory(Protocol):
    """The cohorts of earlier syncs."""

    async def since(self, utc_ns: int, partner: str | None = None) -> Sequence[SyncRecord]:
        """Return the records of the syncs that began at `utc_ns` or later, the earliest first."""


class NoticeLedger(Protocol):
    """The ledger of a workspace."""

    @property
    def notices(self) -> NoticeStore:
        """The notices."""

    @property
    def syncs(self) -> SyncHistory:
        """The syncs."""


Note = Callable[[str], None]
"""Receives a warning: one sentence, without a uid or a credential."""

OpenLedger = Callable[[str], AbstractAsyncContextManager[NoticeLedger]]
"""Opens the ledger of a workspace, given its name in the configuration, for the block."""


@dataclass(frozen=True, slots=True)
class NoticeContext:
    """What notices use of the sync that makes them."""

    open_ledger: OpenLedger
    clock: Clock
    note: Note
    switch: StopSwitch
    """Stops the sync: no command is begun after that."""
