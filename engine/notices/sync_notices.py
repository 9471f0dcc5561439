"""All notices of a sync. Whatever fails here is a remark, and never stops the sync."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine.errors import CohortSyncError
from engine.notices.completion import Completion
from engine.notices.follow_up import (
    FollowUp,
    FollowUpError,
    run_command,
    sync_variables,
)
from engine.notices.notifier import Notifier, Recipients
from engine.notices.past import read_pasts, workspaces_of
from engine.notices.pings import ping_end, ping_start
from engine.notices.ports import NoticeContext, NoticeLedger
from engine.notices.problems import CohortPast, NoticedCohort
from engine.notices.settings import MetricsSettings, NotifySettings, PingSettings
from engine.notices.web import UndeliveredError, read_address

if TYPE_CHECKING:
    from engine.delivery.events import Event
    from engine.ledger.notice_records import MetricCount
    from engine.notices.metrics import SyncMetrics
    from engine.report.sync_result import CohortResult, SyncResult


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeSettings:
    """The settings of all notices of a sync."""

    label: str
    """The configuration's file, for messages."""
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    pings: PingSettings = field(default_factory=PingSettings)
    follow_ups: Mapping[str, FollowUp] = field(default_factory=dict)
    """What follows each cohort, by its key."""
    after_sync: FollowUp = field(default_factory=FollowUp)
    """What follows the whole sync."""
    zone: tzinfo | None = None
    """The time zone of times in messages; None: the system's."""


