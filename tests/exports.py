"""Exports made up by hypothesis: records in files, read in blocks, and what they should come to."""

import io
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from engine.source.block import BLANK, Block, Skipped

NASTY = [*'"\\\n\r\t\b\f/', "\x00", "\x1f", "\x7f", "\x80", "é", "\u2028", "\ufeff", "😀"]
uids = st.text(st.one_of(st.sampled_from(NASTY), st.characters(codec="utf-8")), min_size=1)
plain_uids = st.text("XYZ", min_size=1, max_size=12)


@dataclass(frozen=True)
class Row:
    """A record: a uid, or the reason why it plans none."""

    uid: str | None = None
    reason: str = ""


skipped_rows = st.sampled_from([Row(reason=BLANK), Row(reason="bad"), Row(reason="worse")])


def rows(of: st.SearchStrategy[str] = uids) -> st.SearchStrategy[list[Row]]:
    """Make records, with runs of skipped ones anywhere among them."""
    some = st.lists(st.one_of(of.map(Row), skipped_rows), max_size=8)
    return st.lists(some, max_size=5).map(lambda runs: [row for run in runs for row in run])


@dataclass(frozen=True)
class Export:
    """Files of rows."""

    files: list[list[Row]]

    @property
    def rows(self) -> list[Row]:
        return [row for file in self.files for row in file]

    @property
    def uids(self) -> list[str]:
        return [row.uid for row in self.rows if row.uid is not None]

    @property
    def places(self) -> list[tuple[str, int]]:
        """File and record number of each uid."""
        return [
            (f"file-{number}", record)
            for number, file in enumerate(self.files)
            for record, row in enumerate(file, 1)
            if row.uid is not None
        ]

    @property
    def skipped(self) -> list[tuple[str, int, str]]:
        """File, record number and reason of each record that plans no uid."""
        return [
            (f"file-{number}", record, row.reason)
            for number, file in enumerate(self.files)
            for record, row in enumerate(file, 1)
            if row.uid is None
        ]

    def blocks(self, size: int) -> list[Block]:
        """Read it, `size` records a block."""
        return [
            _block(f"file-{number}", start + 1, file[start : start + size])
            for number, file in enumerate(self.files)
            for start in range(0, len(file), size)
        ]


def exports(of: st.SearchStrategy[str] = uids) -> st.SearchStrategy[Export]:
    """Make up to three files."""
    return st.lists(rows(of), min_size=1, max_size=3).map(Export)


def _block(file: str, first_record: int, records: list[Row]) -> Block:
    runs: list[Skipped] = []
    for record, row in enumerate(records, first_record):
        last = runs[-1] if runs else None
        if row.uid is not None:
            continue
        if last and last.reason == row.reason and last.record + last.count == record:
            runs[-1] = Skipped(last.record, last.count + 1, row.reason)
        else:
            runs.append(Skipped(record, 1, row.reason))
    # A slice, as readers hand out: its buffers begin before it and end behind it.
    padded = ["before", *(row.uid for row in records if row.uid is not None), "behind"]
    uids_of_block = pa.array(padded, pa.string()).slice(1, len(padded) - 2)
    return Block(file, first_record, len(records), uids_of_block, tuple(runs))


def parquet(uids: list[str]) -> bytes:
    """Return a Parquet file of uids, in row groups of 50,000."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"uid": uids}), sink, row_group_size=50_000, compression="none")
    return sink.getvalue()
