"""Exports of made-up uids, written as fast as the disk takes them.

    python benchmarks/exports.py csv 1000000 export.csv

The same uids come out every time: `FORMAT` is csv or parquet, with one column named `uid`.
"""

import argparse
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

HEX_DIGITS = 24
"""What an ObjectId has, the commonest Unique User ID of all."""
_ROWS_A_WRITE = 1_000_000


def hex_uids(rows: int, seed: int = 24) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield `rows` random uids of 24 hex digits, as the bytes of matrices with a uid a row."""
    generator = np.random.default_rng(seed)
    for start in range(0, rows, _ROWS_A_WRITE):
        count = min(_ROWS_A_WRITE, rows - start)
        digits = generator.bytes(count * HEX_DIGITS // 2).hex().encode()
        yield np.frombuffer(digits, np.uint8).reshape(count, HEX_DIGITS)


def mixed_uids(rows: int) -> list[str]:
    """Return uids as a company of several systems has them, shuffled.

    Of 1,000: 400 decimal ids of 5 to 12 digits, 300 UUIDs, 250 e-mail addresses, 49 names beyond
    ASCII in Latin, Devanagari or Japanese letters, and 1 with a backslash, which JSON escapes.
    """
    made_up = random.Random(1000)

    def uid() -> str:
        kind, number = made_up.randrange(1000), made_up.getrandbits(36)
        if kind < 400:
            return str(10_000 + number)
        if kind < 700:
            return str(uuid.UUID(int=made_up.getrandbits(128)))
        if kind < 950:
            return f"user.{number % 10_000_000}@example.com"
        if kind < 999:
            return f"{('josé', 'आरव', '桜子')[number % 3]}-{number % 1_000_000}"
        return f"CORP\\user{number % 100_000}"

    return [uid() for _ in range(rows)]


def string_array(uids: npt.NDArray[np.uint8]) -> pa.StringArray:
    """Return a matrix of `hex_uids` as an Arrow array."""
    offsets = np.arange(0, uids.size + 1, HEX_DIGITS, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(uids)]
    return pa.StringArray.from_buffers(len(uids), buffers[1], buffers[2])


def write_csv(path: Path, rows: int) -> None:
    """Write 24-hex uids with a header: 25 bytes a row."""
    with path.open("wb") as file:
        file.write(b"uid\n")
        for uids in hex_uids(rows):
            lines = np.full((len(uids), HEX_DIGITS + 1), ord("\n"), np.uint8)
            lines[:, :HEX_DIGITS] = uids
            file.write(lines.data)


def write_parquet(path: Path, rows: int) -> None:
    """Write 24-hex uids in row groups of a million, without a dictionary: no uid comes twice."""
    schema = pa.schema([("uid", pa.string())])
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for uids in hex_uids(rows):
            writer.write_table(pa.table([string_array(uids)], schema=schema))


WRITERS = {"csv": write_csv, "parquet": write_parquet}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write an export of made-up uids.")
    parser.add_argument("format", choices=WRITERS)
    parser.add_argument("rows", type=int)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    WRITERS[arguments.format](arguments.path, arguments.rows)
