"""Writes a line for each request to a file: its time of arrival and its status."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from engine.emulator.errors import EmulatorError


class Journal:
    """Writes one line for each authenticated request when its outcome is known.

    A line has the seconds from the emulator's start to the arrival, and the status of the answer,
    or `-` if no complete answer was sent: `12.345678 200`. Lines are in the order of the answers.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def note(self, arrived: float, status: int | None) -> None:
        """Write a line."""
        self._file.write(f"{arrived:.6f} {status or '-'}\n")


@contextmanager
def journal_in(path: Path | None) -> Iterator[Journal | None]:
    """Append to a file during the block; `EmulatorError` if it cannot be opened."""
    if path is None:
        yield None
        return
    try:
        file = path.open("a", buffering=1, encoding="ascii")
    except OSError as error:
        raise EmulatorError(f"{path}: cannot be written ({error.strerror})") from None
    with file:
        yield Journal(file)
