"""Files that hold uids: written whole or not at all, and for their owner's eyes only."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file that is there, on the disk, once the block ends well, and not before."""
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
    put_in_place(part, path)


def put_in_place(part: Path, path: Path) -> None:
    """Give a complete file its name, durably: the file first, then its folder."""
    part.chmod(0o600)
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def digest_of(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises `OSError`."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
