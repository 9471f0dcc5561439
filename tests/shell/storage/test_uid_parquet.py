"""Files of uids are read in bounded memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.storage import uid_parquet
from engine.storage.uid_parquet import UIDS, read_batches, write_batches


def test_what_was_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the number of row groups that were read."""
    monkeypatch.setattr(uid_parquet, "_GROUP_ROWS", 20_000)
    generator = np.random.default_rng(1)
    path = tmp_path / "uids.parquet"
    rows = (
        pa.record_batch([pa.array([generator.bytes(24) for _ in range(20_000)])], schema=UIDS)
        for _ in range(8)
    )
    write_batches(path, UIDS, rows)
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in read_batches(path, ["uid"]))
    assert most < path.stat().st_size / 2
