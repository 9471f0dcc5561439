"""Cases of what a plan compares: an export, what was acknowledged, and what bears on the order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from known_snapshot import SETTINGS, Known, snapshot_of
from weak_hash import only_bits

from engine.model.cohort import Operation
from engine.planning.comparison import compare
from engine.planning.conditions import REJECTIONS, Conditions, Resend
from engine.planning.staging import EXPORT, stage, stage_changes
from engine.snapshot.records import (
    Comparison,
    HeldChanges,
    Member,
    PlannedOperation,
    Snapshot,
    Staged,
    UidList,
    UidState,
)
from engine.source.block import Block
from engine.storage.computation import ComputeOptions
from engine.storage.uid_parquet import read_batches
from engine.storage.uid_spool import open_spool

UIDS = ["007", "7", "1e5", "NULL", "nan", 'a"b', "a\\b", "é", "😀", "a\0b", "A", "a", "a ", " "]
OPTIONS = ComputeOptions(SETTINGS)
THIS_RUN = 9

BECOMES = {
    (Operation.ADD, True): UidState.IN,
    (Operation.ADD, False): UidState.MAY_BE_IN,
    (Operation.REMOVE, True): UidState.OUT,
    (Operation.REMOVE, False): UidState.MAY_BE_OUT,
}


@dataclass(frozen=True)
class Case:
    """An export, what was acknowledged, and what bears on the order."""

    export: Sequence[str]
    known: Known
    recent: frozenset[int]
    rejected: Mapping[tuple[str, Operation], tuple[int, bool]]
    waiting: HeldChanges = field(default_factory=HeldChanges)
    resend: Resend | None = None
    limit: int = 10**9
    """Bytes of a partition."""
    is_sorted: bool = True
    """Whether the snapshot is sorted; those of older versions are not."""
    is_weak: bool = False
    """Whether there are only a few different hashes."""
    excluded: frozenset[str] | None = None
    removals: frozenset[int] | None = None
    """The rows that say remove, if the export is a list of changes."""

    @property
    def said(self) -> dict[str, Operation]:
        """What the last row of each uid says; of an export of members, each says add."""
        rows = self.removals or frozenset()
        return {
            uid: Operation.REMOVE if number in rows else Operation.ADD
            for number, uid in enumerate(self.export)
        }

    @property
    def wanted(self) -> set[str]:
        said = self.said
        return {uid for uid in said if said[uid] is Operation.ADD} - (self.excluded or set())

    @property
    def unchanged(self) -> set[str]:
        """The uids that are as the export says."""
        states = {uid: self.known.get(uid, (0, 0))[0] for uid in self.export}
        return {
            uid
            for uid, said in self.said.items()
            if (uid in self.wanted and states[uid] is UidState.IN)
            or (said is Operation.REMOVE and states[uid] is UidState.OUT)
        }

    @property
    def left_out(self) -> set[str]:
        """The uids of the export that are excluded, and not among its changes."""
        changed = set[str]() if self.removals is None else self.changed[Operation.REMOVE]
        said = self.said
        kept = {uid for uid in said if said[uid] is Operation.ADD} - self.wanted
        return kept - changed

    def base(self, folder: Path) -> Snapshot | None:
        """Write what was acknowledged."""
        if not self.known:
            return None
        return snapshot_of(self.known, folder / "base.parquet", is_sorted=self.is_sorted)

    @contextmanager
    def conditions(self) -> Iterator[None]:
        """Bound the partitions, and weaken the hash."""
        with ExitStack() as stack:
            if self.is_weak:
                stack.enter_context(only_bits(1 << 60))
            for module in ("planning.comparison", "snapshot.partitions"):
                place = f"engine.{module}.partition_bytes"
                stack.enter_context(patch(place, lambda *_: self.limit))
            stack.enter_context(patch("engine.storage.uid_spool._FAST", self.limit))
            stack.enter_context(patch("engine.snapshot.sorted_file._ROWS_A_PARTITION", 2))
            yield

    def bearing(self, excluded: Staged | None, removals: Staged | None = None) -> Conditions:
        """Return what decides which of the differences are sent, and when."""
        rejections = pa.table(
            {
                "uid": [uid.encode() for uid, _ in self.rejected],
                "wanted": [operation is Operation.ADD for _, operation in self.rejected],
                "run": [run for run, _ in self.rejected.values()],
                "is_due": [is_due for _, is_due in self.rejected.values()],
            },
            schema=REJECTIONS,
        )
        return Conditions(
            *(sorted(self.recent), self.waiting, rejections, self.resend, excluded, removals)
        )

    def kind(self, uid: str, operation: Operation) -> str:
        state, run = self.known.get(uid, (0, 0))
        rejecting, is_due = self.rejected.get((uid, operation), (-1, False))
        reversed_states = {
            Operation.ADD: (UidState.OUT, UidState.MAY_BE_OUT),
            Operation.REMOVE: (UidState.IN, UidState.MAY_BE_IN),
        }[operation]
        if rejecting >= run and not is_due:
            return "known"
        if state in reversed_states and run in self.recent:
            return "held"
        if self.waiting.adds if operation is Operation.ADD else self.waiting.removes:
            return "held"
        return "suspect" if rejecting >= run else "plain"

    def resent(self) -> list[Member]:
        """All that a round of resending has to come, in order: the newest first."""
        wanted = self.wanted
        members = sorted(
            (
                Member(run, uid.encode())
                for uid, (state, run) in self.known.items()
                if state is UidState.IN
                and uid in wanted
                and self.rejected.get((uid, Operation.ADD), (0, True))[1]
            ),
            key=lambda member: (-member.run, member.uid),
        )
        after = self.resend and self.resend.after
        if after is None:
            return members
        left = [m for m in members if (-m.run, m.uid) > (-after.run, after.uid)]
        return left or members

    @property
    def changed(self) -> dict[Operation, set[str]]:
        """The uids to be added, and those to be removed."""
        wanted, said = self.wanted, self.said
        inside = {uid for uid, (state, _) in self.known.items() if state is UidState.IN}
        away = {uid for uid, (state, _) in self.known.items() if state is UidState.OUT}
        unwanted = set(self.known) - wanted
        if self.removals is not None:
            unwanted = {
                uid
                for uid in said
                if said[uid] is Operation.REMOVE or (uid not in wanted and uid in self.known)
            }
        return {Operation.ADD: wanted - inside, Operation.REMOVE: unwanted - away}

    def operations(self) -> dict[Operation, dict[str, set[str]]]:
        return {
            operation: {
                kind: {uid for uid in uids if self.kind(uid, operation) == kind}
                for kind in ("plain", "suspect", "held", "known")
            }
            for operation, uids in self.changed.items()
        }


uids = st.sampled_from(UIDS)
runs = st.integers(1, 4)
cases = st.builds(
    Case,
    st.lists(uids, max_size=30),
    st.dictionaries(uids, st.tuples(st.sampled_from(UidState), runs), max_size=14),
    st.frozensets(runs, max_size=2),
    st.dictionaries(
        st.tuples(uids, st.sampled_from([Operation.ADD, Operation.REMOVE])),
        st.tuples(runs, st.booleans()),
        max_size=4,
    ),
    st.builds(HeldChanges, st.booleans(), st.booleans()),
    st.none()
    | st.builds(
        Resend,
        st.integers(1, 8),
        st.none() | st.builds(Member, runs, uids.map(str.encode)),
    ),
    st.sampled_from([10**9, 10**9, 100]),
    st.booleans(),
    st.booleans(),
    st.none() | st.frozensets(uids),
    st.none() | st.frozensets(st.integers(0, 29)),
).map(lambda case: case if case.removals is None else replace(case, resend=None))


def blocks_of(
    export: Sequence[str], size: int = 7, removals: frozenset[int] | None = None
) -> Iterator[Block]:
    for start in range(0, len(export), size):
        part = export[start : start + size]
        is_remove = None
        if removals is not None:
            is_remove = np.isin(np.arange(start, start + len(part)), list(removals))
        yield Block("e.txt", start + 1, len(part), pa.array(part, pa.string()), (), is_remove)


def stage_case(case: Case, new_list: Callable[[], UidList]) -> tuple[Staged, Conditions]:
    """Stage the export and the lists; return it, and what bears on the comparison."""
    excluded = removals = None
    if case.removals is None:
        staged = stage(blocks_of(case.export), new_list())
    else:
        blocks = blocks_of(case.export, removals=case.removals)
        staged, removals = stage_changes(blocks, new_list(), new_list())
    if case.excluded is not None:
        excluded = stage(blocks_of(sorted(case.excluded) * 2), new_list())
    return staged, case.bearing(excluded, removals)


def known_in(path: Path) -> dict[str, tuple[UidState, int]]:
    rows = pq.read_table(path).to_pylist()
    found = {row["uid"].decode(): (UidState(row["state"]), row["run"]) for row in rows}
    assert len(found) == len(rows)
    return found


def compared(case: Case, folder: Path) -> tuple[Comparison, Snapshot | None]:
    with ExitStack() as stack:
        stack.enter_context(case.conditions())
        base = case.base(folder)
        staged, conditions = stage_case(
            case, lambda: stack.enter_context(open_spool(folder, EXPORT, SETTINGS))
        )
        found = compare(staged, base, folder, OPTIONS, conditions)
    return found, base


def uids_of(operation: PlannedOperation) -> list[str]:
    return [
        uid.decode()
        for batch in read_batches(operation.path, ["uid"])
        for uid in batch["uid"].to_pylist()
    ]
