"""A snapshot's file: its format, and its verification."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import LedgerError, UsageError
from engine.snapshot.partitions import CHANGE, Changes, Known, rewrite, states_of
from engine.snapshot.records import Snapshot, UidState
from engine.snapshot.sorted_file import SNAPSHOT, Layout, rows_of_partition
from engine.storage.computation import ComputeOptions
from engine.storage.files import digest_of
from engine.storage.uid_groups import group_uids
from engine.storage.uid_hash import HASH_BITS, partition_of
from engine.storage.uid_parquet import (
    LOST,
    checked_batches,
    is_damage,
    metadata_of,
    naming_damage,
    open_parquet,
    read_batches,
    reason_of,
)
from engine.storage.uid_spool import Side, open_spool

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def verify(snapshot: Snapshot) -> None:
    """Raise `LedgerError` unless the file exists and is unchanged since it was made."""
    try:
        digest = digest_of(snapshot.path)
    except OSError as error:
        raise LedgerError(
            f"the snapshot {snapshot.path} cannot be read: {error.strerror}", hint=LOST
        ) from error
    if digest != snapshot.digest:
        raise LedgerError(
            f"the snapshot {snapshot.path} is corrupt: it is not what the ledger knows", hint=LOST
        )


_WRITES_ONE = "`cohortsync snapshot export` writes one"


def take_over(
    path: Path, target: Path, options: ComputeOptions, check: Callable[[dict[bytes, bytes]], None]
) -> Snapshot:
    """Write a snapshot from elsewhere to `target`, sorted; `check` may refuse its metadata.

    Its runs become 0: the runs of another ledger have no meaning here. Raises `UsageError` unless
    it is undamaged, each uid is UTF-8 and occurs once, and each state is valid. Raises as
    `rewrite` and `open_spool` do.
    """
    said: dict[bytes, bytes] = {}
    with open_spool(target.parent, CHANGE, options.settings) as spool:
        for rows in options.interruption.until_tripped(_rows_from(path, said)):
            spool.write(rows)
        spool.finish()
        check(said)

        def refuse_twice(rows: pa.RecordBatch) -> pa.RecordBatch:
            if len(group_uids([rows["uid"]]).starts) < len(rows):
                raise UsageError(
                    f"{path}: is no snapshot: it contains a uid twice", hint=_WRITES_ONE
                )
            return rows

        def states(rows: pa.RecordBatch) -> npt.NDArray[np.uint8]:
            return states_of(refuse_twice(rows))

        changes = Changes(Side(spool, refuse_twice), states)
        return rewrite(changes, None, _imported, target, options)


def _imported(
    known: Known, change: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    return change, known.run


def _rows_from(path: Path, said: dict[bytes, bytes]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a snapshot from elsewhere; put its metadata into `said`."""
    try:
        with open_parquet(path) as file:
            said.update(metadata_of(file))
            yield from _valid_rows(file)
    except Exception as error:
        if not is_damage(error):
            raise
        if isinstance(error, OSError) and error.strerror:
            raise UsageError(
                f"{path}: cannot be read ({error.strerror})",
                hint=f"it was looked for in {path.absolute().parent}; {_WRITES_ONE}",
            ) from error
        # Arrow's error for a file that is not Parquet does not help a user.
        is_arrows = isinstance(error, pa.ArrowException | OSError)
        reason = "it is not Parquet, or damaged" if is_arrows else reason_of(error)
        raise UsageError(f"{path}: is no whole snapshot: {reason}", hint=_WRITES_ONE) from error


_STATES = pa.array([int(state) for state in UidState], pa.uint8())


def _valid_rows(file: "pq.ParquetFile") -> Iterator[pa.RecordBatch]:
    """Yield an open file's rows, without their runs; raises `ValueError` for invalid content."""
    if not file.schema_arrow.equals(SNAPSHOT):
        raise ValueError("it has other columns")
    for rows in checked_batches(file, SNAPSHOT.names):
        if not pc.all(pc.is_in(rows["state"], value_set=_STATES), min_count=0).as_py():
            raise ValueError("a uid has no state")
        try:
            rows["uid"].cast(pa.string()).validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError("a uid is not UTF-8") from error  # Arrow's message may quote it.
        yield rows.select(CHANGE.names)


def look_up(path: Path, uid: str) -> tuple[UidState, int] | None:
    """Return a uid's state, and the run of its last change; None if it is not in the file.

    Of a sorted snapshot, only one row group is read. Raises `LedgerError` for a
    damaged file.
    """
    wanted = pa.scalar(uid.encode(), pa.binary())
    for rows in _rows_near(path, uid.encode()):
        place = pc.index(rows["uid"], wanted).as_py()
        if place >= 0:
            return UidState(rows["state"][place].as_py()), rows["run"][place].as_py()
    return None


def _rows_near(path: Path, uid: bytes) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a snapshot among which a uid is, if it is in the snapshot."""
    with naming_damage(path), open_parquet(path) as file:
        if (layout := Layout.of(file)) is not None:
            yield rows_of_partition(path, file, layout, partition_of(uid, HASH_BITS))[0]
            return
    yield from read_batches(path, SNAPSHOT.names)


def uids_in(path: Path, states: tuple[UidState, ...]) -> Iterator[pa.BinaryArray]:
    """Yield the uids that are in one of `states`, block by block."""
    wanted = pa.array([int(state) for state in states], pa.uint8())
    for batch in read_batches(path, ["uid", "state"]):
        yield batch["uid"].filter(pc.is_in(batch["state"], value_set=wanted))
