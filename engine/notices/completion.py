"""Lets markers and commands follow the cohorts of a sync that are complete."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.errors import CohortSyncError, ExitStatus
from engine.notices.follow_up import (
    FollowUp,
    FollowUpError,
    cohort_variables,
    remove_marker,
    run_command,
    write_marker,
)
from engine.notices.ports import NoticeContext
from engine.notices.problems import NoticedCohort

if TYPE_CHECKING:
    from engine.report.sync_result import CohortResult

Failed = Callable[[str, str], None]
"""Receives the kind of a notice that failed, and a sentence."""


class Completion:
    """The follow-ups of the cohorts of one sync."""

    def __init__(
        self,
        follow_ups: Mapping[str, FollowUp],
        cohorts: Sequence[NoticedCohort],
        context: NoticeContext,
        failed: Failed,
    ) -> None:
        """`follow_ups`: by the cohort's key."""
        self._switch = context.switch
        self._note = context.note
        self._follow_ups = follow_ups
        self._cohorts = {each.key: each for each in cohorts}
        self._open_ledger = context.open_ledger
        self._clock = context.clock
        self._failed = failed

    def begins(self, cohort: str) -> None:
        """Remove the marker of a cohort, given by its key."""
        marker = self._of(cohort).marker
        if marker is not None:
            try:
                remove_marker(marker)
            except FollowUpError as error:
                self._failed("marker", f"{cohort}: {error}")

    async def ended(self, sync: str, result: "CohortResult") -> "CohortResult":
        """Write the marker of a complete cohort and run its command; return its result.

        If one of the two fails, the exit status is 75: the next sync tries again, and sends nothing
        for that. A command that has succeeded is not run again until another run has finished.
        """
        follow_up = self._of(result.cohort)
        if not follow_up.is_complete(result.exit_status):
            return result
        try:
            await self._follow(follow_up, sync, result)
        except FollowUpError as error:
            self._failed("after", f"{result.cohort}: {error}")
            return replace(
                result,
                exit_status=ExitStatus.INCOMPLETE,
                reason=f"complete, but {error}",
                hint=f"`cohortsync sync {result.cohort}` tries that again, and sends nothing",
            )
        return result

    def _of(self, cohort: str) -> FollowUp:
        return self._follow_ups.get(cohort, FollowUp())

    async def _follow(self, follow_up: FollowUp, sync: str, result: "CohortResult") -> None:
        if follow_up.marker is not None:
            now = self._clock.stamp().utc_ns
            await asyncio.to_thread(write_marker, follow_up.marker, result, sync, now)
        if not follow_up.command:
            return
        cohort = self._cohorts[result.cohort]
        run = await self._finished_run(cohort, result)
        if run is not None and run == await self._followed_run(cohort):
            return
        variables = cohort_variables(result, sync) | {"COHORTSYNC_RUN": run or ""}
        await run_command(
            *(follow_up, variables, self._switch),
            lambda text: self._note(f"{result.cohort}: {text}"),
        )
        if run is not None:
            await self._record_followed(cohort, run)

    async def _finished_run(self, cohort: NoticedCohort, result: "CohortResult") -> str | None:
        """Return the run that completed a cohort, in this sync or before."""
        if result.run is not None:
            return result.run.accounts.run
        try:
            async with self._open_ledger(cohort.workspace) as ledger:
                return await ledger.notices.last_finished_run(cohort.partner, cohort.cohort_id)
        except CohortSyncError:
            return None

    async def _followed_run(self, cohort: NoticedCohort) -> str | None:
        try:
            async with self._open_ledger(cohort.workspace) as ledger:
                return await ledger.notices.followed_run(cohort.partner, cohort.key)
        except CohortSyncError:
            return None  # Twice is better than never.

    async def _record_followed(self, cohort: NoticedCohort, run: str) -> None:
        try:
            async with self._open_ledger(cohort.workspace) as ledger:
                await ledger.notices.record_followed(cohort.partner, cohort.key, run)
        except CohortSyncError as error:
            text = f"{cohort.key}: that its `after` command succeeded is not recorded"
            self._failed("after", f"{text}: {error.message}")
