"""Delete files of an Iceberg table, which pyiceberg reads and does not write."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import OutputFile
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.typedef import Record


class _DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def delete_rows(
    table: Table, folder: Path, rows: Sequence[int], *, by_equality: bool = False
) -> str:
    """Delete rows of the table's first file by a delete file; return the new metadata's path."""
    file = min(task.file.file_path for task in table.scan().plan_files())
    positions = pa.table({"file_path": [file] * len(rows), "pos": pa.array(rows, pa.int64())})
    pq.write_table(positions, folder / "deletes.parquet")
    content = DataFileContent.EQUALITY_DELETES if by_equality else DataFileContent.POSITION_DELETES
    deletes = DataFile.from_args(
        content=content,
        file_path=str(folder / "deletes.parquet"),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(rows),
        file_size_in_bytes=(folder / "deletes.parquet").stat().st_size,
        equality_ids=[1] if by_equality else None,
    )
    deletes.spec_id = 0
    current = table.current_snapshot()
    number, sequence = current.snapshot_id + 1, table.metadata.last_sequence_number + 1

    def output(name: str) -> OutputFile:
        return table.io.new_output(str(folder / name))

    manifest, listed = output("deletes.avro"), output("manifests.avro")
    with _DeletesWriter(table.spec(), table.schema(), manifest, number, "gzip") as writer:
        writer.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, data_file=deletes))
    manifests = [*current.manifests(table.io), writer.to_manifest_file()]
    with write_manifest_list(2, listed, number, current.snapshot_id, sequence, "gzip") as writer:
        writer.add_manifests(manifests)
    metadata = json.loads(table.metadata.model_dump_json())
    metadata["snapshots"].append(
        metadata["snapshots"][-1]
        | {"snapshot-id": number, "parent-snapshot-id": current.snapshot_id}
        | {"sequence-number": sequence, "manifest-list": listed.location}
        | {"summary": {"operation": "delete"}}
    )
    metadata |= {"current-snapshot-id": number, "last-sequence-number": sequence}
    metadata["refs"]["main"]["snapshot-id"] = number
    path = folder / "v2.metadata.json"
    path.write_text(json.dumps(metadata))
    return str(path)
