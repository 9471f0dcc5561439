"""What a driver gives: the columns of a result, and its rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter
from typing import Any
from uuid import UUID

import pyarrow as pa

BATCH_ROWS = 16_384
"""Rows that a driver is asked for at a time."""


class NoUidError(ValueError):
    """A value that cannot be a uid; the message is its type."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a query that is running."""

    schema: pa.Schema
    """All columns, in order. Those of a database without types for them are binary."""
    batches: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]
    """Yields the rows with some of the columns, from the start, once."""


def result_of_rows(names: Sequence[str], chunks: Iterable[Sequence[Sequence[Any]]]) -> Result:
    """Return the result of a driver that gives rows of Python values.

    Reading it raises `NoUidError` for a value in one of the columns read that cannot be a uid.
    """

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        places = [names.index(each) for each in columns]
        for rows in chunks:
            arrays = [texts_of(list(map(itemgetter(place), rows))) for place in places]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))

    return Result(pa.schema([(name, pa.binary()) for name in names]), batches)


def texts_of(values: Sequence[Any]) -> pa.Array:
    """Return values as binary: text as it is, whole numbers as decimal text, UUIDs as text."""
    kinds = set(map(type, values))
    if kinds <= _TEXTS:
        with suppress(UnicodeEncodeError):  # A driver may give lone surrogates.
            return pa.array(values, pa.binary())
    if kinds <= _NUMBERS:
        with suppress(OverflowError):
            return pa.array(values, pa.int64()).cast(pa.string()).cast(pa.binary())
    return pa.array([_text_of(each) for each in values], pa.binary())


_TEXTS, _NUMBERS = {str, bytes, type(None)}, {int, type(None)}
"""Types that a column of values mostly has; PyArrow converts those at once."""


def _text_of(value: Any) -> bytes | None:  # noqa: ANN401 - any value of a driver
    match value:
        case None:
            return None
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case str():
            return value.encode("utf-8", "surrogateescape")
        case bool():
            pass
        case int() | UUID():
            return str(value).encode()
        case Decimal() if value == value.to_integral_value():
            return str(int(value)).encode()
        case _:
            pass
    raise NoUidError(type(value).__name__)
