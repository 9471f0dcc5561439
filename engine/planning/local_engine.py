"""The comparison on this machine, and snapshots whose rows are in files; nothing to install."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.errors import LedgerError
from engine.planning.comparison import compare
from engine.planning.conditions import Conditions
from engine.planning.staging import EXPORT
from engine.snapshot.file_format import look_up, verify
from engine.snapshot.fold import RunChanges, fold
from engine.snapshot.partitions import is_sorted
from engine.snapshot.records import Comparison, Snapshot, Staged, UidState
from engine.storage.capacity import check_disk, disk_needed
from engine.storage.computation import ComputeOptions, Interruption
from engine.storage.paths import is_uid_file
from engine.storage.settings import PlanningSettings
from engine.storage.uid_spool import Spool, open_spool


class LocalEngine:
    """Compares uids on this machine, and keeps snapshots in files. Fulfils `PlanEngine`."""

    @contextmanager
    def comparing(self, folder: Path, options: ComputeOptions) -> Iterator["LocalComparison"]:
        """Yield a comparison; its spools lie in `folder` as `open_spool` says."""
        with ExitStack() as spools:
            yield LocalComparison(folder, options.settings, spools)

    def latest(self) -> int | None:
        """Return None: all generations are files in the cohort's folder."""
        return None

    def verify(self, snapshot: Snapshot, *, is_thorough: bool = False) -> None:
        """Raise `LedgerError` unless the file exists and is unchanged since it was made."""
        del is_thorough
        if not is_uid_file(snapshot.path.name):
            raise in_database(snapshot.path)
        verify(snapshot)

    def needs_sorting(self, snapshot: Snapshot) -> bool:
        """Return whether a snapshot is of an older version, which sorted none."""
        return not is_sorted(snapshot)

    def make(
        self,
        maker: Callable[[Path, Interruption], Snapshot],
        target: Path,
        options: ComputeOptions,
    ) -> Snapshot:
        """Let `maker` write the rows of a generation to `target`."""
        return maker(target, options.interruption)

    def fold(
        self, base: Snapshot | None, changes: RunChanges, target: Path, options: ComputeOptions
    ) -> Snapshot:
        """Write the generation after `base` to `target`; raises as `engine.snapshot.fold.fold`."""
        return fold(base, changes, target, options)

    def as_file(self, snapshot: Snapshot, target: Path, options: ComputeOptions) -> Snapshot:
        """Raise `LedgerError`: a generation that is no file was made with another engine."""
        del target, options
        raise in_database(snapshot.path)

    def look_up(self, path: Path, uid: str) -> tuple[UidState, int] | None:
        """Return a uid's state in a generation's file, and the run since which it has it."""
        if not is_uid_file(path.name):
            raise in_database(path)
        return look_up(path, uid)


@dataclass(frozen=True, slots=True)
class LocalComparison:
    """A comparison whose rows are in spools. Fulfils `EngineComparison`."""

    folder: Path
    settings: PlanningSettings
    spools: ExitStack

    def new_list(self) -> Spool:
        """Open a spool for the rows of an export or a list; raises as `open_spool`."""
        return self.spools.enter_context(open_spool(self.folder, EXPORT, self.settings))

    def compare(
        self,
        staged: Staged,
        base: Snapshot | None,
        folder: Path,
        options: ComputeOptions,
        conditions: Conditions,
    ) -> Comparison:
        """Compare; raises as `engine.planning.comparison.compare` and `check_disk`."""
        known = base.census.total if base else 0
        lists = [staged, *([conditions.removals] if conditions.removals else [])]
        uids, size = sum(each.uids for each in lists), sum(each.uid_bytes for each in lists)
        check_disk(folder, disk_needed(uids, size, known))
        return compare(staged, base, folder, options, conditions)


def in_database(path: Path) -> LedgerError:
    """Return the error for a file that only says in which database a generation's rows are."""
    return LedgerError(
        f"the snapshot {path} is kept in a database or a lake",
        hint="set `plan.engine` and `plan.connection` to those that it was made with",
    )


LOCAL = LocalEngine()
