"""A cohort's earlier snapshot as an export: who was to be in then."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.snapshot.file_format import uids_in
from engine.snapshot.records import UidState
from engine.source.block import Block
from engine.source.source_file import SourceFile

WANTED_THEN = (UidState.IN, UidState.MAY_BE_IN)
"""Who was in, and who was to be: of those whose add may have been applied nobody could know."""


class GenerationSource:
    """Fulfils `Source`."""

    files: tuple[SourceFile, ...] = ()
    notes: tuple[str, ...] = ()
    share_read: float | None = None
    uids_read: int = 0

    def __init__(self, path: Path, number: int) -> None:
        """Read the snapshot at `path`, which has been verified."""
        self._path = path
        self._name = f"generation {number}"
        self.identity: Mapping[str, Any] = {"generation": number}
        self.sizes: Mapping[str, int | None] = {self._name: path.stat().st_size}

    def blocks(self) -> Iterator[Block]:
        """Yield who was to be in, block by block; a record is a uid."""
        first = 1
        for uids in uids_in(self._path, WANTED_THEN):
            if len(uids):
                yield Block(self._name, first, len(uids), uids.cast(pa.string()), ())
                first += len(uids)
