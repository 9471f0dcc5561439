"""Handles stdout and stderr, which may be closed or full."""

import io
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

from engine.cli.messages import print_columns
from engine.cli.signs import colored, shown_on
from engine.cli.text import json_safe, table_lines, wrapped
from engine.errors import IncompleteError


@contextmanager
def printing() -> Iterator[None]:
    """Print on stdout during the block, and flush it at the end.

    It is not an error if the reader has closed the pipe, as `head` does. Raises `IncompleteError`
    if stdout cannot be written for another reason.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as error:
        _discard_stdout()
        raise IncompleteError(f"stdout cannot be written: {error.strerror}") from None


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print a document on one line; escape unsafe and unencodable characters."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json_safe(json.dumps(value, ensure_ascii=not is_utf8)) + "\n")


def print_lines(lines: Iterable[str], indent: int = 10) -> None:
    """Print lines for people, with unsafe characters escaped, wrapped to `print_columns`.

    A wrapped line continues after `indent` blanks.
    """
    stream = sys.stdout
    for line in lines:
        for piece in fitted(shown_on(stream, line), " " * indent):
            stream.write(f"{colored(stream, piece)}\n")


def fitted(line: str, indent: str = "", before: int = 0) -> Iterator[str]:
    """Yield a line in pieces that fit on stdout, as `wrapped`, with `before` columns less."""
    stream = sys.stdout
    width = max(1, print_columns(stream) - before)
    return wrapped(line, width, indent, keeps_words=not stream.isatty())


def table_on_stdout(
    headings: Sequence[str], rows: Iterable[Sequence[object]], numbers: Collection[str]
) -> Iterator[str]:
    """Yield the lines of a table that fit on stdout, as `table_lines`."""
    stream = sys.stdout
    columns = print_columns(stream)
    return table_lines(headings, rows, numbers, columns, keeps_words=not stream.isatty())


def _discard_stdout() -> None:
    """Discard buffered stdout, which the interpreter would otherwise fail to write at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def prepare_streams() -> None:
    """Make stdout and stderr usable before any output and before any file is opened.

    A file must not get the descriptor of a closed stream. An unreadable stderr must not end a run.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(_STDOUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    stderr = sys.stderr or open(_STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - see above
    for stream in (sys.stdout, stderr):
        if isinstance(stream, io.TextIOWrapper):  # Unencodable characters are escaped.
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = _OptionalStream(stderr)


_STDOUT, _STDERR = 1, 2


class _OptionalStream:
    """A stream that discards output that cannot be written."""

    def __init__(self, stream: "TextIO") -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the stream has it
        return getattr(self._stream, name)
