"""A snapshot's file: its format, and its verification."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import LedgerError, UsageError
from engine.snapshot.records import UNKNOWN, Census, Snapshot, UidState
from engine.storage.capacity import shares_of_file
from engine.storage.duckdb_session import QueryOptions, Session, open_session
from engine.storage.files import digest_of
from engine.storage.uid_parquet import (
    LOST,
    checked_batches,
    is_damage,
    metadata_of,
    open_parquet,
    read_batches,
    reason_of,
    schema_of,
    write_batches,
)

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SNAPSHOT = schema_of(uid=pa.binary(), state=pa.uint8(), run=pa.int32())
"""`state` is a `UidState`, `run` the ledger's number of the run in which it last changed."""


def rows_of(snapshot: Snapshot | None, session: Session, shares: int, which: int) -> str:
    """Return as SQL the rows of one share of a snapshot; without a snapshot there are none."""
    return session.share(snapshot.path, shares, which) if snapshot else _NO_ROWS


_NO_ROWS = "(SELECT ''::BLOB AS uid, 0::UTINYINT AS state, 0::INTEGER AS run WHERE false)"


def describe(path: Path) -> Snapshot:
    """Return the snapshot of a file that was just made."""
    counts = np.zeros(max(UidState) + 1, np.int64)
    for batch in read_batches(path, ["state"]):
        counts += np.bincount(batch["state"].to_numpy(), minlength=len(counts))
    unknown = sum(int(counts[state]) for state in UNKNOWN)
    census = Census(int(counts[UidState.IN]), unknown, int(counts[UidState.OUT]))
    return Snapshot(path, census, digest_of(path))


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


def take_over(path: Path, target: Path) -> dict[bytes, bytes]:
    """Copy a snapshot from elsewhere to `target`; return its metadata.

    Its runs become 0: the runs of another ledger have no meaning here. Raises `UsageError` unless
    it is undamaged, each uid is UTF-8 and each state is valid.
    """
    said: dict[bytes, bytes] = {}
    write_batches(target, SNAPSHOT, _rows_from(path, said), "zstd")
    return said


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
    """Yield an open file's rows, with run 0; raises `ValueError` for invalid content."""
    if not file.schema_arrow.equals(SNAPSHOT):
        raise ValueError("it has other columns")
    for rows in checked_batches(file, SNAPSHOT.names):
        if not pc.all(pc.is_in(rows["state"], value_set=_STATES), min_count=0).as_py():
            raise ValueError("a uid has no state")
        try:
            rows["uid"].cast(pa.string()).validate(full=True)
        except pa.ArrowInvalid as error:
            raise ValueError("a uid is not UTF-8") from error  # Arrow's message may quote it.
        runs = pa.array(np.zeros(len(rows), np.int32))
        yield pa.record_batch([rows["uid"], rows["state"], runs], schema=SNAPSHOT)


def refuse_twice(path: Path, snapshot: Path, options: QueryOptions) -> None:
    """Raise `UsageError`, naming `path`, if its copy `snapshot` contains a uid twice.

    What exceeds memory is spilled beside that copy.
    """
    options = options.affordable()
    shares = shares_of_file(snapshot, options.settings)
    with open_session(options, snapshot.parent) as session:
        for which in range(shares):
            query = _TWICE.format(rows=session.share(snapshot, shares, which))
            for found in session.rows(query):
                if len(found):
                    raise UsageError(
                        f"{path}: is no snapshot: it contains a uid twice", hint=_WRITES_ONE
                    )


_TWICE = "SELECT 1 FROM (SELECT uid FROM {rows} GROUP BY uid HAVING count(*) > 1) LIMIT 1"


def look_up(path: Path, uid: str) -> tuple[UidState, int] | None:
    """Return a uid's state, and the run of its last change; None if it is not in the file."""
    wanted = pa.scalar(uid.encode(), pa.binary())
    for batch in read_batches(path, SNAPSHOT.names):
        place = pc.index(batch["uid"], wanted).as_py()
        if place >= 0:
            return UidState(batch["state"][place].as_py()), batch["run"][place].as_py()
    return None


def uids_in(path: Path, states: tuple[UidState, ...]) -> Iterator[pa.BinaryArray]:
    """Yield the uids that are in one of `states`, block by block."""
    wanted = pa.array([int(state) for state in states], pa.uint8())
    for batch in read_batches(path, ["uid", "state"]):
        yield batch["uid"].filter(pc.is_in(batch["state"], value_set=wanted))
