"""Writes the file of one operation of a plan: the plain uids first, those with a reason after."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.planning.change_kinds import Kind
from engine.snapshot.records import UNKNOWN, PlannedOperation
from engine.storage.paths import aside_path
from engine.storage.uid_parquet import UidWriter, open_writer, read_batches

_DOUBTFUL = pa.array([int(state) for state in UNKNOWN], pa.uint8())


class OperationFile:
    """Writes one operation's rows: the plain ones at once, the others after all plain ones."""

    def __init__(self, path: Path, schema: pa.Schema, files: ExitStack) -> None:
        """Write to `path`, which gets its name once `files` is closed."""
        self._path = path
        self._schema = schema
        self._plain = files.enter_context(open_writer(path, schema))
        self._files = files
        self._asides = files.enter_context(ExitStack())
        self._aside: dict[Kind, UidWriter] = {}
        self._counts = dict.fromkeys(Kind, 0)
        self._doubtful = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Write rows, each with a kind."""
        kinds = rows["kind"].to_numpy()
        for kind in map(Kind, np.unique(kinds)):
            chosen = rows.filter(pa.array(kinds == kind)).select(self._schema.names)
            self._writer(kind).write(chosen)
            self._counts[kind] += len(chosen)
            if kind is not Kind.KNOWN:
                self._doubtful += pc.sum(pc.is_in(chosen["was"], value_set=_DOUBTFUL)).as_py() or 0

    def _writer(self, kind: Kind) -> UidWriter:
        if kind is Kind.PLAIN:
            return self._plain
        if kind not in self._aside:
            path = self._aside_path(kind)
            self._files.callback(path.unlink, missing_ok=True)
            self._aside[kind] = self._asides.enter_context(open_writer(path, self._schema))
        return self._aside[kind]

    def _aside_path(self, kind: Kind) -> Path:
        return aside_path(self._path, kind.name.lower())

    def finish(self) -> PlannedOperation:
        """Append the other rows to the plain ones, and return the operation."""
        self._asides.close()
        for kind in sorted(self._aside):
            for rows in read_batches(self._aside_path(kind), self._schema.names):
                self._plain.write(rows.cast(self._schema))
        counts = {kind.name.lower(): count for kind, count in self._counts.items()}
        return PlannedOperation(**counts, doubtful=self._doubtful, path=self._path)
