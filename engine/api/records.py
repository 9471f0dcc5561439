"""The methods of `Engine` that look at the state folder and the configuration, or maintain them."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.api.opening import OpenEngine

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from engine.config.loading import Config
    from engine.pacing.pacer import Pacer
    from engine.preflight.finding import CheckResult, Finding
    from engine.preflight.source_preview import SourcePreview
    from engine.report.accounts import Accounts
    from engine.report.history import Reject, RunDetails
    from engine.report.period import PeriodReport
    from engine.report.plans import PlanEntry
    from engine.report.state import BackedUp, Pruned, Restored, StateUsage
    from engine.report.status import Status
    from engine.report.support import SupportReport
    from engine.report.why import UidReport
    from engine.runs.arguments import Exports, FormatName, Reading


class Records(OpenEngine):
    """What an engine can say of its runs, its cohorts and its state."""

    async def runs(
        self,
        *,
        cohort_id: str | None = None,
        status: Sequence[str] | None = None,
        since: datetime | None = None,
    ) -> "list[Accounts]":
        """Return the accounts of the runs in the state folder, the latest first.

        Only runs of that cohort, with one of those statuses, and begun at `since` or later.
        """
        from engine.ledger.run_records import RunFilter
        from engine.report.history import all_runs

        since_utc_ns = None
        if since is not None:
            since_utc_ns = max(0, min(round(since.timestamp() * 1e9), _LAST_UTC_NS))
        wanted = RunFilter(cohort_id=cohort_id, statuses=status, since_utc_ns=since_utc_ns)
        return await asyncio.to_thread(all_runs, self._configuration.state_folder, wanted)

    async def plans(self) -> "list[PlanEntry]":
        """Return the plans that are kept in the state folder, the latest first."""
        from engine.report.plans import kept_plans

        return await asyncio.to_thread(kept_plans, self._configuration.state_folder)

    async def show(self, run: str, *, attempts: bool = True) -> "RunDetails":
        """Return a run's accounts, files, batches and attempts; its totals are recounted.

        Without `attempts`, batches and attempts are left out: a run may have very many.
        Here and wherever a run or plan is named, `run` may be `latest`, or the beginning of one
        name only. Raises `UsageError` if there is no such run, or if there are several.
        """
        from engine.report.history import details_of

        return await asyncio.to_thread(
            details_of, self._configuration.state_folder, run, has_attempts=attempts
        )

    async def rejects(self, run: str) -> "AsyncGenerator[Reject, None]":
        """Yield every rejected uid of a run and every blank or invalid row, in export order.

        Raises `UsageError` if there is no such run.
        """
        from engine.cancellation import iterate_in_thread
        from engine.report.history import rejects_in

        state = self._configuration.state_folder
        async for reject in iterate_in_thread(lambda: rejects_in(state, run)):
            yield reject

    async def report(
        self,
        *,
        since_hours: float = 24.0,
        html: str | os.PathLike[str] | None = None,
        with_uids: bool = False,
    ) -> "PeriodReport":
        """Return what happened in the last hours, in all workspaces of the state folder.

        With `html`, also write it as a page to that file. With `with_uids`, it has the first
        rejected uids, and only its owner may read the page. Raises `LedgerError` if a ledger cannot
        be read or the page cannot be written.
        """
        from engine.clock import SystemClock
        from engine.report.period_reading import report_on

        now = SystemClock().stamp().utc_ns
        since = now - round(since_hours * 3600e9)
        read = partial(report_on, self._configuration.state_folder, since, now, with_uids=with_uids)
        report = await asyncio.to_thread(read)
        if html is not None:
            from engine.page.rendering import write_page

            await asyncio.to_thread(write_page, report, Path(html))
        return report

    async def why(
        self, uid: str, cohort_id: str | None = None, *, cohort: str | None = None
    ) -> "UidReport":
        """Return whether a uid is in a cohort, since when, and by which request.

        `cohort` is the key of a configured cohort, in place of an id.
        Raises `UsageError` if nothing was ever sent to the workspace or the cohort.
        """
        from engine.runs.inquiry import why

        config, cohort_id, _ = self._configuration.known(cohort_id, cohort)
        return await asyncio.to_thread(why, config, uid, cohort_id)

    async def status(self) -> "Status":
        """Return what runs now in all workspaces, and how each configured cohort stands.

        It only reads. Raises `LedgerError` for a ledger that cannot be read.
        """
        from engine.clock import SystemClock
        from engine.runs.present import shared_ceilings, status

        found = await asyncio.to_thread(status, self.project, SystemClock().stamp().utc_ns)
        return replace(found, shared=await shared_ceilings(self.project))

    async def usage(self) -> "StateUsage":
        """Return the size of the state folder, by kind of file.

        Raises `LedgerError` for a folder that cannot be read.
        """
        from engine.runs.usage import usage_of

        return await asyncio.to_thread(usage_of, self.project.shared)

    async def prune(self, *, keep_days: int | None = None, dry_run: bool = False) -> "Pruned":
        """Delete what is older than `keep_days`, by default `state.keep_days`, and not needed.

        Runs that send meanwhile are not delayed. A `dry_run` deletes nothing.
        """
        from engine.runs.retention import prune

        return await prune(self.project.shared, keep_days=keep_days, is_dry_run=dry_run)

    async def backup(self, folder: str | os.PathLike[str]) -> "BackedUp":
        """Copy ledgers and snapshots, as of one moment, to a new folder; runs go on meanwhile.

        Raises `UsageError` if the folder exists and is not empty.
        """
        from engine.runs.backup import backup

        return await backup(self._configuration.state_folder, Path(folder))

    async def restore(self, folder: str | os.PathLike[str]) -> "Restored":
        """Replace the state folder by a backup; the present state is set aside.

        What was sent after the backup is unknown: the next mirror of each cohort is stopped by the
        guard `restored`. Call it on an engine that has done nothing else. Raises `UsageError` for a
        folder that is no backup, `LedgerError` for a damaged one, and `LockHeldError` if a process
        works here.
        """
        from engine.runs.restore import restore

        return await restore(self.project, Path(folder))

    async def support(self, run: str) -> "SupportReport":
        """Return what the API's vendor needs to look into a run, without uids and credentials.

        `run` is as in `show`. A configuration that can't be read is left out of the report.
        """
        from engine.report.support import support_report

        def read() -> "SupportReport":
            return support_report(self._configuration.state_folder, run, self._masked_settings)

        return await asyncio.to_thread(read)

    def _masked_settings(self, workspace: str) -> "dict[str, dict[str, Any]] | None":
        """Return the settings of the workspace with this id, texts masked; None without one."""
        from engine.config.masked_settings import masked_settings
        from engine.errors import ConfigError

        try:
            configs = self.project.workspaces.values()
        except ConfigError:
            return None
        return next(
            (masked_settings(each) for each in configs if each.workspace.id == workspace), None
        )

    async def preview(
        self,
        exports: "Exports | None" = None,
        *,
        cohort: str | None = None,
        column: str | None = None,
        format: "FormatName | None" = None,  # noqa: A002 - the option's name
        header: bool | None = None,
        strip: bool | None = None,
        limit: int = 10,
        read_all: bool = False,
    ) -> "SourcePreview":
        """Return the first `limit` rows of an export as a run would read them, and what it has.

        `exports` are as in `Engine.push`, or the key of one configured cohort, as `cohort` is.
        About 100,000 rows are looked at, unless `read_all`. Nothing is sent, and no ledger is
        needed. Raises `SourceError` for an export that cannot be read, `UsageError`, and
        `ConfigError` if a cohort is named.
        """
        from engine.preflight.source_preview import PreviewRequest, preview

        reading: Reading = {"column": column, "format": format, "header": header, "strip": strip}
        request = PreviewRequest(exports, cohort, reading, limit, read_all)
        return await asyncio.to_thread(preview, request, self._configuration)

    async def check(
        self, *, live: bool = False, found: "Callable[[Finding], None]" = lambda _: None
    ) -> "CheckResult":
        """Check whether runs could start, in all workspaces; problems are returned, not raised.

        That the export of a configured cohort is not there is a note, as it may come later.
        `found` receives each finding as soon as it is known. With `live` the keys are tested by one
        deliberately invalid request each, for which the runs of this engine leave a turn.
        """
        from engine.preflight.check import run_checks
        from engine.preflight.finding import CheckResult

        def probing(config: "Config") -> "AbstractAsyncContextManager[Pacer]":
            return self._session(config).probing()

        findings = []
        async for finding in run_checks(self._configuration, probing if live else None):
            findings.append(finding)
            found(finding)
        return CheckResult(findings)


_LAST_UTC_NS = (1 << 63) - 1
"""The latest time that a ledger can hold, in the year 2262."""
