"""The files of the uids of a run's operations: from positions to uids, and from uids to positions.

Records about an operation's uids refer to positions in the operation: which were sent, and with
which outcome. A plan keeps the uids of an operation in one file, a recorded push in one file for
each batch. Only this module translates positions to uids and back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import LedgerError
from engine.ledger.snapshot_records import RangeOutcome
from engine.model.cohort import Operation
from engine.payload.batch import Batch
from engine.source.block import Block
from engine.storage.files import names_in
from engine.storage.paths import operation_path, recorded_batch, recorded_path
from engine.storage.uid_parquet import LOST, UIDS, read_batches, write_batches


@dataclass(frozen=True, slots=True)
class OperationUids:
    """The uids that are kept of one operation of a run."""

    operation: Operation
    files: Mapping[int, Path]
    """By the position of each file's first uid, ascending."""

    def positions_of(self, uid: str) -> Iterator[int]:
        """Yield the positions of a uid, the first in each file."""
        for first, path in self.files.items():
            position = position_of(path, uid)
            if position is not None:
                yield first + position

    def with_outcome(
        self, outcomes: Iterable[RangeOutcome]
    ) -> Iterator[tuple[pa.BinaryArray, npt.NDArray[np.bool_]]]:
        """Yield the uids that have an outcome, and whether each was accepted.

        `outcomes` are disjoint; those of other operations are left out. Raises `LedgerError` if
        not all of the uids are kept.
        """
        mine = sorted(
            (each for each in outcomes if each.operation is self.operation),
            key=lambda each: each.first_uid,
        )
        if not mine:
            return
        firsts = np.array([each.first_uid for each in mine], np.int64)
        ends = firsts + np.array([each.uid_count for each in mine], np.int64)
        accepted = np.array([each.is_accepted for each in mine], np.bool_)
        found = 0
        for first, path in self.files.items():
            start = first
            for rows in read_batches(path, ["uid"]):
                positions = np.arange(start, start + len(rows))
                start += len(rows)
                which = np.searchsorted(firsts, positions, side="right") - 1
                has_outcome = (which >= 0) & (positions < ends[which])
                if has_outcome.any():
                    uids = rows["uid"].filter(pa.array(has_outcome))
                    found += len(uids)
                    yield uids, accepted[which[has_outcome]]
        if found != int((ends - firsts).sum()):
            raise LedgerError(
                f"the uids that a run has sent ({self.operation.value}) are not all kept any more",
                hint=LOST,
            )


def kept_uids(folder: Path, operation: Operation) -> OperationUids:
    """Return what a run's `folder` keeps of an operation; it has no files if nothing is kept."""
    whole = operation_path(folder, operation)
    files = {0: whole} if whole.exists() else batch_files(folder, operation)
    return OperationUids(operation, files)


def batch_files(folder: Path, operation: Operation) -> dict[int, Path]:
    """Return the files that a recorded push keeps, by the position of each one's first uid."""
    found = ((recorded_batch(name), folder / name) for name in names_in(folder))
    return dict(sorted((each[1], path) for each, path in found if each and each[0] is operation))


def recording(
    batches: Iterable[Batch],
    folder: Path,
    operation: Operation,
    known: int,
    permission: Callable[[], AbstractContextManager[None]],
) -> Iterator[Batch]:
    """Yield batches, each once its uids are kept in `folder`, before it can be sent.

    The name of a file holds the position of its first uid: cut again after a crash, the same batch
    has the same position.

    The ledger holds the first `known` uids: those are kept already. Files after them are of batches
    that a process cut but did not enter before it died.

    Each change of `folder` is made with `permission()`, which raises an error once the lock of the
    cohort may be released: a thread that reads the export may outlive the run.
    """
    with permission():
        for first_uid, path in batch_files(folder, operation).items():
            if first_uid >= known:
                path.unlink()
    for batch in batches:
        if batch.first_uid >= known:
            path = recorded_path(folder, operation, batch.first_uid)
            rows = pa.record_batch([batch.uids.cast(pa.binary())], schema=UIDS)
            with permission():
                write_batches(path, UIDS, [rows])
        yield batch


def operation_blocks(path: Path, start: int, stop: int) -> Iterator[Block]:
    """Yield the uids at the positions from `start` up to, but not including, `stop`.

    Records are numbered by their position in the operation, from 1, and the file is called `adds`,
    `removes` or `resends`.
    """
    position = 0
    for rows in read_batches(path, ["uid"]):
        first, last = max(start, position), min(stop, position + len(rows))
        if first < last:
            uids = rows["uid"].slice(first - position, last - first).cast(pa.string())
            yield Block(path.stem, first + 1, len(uids), uids, ())
        position += len(rows)
        if position >= stop:
            return


def sample(path: Path, count: int) -> list[str]:
    """Return the first `count` uids of an operation."""
    found: list[str] = []
    for block in operation_blocks(path, 0, count):
        found += block.uids.to_pylist()
    return found


def position_of(path: Path, uid: str) -> int | None:
    """Return the position of a uid in a file of an operation; None if it is not there."""
    wanted = pa.scalar(uid.encode(), pa.binary())
    start = 0
    for rows in read_batches(path, ["uid"]):
        position: int = pc.index(rows["uid"], wanted).as_py()
        if position >= 0:
            return start + position
        start += len(rows)
    return None
