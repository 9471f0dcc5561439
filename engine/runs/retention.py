"""Deletes from the state folder what is old and what no later run needs."""

import asyncio
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from engine.clock import Clock, SystemClock
from engine.config.loading import Config
from engine.ledger.locks import all_at_once, cohort_at_once, sole_writer
from engine.ledger.sqlite.access import ledgers, readable_files
from engine.ledger.sqlite.ledger import open_shared
from engine.ledger.sqlite.pruning import Bounds, OldRun, Pruner
from engine.model.cohort import CohortKey
from engine.report.state import Pruned
from engine.runs.queries import sweep
from engine.runs.usage import spill_folders
from engine.snapshot.lost_ledger import generations_in, lost_ledger, unknown
from engine.storage.paths import (
    generation_path,
    is_ledger_backup,
    is_run_name,
    plan_folder,
    plans_folder,
    queries_folder,
    snapshot_folder,
)
from engine.storage.temporary import remove_abandoned_folders, remove_abandoned_parts

_DAY_NS = 86_400_000_000_000
_PAUSE_SECONDS = 0.005
"""Between two transactions, so that those of other processes get their turn."""
_HELD_SECONDS = 0.1
"""How long the lock of a cohort is held at once: any run tries longer than that to get it."""


async def prune(  # noqa: PLR0913 - one parameter an option
    config: Config,
    *,
    keep_days: int | None = None,
    is_dry_run: bool = False,
    clock: Clock | None = None,
    compacts: bool = True,
    ends: Callable[[], bool] = lambda: False,
) -> Pruned:
    """Delete what is older than `keep_days`, by default `state.keep_days`; return what it was.

    Other runs are not delayed: each transaction deletes few rows, and the lock of a cohort is held
    for less time than they try to get it. Only if it `compacts`, a ledger of an older version is
    written anew, once, if nobody uses it: who begins meanwhile is refused. A cohort that a process
    works on is skipped. Once `ends` returns True, the rest is left to the next prune. Raises
    `LedgerError` for a ledger that is lost or damaged.
    """
    clock = clock or SystemClock()
    if keep_days is not None:
        config = replace(config, retention=replace(config.retention, keep_days=keep_days))
    result = Pruned(is_dry_run=is_dry_run)
    for path in ledgers(config.state_dir):
        with readable_files(path.parent):
            if not is_dry_run:
                # An older ledger is migrated.
                ledger = await open_shared(path.parent, clock, is_sole=False)
                if ledger is None:
                    async with sole_writer(path.parent):
                        ledger = await open_shared(path.parent, clock, is_sole=True)
                if ledger is not None:
                    await ledger.close()
            work = _WorkspacePruning(config, path, clock, result, ends)
            await asyncio.to_thread(work.do, compacts=compacts)
    return result


def bounds_of(config: Config, now_utc_ns: int) -> Bounds:
    """Return what is old: nothing that the ceiling or a wait for changes to settle still counts."""
    kept_ns = max(
        config.retention.keep_days * _DAY_NS,
        config.mirror.settle_seconds * 1e9,
        config.pacing.per_seconds * 1e9,
    )
    rejected_ns = max(kept_ns, config.mirror.retry_rejected_days * _DAY_NS)
    return Bounds(
        now_utc_ns - round(kept_ns),
        now_utc_ns - round(rejected_ns),
        config.mirror.keep_generations,
    )


