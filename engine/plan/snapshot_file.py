"""A snapshot's file: what it holds, and whether it still does."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import LedgerError, UsageError
from engine.plan.files import digest_of
from engine.plan.planning import planner, share, shares_for
from engine.plan.records import UNKNOWN, Census, Snapshot, UidState
from engine.plan.settings import PlanningSettings
from engine.plan.staging import LOST, read_batches

SNAPSHOT = pa.schema(
    [
        pa.field("uid", pa.binary(), nullable=False),
        pa.field("state", pa.uint8(), nullable=False),
        pa.field("run", pa.int32(), nullable=False),
    ]
)
"""`state` is a `UidState`, `run` the ledger's number of the run in which it last changed."""


def describe(path: Path) -> Snapshot:
    """Return a file that was just made as the snapshot that it is."""
    counts = np.zeros(max(UidState) + 1, np.int64)
    for batch in read_batches(path, ["state"]):
        counts += np.bincount(batch["state"].to_numpy(), minlength=len(counts))
    unknown = sum(int(counts[state]) for state in UNKNOWN)
    census = Census(int(counts[UidState.IN]), unknown, int(counts[UidState.OUT]))
    return Snapshot(path, census, digest_of(path))


def verify(snapshot: Snapshot) -> None:
    """Raise `LedgerError` unless the file is there, and is what it was when it was made."""
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
_UNFIT = """
SELECT count(*) FROM (
  SELECT uid FROM {rows} GROUP BY uid
  HAVING count(*) > 1 OR uid IS NULL OR count_if(state IN (1, 2, 3, 4)) = 0
)
"""


def check_snapshot(path: Path, folder: Path, settings: PlanningSettings) -> None:
    """Raise `UsageError` unless a file from elsewhere is a snapshot, with each uid once.

    What does not fit into memory is put into `folder` meanwhile.
    """
    import duckdb  # noqa: PLC0415 - large, and only plans need it

    try:
        schema = pq.read_schema(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except pa.ArrowException as error:
        raise UsageError(f"{path}: is no Parquet file", hint=_WRITES_ONE) from error
    if not schema.equals(SNAPSHOT):
        raise UsageError(f"{path}: is no snapshot", hint=_WRITES_ONE)
    shares = shares_for(pq.read_metadata(path).num_rows, path.stat().st_size, settings)
    with planner(settings, folder) as connection:
        for which in range(shares):
            query = _UNFIT.format(rows=share(path, shares, which))
            try:
                unfit = connection.execute(query).fetchone()
            except (duckdb.IOException, duckdb.InvalidInputException) as error:
                reason = str(error).partition("\n")[0]
                raise UsageError(f"{path}: cannot be read ({reason})") from error
            if unfit != (0,):
                raise UsageError(
                    f"{path}: is no snapshot: uids stand in it twice, or without a state",
                    hint=_WRITES_ONE,
                )
    for rows in read_batches(path, ["uid"]):
        try:
            rows["uid"].cast(pa.string()).validate(full=True)
        except pa.ArrowInvalid as error:
            raise UsageError(f"{path}: is no snapshot: a uid is not UTF-8") from error


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
