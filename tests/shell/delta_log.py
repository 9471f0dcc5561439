"""Commits in the log of a Delta table that `deltalake` reads and does not write."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def delete_rows(table: Path, rows: Sequence[int]) -> None:
    """Mark rows of the only file of a new table as deleted, by a deletion vector."""
    actions = [json.loads(line) for line in (table / _log(0)).read_text().splitlines()]
    added = next(each["add"] for each in actions if "add" in each)
    metadata = next(each["metaData"] for each in actions if "metaData" in each)
    metadata["configuration"]["delta.enableDeletionVectors"] = "true"
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    removed = {key: added[key] for key in ("path", "size", "partitionValues")}
    commit(
        table,
        1,
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7} | features},
        {"metaData": metadata},
        {"remove": removed | {"dataChange": True, "extendedFileMetadata": True}},
        {"add": added | {"deletionVector": _deletion_vector(rows)}},
    )


def rename_column(table: Path, name: str, physical: str) -> None:
    """Give the only column of a new table a name that its files do not have."""
    actions = [json.loads(line) for line in (table / _log(0)).read_text().splitlines()]
    metadata = next(each["metaData"] for each in actions if "metaData" in each)
    metadata["configuration"] |= {"delta.columnMapping.mode": "name"}
    metadata["configuration"] |= {"delta.columnMapping.maxColumnId": "1"}
    schema = json.loads(metadata["schemaString"])
    schema["fields"][0] |= {
        "name": name,
        "metadata": {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": physical},
    }
    metadata["schemaString"] = json.dumps(schema)
    protocol = {"minReaderVersion": 2, "minWriterVersion": 5}
    commit(table, 1, {"protocol": protocol}, {"metaData": metadata})


def commit(table: Path, version: int, *actions: dict[str, Any]) -> None:
    """Write one version of a table's log."""
    lines = [json.dumps(each) for each in ({"commitInfo": {"timestamp": 1000}}, *actions)]
    (table / _log(version)).write_text("\n".join(lines))


def _log(version: int) -> str:
    return f"_delta_log/{version:020}.json"


def _deletion_vector(rows: Sequence[int]) -> dict[str, Any]:
    """Return a vector within the log: a roaring bitmap with one container of an array."""
    head = struct.pack("<IQI", 1681511377, 1, 0) + struct.pack("<II", 12346, 1)
    array = struct.pack("<HHI", 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *rows)
    data = head + array
    padded = data + b"\0" * (-len(data) % 4)
    text = "".join(map(_digits, struct.unpack(f">{len(padded) // 4}I", padded)))
    return {
        "storageType": "i",
        "pathOrInlineDv": text,
        "sizeInBytes": len(data),
        "cardinality": len(rows),
    }


def _digits(word: int) -> str:
    return "".join(_DIGITS[word // 85**power % 85] for power in (4, 3, 2, 1, 0))