class _WorkspacePruning:
    """The deletions of one workspace's folder; its methods block."""

    def __init__(
        self,
        config: Config,
        path: Path,
        clock: Clock,
        result: Pruned,
        ends: Callable[[], bool],
    ) -> None:
        self._config = config
        self._path = path
        self._folder = path.parent
        self._bounds = bounds_of(config, clock.stamp().utc_ns)
        self._result = result
        self._ends = ends
        self._deleted: set[Path] = set()
        """Folders that are deleted, or would be."""

    def do(self, *, compacts: bool) -> None:
        """Delete what no run needs, cohort by cohort, then what belongs to no cohort."""
        with Pruner.open(self._path, is_dry_run=self._result.is_dry_run) as pruner:
            pruner.refuse_lost()
            before = _size(self._path)
            self._delete_rest(pruner)  # Of a prune that was killed.
            for key in pruner.cohorts():
                self._prune_cohort(pruner, key)
            self._delete_sync_records(pruner)
            self._delete_orphans(pruner)
            if not self._result.is_dry_run:
                self._shrink(pruner, compacts=compacts)
                self._result.ledger_bytes += max(0, before - _size(self._path))

    def _prune_cohort(self, pruner: Pruner, key: CohortKey) -> None:
        """Delete what a cohort does not need, and hold its lock for a short time at once."""
        is_complete = False
        while not is_complete and not self._ends():
            runs: list[OldRun] = []
            with cohort_at_once(self._folder, key) as is_free:
                if not is_free:
                    self._result.skipped.append(key.cohort_id)
                    return
                is_complete = self._prune_some(pruner, key, runs)
            for run in runs:  # They are on no list any more, so that nobody needs the rest of them.
                self._count_run(pruner, run)
                self._delete_folder(plan_folder(self._folder, run.name))
            self._delete_rest(pruner)

    def _prune_some(self, pruner: Pruner, key: CohortKey, runs: list[OldRun]) -> bool:
        """Delete what a cohort does not need; return False if more is left when the time is up.

        `runs` receives the runs that are deleted.
        """
        is_dry_run = self._result.is_dry_run
        end = math.inf if is_dry_run else time.monotonic() + _HELD_SECONDS
        dropped: list[int] = []
        for each in (key, replace(key, is_shadow=True)):
            self._refuse_lost(pruner, each)
            numbers = self._drop_generations(pruner, each)
            dropped += [] if each.is_shadow else numbers
        for run in pruner.old_runs(key, self._bounds, dropped):
            runs.append(run)
            if not is_dry_run:
                pruner.delete_run(run.number)
            if time.monotonic() > end:
                return False
        for name in pruner.unneeded_uids(key):
            if self._delete_folder(plan_folder(self._folder, name)) and time.monotonic() > end:
                return False
        if not is_dry_run:
            for each in (key, replace(key, is_shadow=True)):
                pruner.forget_generations(each, self._bounds)
                folder = snapshot_folder(self._folder, each)
                remove_abandoned_folders(folder)
                remove_abandoned_parts(folder)
        return True

    def _refuse_lost(self, pruner: Pruner, key: CohortKey) -> None:
        """Raise `LedgerError` if the ledger is an old copy: its files may be all that is left."""
        folder = snapshot_folder(self._folder, key)
        if found := unknown(generations_in(folder), *pruner.last_generations(key)):
            raise lost_ledger(generation_path(folder, max(found)))

    def _drop_generations(self, pruner: Pruner, key: CohortKey) -> list[int]:
        old = pruner.old_generations(key, self._bounds)
        numbers = [each.number for each in old]
        self._result.snapshots += len(old)
        if old and not self._result.is_dry_run:
            pruner.drop_generations(key, numbers)
        folder = snapshot_folder(self._folder, key)
        for each in old:
            self._delete_file(folder / str(each.file))
        return numbers

    def _count_run(self, pruner: Pruner, run: OldRun) -> None:
        attempts, rejects = pruner.counts(run.number)
        self._result.runs += 1
        self._result.attempts += attempts
        self._result.rejects += rejects

    def _delete_rest(self, pruner: Pruner) -> None:
        while not (self._result.is_dry_run or self._ends()) and pruner.delete_some():
            time.sleep(_PAUSE_SECONDS)

    def _delete_sync_records(self, pruner: Pruner) -> None:
        self._result.sync_records += pruner.old_sync_records(self._bounds)
        is_over = self._result.is_dry_run
        while not (is_over or self._ends()) and pruner.delete_sync_records(self._bounds):
            time.sleep(_PAUSE_SECONDS)

    def _delete_orphans(self, pruner: Pruner) -> None:
        """Delete folders of runs that the ledger does not have, and old copies of the ledger.

        The folders are listed before the runs: a run is in the ledger before it has a folder.
        """
        folders = [each for each in _entries(plans_folder(self._folder)) if is_run_name(each.name)]
        known = pruner.run_names()
        for folder in folders:
            # It may be needed to find out what an old copy of the ledger does not know.
            if folder.name not in known and not self._result.skipped:
                self._delete_folder(folder)
        for path in _entries(self._folder):
            if is_ledger_backup(path.name) and self._is_old(path):
                self._result.files += 1
                self._delete_file(path)
        if not self._result.is_dry_run:
            self._result.file_bytes += sweep(queries_folder(self._folder), self._config.state_dir)
            remove_abandoned_parts(self._folder)
            for parent in (self._folder, self._config.state_dir, *spill_folders(self._config)):
                remove_abandoned_folders(parent)

    def _is_old(self, path: Path) -> bool:
        return path.lstat().st_mtime_ns < self._bounds.ended_before_utc_ns

    def _shrink(self, pruner: Pruner, *, compacts: bool) -> None:
        """Return free pages to the disk: part by part, or at once if no process works here."""
        if compacts and pruner.is_worth_compacting:
            with all_at_once(self._folder) as holder:
                if holder is None:
                    pruner.compact()
        while not self._ends() and pruner.return_some():
            time.sleep(_PAUSE_SECONDS)
        pruner.checkpoint()

    def _delete_folder(self, folder: Path) -> bool:
        """Delete a folder; return whether it was there."""
        if folder in self._deleted or not folder.is_dir():
            return False
        self._deleted.add(folder)
        sizes = [_size(each) for each in folder.rglob("*") if each.is_file()]
        self._result.plans += 1
        self._result.file_bytes += sum(sizes)
        if not self._result.is_dry_run:
            rmtree(folder, ignore_errors=True)
        return True

    def _delete_file(self, path: Path) -> None:
        self._result.file_bytes += _size(path)
        if not self._result.is_dry_run:
            path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