class SyncNotices:
    """The notices of one sync; an async context manager around it.

    A sync calls `begin` once it has a name, `observe` with each event, `cohort_begins` and
    `cohort_ended` around each cohort, and `end` with its result. A dry run makes no notices.
    """

    def __init__(
        self,
        settings: NoticeSettings,
        cohorts: Sequence[NoticedCohort],
        context: NoticeContext,
    ) -> None:
        """`cohorts` are all that are configured, also those that the sync does not include.

        Raises `ConfigError` for an invalid URL, or a missing extra.
        """
        self._settings = settings
        self._cohorts = cohorts
        self._open_ledger = context.open_ledger
        self._clock = context.clock
        self._note = context.note
        self._switch = context.switch
        self._sync = ""
        self._completion = Completion(settings.follow_ups, cohorts, context, self._failed)
        self._recipients = Recipients.read(settings.label, settings.notify)
        self._notifier = Notifier(self._recipients, cohorts, context.open_ledger, settings.zone)
        label, pings, used = settings.label, settings.pings, settings.metrics
        self._monitor = read_address(label, "pings.url", pings.url)
        self._gateway = read_address(label, "metrics.push_url", used.push_url, is_secret=False)
        self._metrics = self._used_metrics()
        self._opened = AsyncExitStack()
        self._starting: asyncio.Task[None] | None = None

    def _used_metrics(self) -> "SyncMetrics | None":
        used = self._settings.metrics
        if not (used.textfile or used.push_url or used.port):
            return None
        from engine.notices.metrics import SyncMetrics  # noqa: PLC0415 - few need its library

        return SyncMetrics(self._cohorts)

    async def check(self) -> None:
        """Raise `ConfigError` if no service takes a URL of a recipient; takes about a second."""
        await self._recipients.check()

    async def __aenter__(self) -> Self:
        """Return the notices; nothing has begun."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the port; a ping that is still under way is dropped."""
        if self._starting is not None:
            self._starting.cancel()
        await self._opened.aclose()

    async def begin(self, sync: str, started_utc_ns: int) -> None:
        """Tell that a sync begins, without waiting for an answer."""
        self._sync = sync
        if self._monitor is not None:
            seconds = self._settings.pings.timeout_seconds
            ping = self._attempt("ping", ping_start(self._monitor, seconds))
            self._starting = asyncio.create_task(ping)
        if self._metrics is not None:
            self._metrics.begin(started_utc_ns)
            await self._serve(self._metrics)

    async def _serve(self, metrics: "SyncMetrics") -> None:
        from engine.notices.metric_outputs import served  # noqa: PLC0415 - as above

        used = self._settings.metrics
        if used.port is not None:
            await self._show(metrics, await self._pasts())
            serving = served(used.address, used.port, metrics)
            await self._attempt("metrics", self._opened.enter_async_context(serving))

    def observe(self, cohort: str, event: "Event") -> None:
        """Count an event of the run of a cohort, given by its key."""
        if self._metrics is not None:
            self._metrics.observe(cohort, event)

    def cohort_begins(self, cohort: str) -> None:
        """Remove the marker of a cohort, given by its key, before its export is looked at."""
        self._completion.begins(cohort)

    async def cohort_ended(self, result: "CohortResult") -> "CohortResult":
        """Let a complete cohort be followed; return its result, see `Completion.ended`."""
        result = await self._completion.ended(self._sync, result)
        if self._metrics is not None:
            self._metrics.update(result, self._clock.stamp().utc_ns)
        return result

    async def end(self, result: "SyncResult") -> "SyncResult":
        """Tell how a sync ended, once all its cohorts are recorded; return its result.

        The command of the sync runs first, since its failure makes the exit status 75.
        """
        result = await self._after_sync(result)
        pasts = await self._pasts(result.sync)
        for failure in await self._notifications(result, pasts):
            self._failed("notification", failure)
        if self._monitor is not None:
            seconds = self._settings.pings.timeout_seconds
            if self._starting is not None:
                await self._starting
            await self._attempt("ping", ping_end(self._monitor, result, seconds))
        if self._metrics is not None:
            await self._put_out(self._metrics, result, pasts)
        return result

    async def _after_sync(self, result: "SyncResult") -> "SyncResult":
        follow_up = self._settings.after_sync
        if not follow_up.command or not follow_up.is_complete(result.exit_status):
            return result
        variables = sync_variables(result)
        try:
            await run_command(follow_up, variables, self._switch, self._note)
        except FollowUpError as error:
            self._failed("after", str(error))
            return replace(result, failure=f"complete, but {error}")
        return result

    async def _notifications(
        self, result: "SyncResult", pasts: Mapping[str, CohortPast]
    ) -> Sequence[str]:
        try:
            return await self._notifier.notify(result, pasts)
        except Exception as error:  # noqa: BLE001 - a bug here must not hide how the sync ended
            return [f"notifications failed by a bug, {type(error).__name__}"]

    async def _put_out(
        self, metrics: "SyncMetrics", result: "SyncResult", pasts: Mapping[str, CohortPast]
    ) -> None:
        """Add what was counted to the ledgers, then write the metrics to their places."""
        from engine.notices.metric_outputs import push, write_textfile  # noqa: PLC0415 - as above

        metrics.end(result)
        await self._show(metrics, pasts, is_stored=True)
        if path := self._settings.metrics.textfile:
            writing = asyncio.to_thread(write_textfile, Path(path), metrics)
            await self._attempt("textfile", writing)
        if self._gateway is not None:
            await self._attempt("push", push(self._gateway, metrics))

    async def _show(
        self, metrics: "SyncMetrics", pasts: Mapping[str, CohortPast], *, is_stored: bool = False
    ) -> None:
        """Let metrics show the ledgers' state; with `is_stored`, store their counts first."""
        earlier: list[MetricCount] = []
        read: list[NoticeLedger] = []
        for number, name in enumerate(workspaces_of(self._cohorts)):
            try:
                async with self._open_ledger(name) as ledger:
                    # Names of one workspace that differ in the partner share a ledger.
                    if not any(ledger is each for each in read):
                        read.append(ledger)
                        earlier += await ledger.notices.counts()
                    if is_stored:
                        counts = metrics.counts(name, is_first=number == 0)
                        await ledger.notices.add_counts(counts)
            except CohortSyncError as error:
                self._failed("metrics", f"{name}: the metrics lack earlier counts: {error.message}")
        metrics.show(pasts, earlier)

    async def _pasts(self, sync: str | None = None) -> dict[str, CohortPast]:
        now = self._clock.stamp().utc_ns
        failed = partial(self._failed, "history")
        return await read_pasts(self._cohorts, self._open_ledger, now, failed, sync)

    async def _attempt(self, kind: str, work: Awaitable[object]) -> None:
        try:
            await work
        except UndeliveredError as error:
            self._failed(kind, str(error))
        except Exception as error:  # noqa: BLE001 - a bug here must not hide how the sync ended
            self._failed(kind, f"a bug, {type(error).__name__}")

    def _failed(self, kind: str, sentence: str) -> None:
        self._note(f"{kind}: {sentence}")
        if self._metrics is not None:
            self._metrics.note_failure(kind)
