"""An earlier generation of a cohort's snapshot, read as a source of the uids wanted then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.snapshot.file_format import uids_in
from engine.snapshot.records import UidState
from engine.source.block import Block

WANTED_THEN = (UidState.IN, UidState.MAY_BE_IN)
"""The states of uids that were members or were to become members.

An add that may have been applied counts: its uid was wanted.
"""


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """A generation, and the file that holds it, which has been verified. Fulfils `Spec`."""

    number: int
    path: Path
    lists_changes = False

    @property
    def names(self) -> list[str]:
        """The generation, as users and the ledger name it."""
        return [f"generation {self.number}"]

    def open(self, *, rereadable: bool = False) -> "GenerationSource":
        """Return the source, which can always be read again."""
        del rereadable
        return GenerationSource(self)

    def to_dict(self) -> dict[str, Any]:
        """Return what the ledger keeps; see `Spec.to_dict`."""
        return {"exports": self.names, "reading": {}}


class GenerationSource:
    """The uids wanted in a generation. Fulfils `Source`."""

    notes: tuple[str, ...] = ()

    def __init__(self, spec: GenerationSpec) -> None:
        self._spec = spec
        self.identity: Mapping[str, Any] = {"generation": spec.number}

    def blocks(self) -> Iterator[Block]:
        """Yield the uids block by block; a record is a uid."""
        [name] = self._spec.names
        first = 1
        for uids in uids_in(self._spec.path, WANTED_THEN):
            if len(uids):
                yield Block(name, first, len(uids), uids.cast(pa.string()), ())
                first += len(uids)
