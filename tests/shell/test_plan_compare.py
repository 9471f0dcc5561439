"""What a plan compares and folds, against a model of a few lines of Python."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cohort import Action
from engine.errors import IncompleteError, LedgerError
from engine.plan.compare import REJECTIONS, compare
from engine.plan.fold import FATES, fold
from engine.plan.planning import check_disk
from engine.plan.records import Comparison, Leg, Snapshot, UidState
from engine.plan.settings import PlanningSettings
from engine.plan.snapshot_file import SNAPSHOT, describe, look_up, verify
from engine.plan.staging import read_batches, stage, write_batches
from engine.source.block import Block, Skipped

SETTINGS = PlanningSettings(memory_megabytes=64, threads=1)
UIDS = ["007", "7", "1e5", "NULL", "nan", 'a"b', "a\\b", "é", "😀", "a\0b", "A", "a", "a ", " "]
THIS_RUN = 9

Known = Mapping[str, tuple[UidState, int]]


@dataclass(frozen=True)
class Night:
    """An export, what was acknowledged, and what bears on the order."""

    export: Sequence[str]
    known: Known
    recent: frozenset[int]
    rejected: Mapping[str, tuple[int, bool]]

    def kind(self, uid: str, action: Action) -> str:
        state, run = self.known.get(uid, (0, 0))
        rejecting, is_due = self.rejected.get(uid, (-1, False))
        reversed_states = {
            Action.ADD: (UidState.OUT, UidState.MAY_BE_OUT),
            Action.REMOVE: (UidState.IN, UidState.MAY_BE_IN),
        }[action]
        if rejecting >= run and not is_due:
            return "known"
        if state in reversed_states and run in self.recent:
            return "held"
        return "suspect" if rejecting >= run else "plain"

    def legs(self) -> dict[Action, dict[str, set[str]]]:
        wanted = set(self.export)
        inside = {uid for uid, (state, _) in self.known.items() if state is UidState.IN}
        away = {uid for uid, (state, _) in self.known.items() if state is UidState.OUT}
        changes = {Action.ADD: wanted - inside, Action.REMOVE: set(self.known) - wanted - away}
        return {
            action: {
                kind: {uid for uid in uids if self.kind(uid, action) == kind}
                for kind in ("plain", "suspect", "held", "known")
            }
            for action, uids in changes.items()
        }


uids = st.sampled_from(UIDS)
runs = st.integers(1, 4)
nights = st.builds(
    Night,
    st.lists(uids, max_size=30),
    st.dictionaries(uids, st.tuples(st.sampled_from(UidState), runs), max_size=14),
    st.frozensets(runs, max_size=2),
    st.dictionaries(uids, st.tuples(runs, st.booleans()), max_size=4),
)


def blocks_of(export: Sequence[str], size: int = 7) -> Iterator[Block]:
    for start in range(0, len(export), size):
        part = export[start : start + size]
        yield Block("e.txt", start + 1, len(part), pa.array(part, pa.string()), ())


def snapshot_of(known: Known, path: Path) -> Snapshot:
    rows = {
        "uid": [uid.encode() for uid in known],
        "state": [int(state) for state, _ in known.values()],
        "run": [run for _, run in known.values()],
    }
    write_batches(path, SNAPSHOT, pa.table(rows, schema=SNAPSHOT).to_batches())
    return describe(path)


def known_in(path: Path) -> dict[str, tuple[UidState, int]]:
    rows = pq.read_table(path).to_pylist()
    found = {row["uid"].decode(): (UidState(row["state"]), row["run"]) for row in rows}
    assert len(found) == len(rows)
    return found


def compared(night: Night, folder: Path) -> tuple[Comparison, Snapshot | None]:
    base = snapshot_of(night.known, folder / "base.parquet") if night.known else None
    staged = stage(blocks_of(night.export), folder / "staged.parquet")
    rejections = pa.table(
        {
            "uid": [uid.encode() for uid in night.rejected],
            "run": [run for run, _ in night.rejected.values()],
            "is_due": [is_due for _, is_due in night.rejected.values()],
        },
        schema=REJECTIONS,
    )
    found = compare(
        staged, base, folder, SETTINGS, recent_runs=sorted(night.recent), rejections=rejections
    )
    return found, base


def uids_of(leg: Leg) -> list[str]:
    return [
        uid.decode()
        for batch in read_batches(leg.path, ["uid"])
        for uid in batch["uid"].to_pylist()
    ]


@given(nights)
def test_a_comparison_is_what_the_model_says(night: Night) -> None:
    with TemporaryDirectory() as name:
        found, _ = compared(night, Path(name))
        legs = night.legs()
        for leg, kinds in ((found.adds, legs[Action.ADD]), (found.removes, legs[Action.REMOVE])):
            planned = uids_of(leg)
            first, second = leg.plain, leg.plain + leg.suspect
            assert sorted(planned[:first]) == sorted(kinds["plain"])
            assert sorted(planned[first:second]) == sorted(kinds["suspect"])
            assert sorted(planned[second:]) == sorted(kinds["held"])
        assert found.known_rejects == len(legs[Action.ADD]["known"])
        wanted = set(night.export)
        assert found.duplicate == len(night.export) - len(wanted)
        assert found.unchanged == sum(
            night.known.get(uid, (None, 0))[0] is UidState.IN for uid in wanted
        )
        parts = (found.duplicate, found.unchanged, found.adds.planned, found.known_rejects)
        assert sum(parts) == len(night.export)
        left = {path.name for path in Path(name).iterdir()} - {"base.parquet", "staged.parquet"}
        assert left == {"adds.parquet", "removes.parquet"}


@given(nights, st.data())
def test_a_fold_moves_only_what_may_have_changed(night: Night, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        found, base = compared(night, folder)
        expected = {
            uid: was
            for uid, was in night.known.items()
            if was[0] is not UidState.OUT or was[1] in night.recent
        }
        fates = []
        for action, leg in ((Action.ADD, found.adds), (Action.REMOVE, found.removes)):
            planned = uids_of(leg)
            cuts = data.draw(st.lists(st.integers(0, len(planned)), max_size=4).map(sorted))
            for start, end in zip([0, *cuts], [*cuts, len(planned)], strict=True):
                fate = data.draw(st.sampled_from([True, False, None]))
                if fate is None or start == end:
                    continue
                fates.append((action.value, start, end - start, fate))
                for uid in planned[start:end]:
                    expected[uid] = (
                        {
                            (Action.ADD, True): UidState.IN,
                            (Action.ADD, False): UidState.MAY_BE_IN,
                            (Action.REMOVE, True): UidState.OUT,
                            (Action.REMOVE, False): UidState.MAY_BE_OUT,
                        }[action, fate],
                        THIS_RUN,
                    )
        table = (
            pa.table(dict(zip(FATES.names, zip(*fates, strict=True), strict=True)), schema=FATES)
            if fates
            else FATES.empty_table()
        )
        for _ in range(2):  # Done again after a crash, it comes to the same.
            after = fold(
                base,
                found.adds.path,
                found.removes.path,
                table,
                run=THIS_RUN,
                recent_runs=[*night.recent, THIS_RUN],
                target=folder / "next.parquet",
                settings=SETTINGS,
            )
            assert known_in(after.path) == expected
        states = [state for state, _ in expected.values()]
        assert after.census.members == states.count(UidState.IN)
        assert after.census.out == states.count(UidState.OUT)
        assert after.census.unknown == len(states) - after.census.members - after.census.out
        assert after.path.stat().st_mode & 0o777 == 0o600
        verify(after)
        for uid in UIDS:
            assert look_up(after.path, uid) == expected.get(uid)


def test_a_stage_counts_every_row_and_hands_on_the_skipped(tmp_path: Path) -> None:
    blocks = [
        Block("a", 1, 4, pa.array(["x", "y"]), (Skipped(2, 1, "blank"), Skipped(4, 1, "odd"))),
        Block("b", 1, 1, pa.array(["x"]), ()),
    ]
    kept: list[tuple[str, int, str]] = []
    seen: list[str] = []
    staged = stage(
        iter(blocks),
        tmp_path / "s.parquet",
        keep=lambda rows: kept.extend((r.file, r.rows.record, r.rows.reason) for r in rows),
        look=lambda uids: seen.extend(uids.to_pylist()),
    )
    assert (staged.rows_read, staged.blank, staged.invalid, staged.uids) == (5, 1, 1, 3)
    assert staged.uid_bytes == 3
    assert kept == [("a", 2, "blank"), ("a", 4, "odd")]
    assert seen == ["x", "y", "x"]
    assert staged.path.stat().st_mode & 0o777 == 0o600


def test_a_broken_or_lost_snapshot_is_noticed(tmp_path: Path) -> None:
    snapshot = snapshot_of({"a": (UidState.IN, 1)}, tmp_path / "s.parquet")
    content = bytearray(snapshot.path.read_bytes())
    content[len(content) // 2] ^= 1
    snapshot.path.write_bytes(content)
    with pytest.raises(LedgerError, match="corrupt"):
        verify(snapshot)
    snapshot.path.unlink()
    with pytest.raises(LedgerError, match="cannot be read"):
        verify(snapshot)


def test_more_than_fits_into_memory_is_compared_on_disk(tmp_path: Path) -> None:
    wanted = [f"{number:024x}" for number in range(1_000, 401_000)]
    known = {f"{number:024x}": (UidState.IN, 1) for number in range(400_000)}
    found, _ = compared(Night(wanted, known, frozenset(), {}), tmp_path)
    assert (found.adds.planned, found.removes.planned, found.unchanged) == (1_000, 1_000, 399_000)


def test_a_disk_without_room_is_told_before_it_starts(tmp_path: Path) -> None:
    check_disk(tmp_path, 1)
    with pytest.raises(IncompleteError, match="GB are free") as caught:
        check_disk(tmp_path, 1 << 62)
    assert caught.value.hint
