"""Csv and tsv: PyArrow, the careful reader and a third one written here agree on every byte."""

import io
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from source_outcomes import Outcome, outcomes

from engine.source.block import BLANK, HEADER_AGAIN
from engine.source.formats import delimited
from engine.source.formats.csv_dialect import BROKEN_QUOTE, Dialect
from engine.source.formats.delimited import Columns, delimited_rows
from engine.source.formats.rows import INNER_BOM, INNER_RETURN, NOT_UTF8, OVER_LONG

PIECES = [b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"a", b"bc", b" ", b"\x00", b"\xff", b"\t"]
PIECES += [b"\xc3\xa9", b"\xef\xbb\xbf", b'"x",y\n', b'"p""q\r\n,",z\r\n', b"u,v\n", b"NULL,\n"]
PIECES += [b'n,"u""\nid"\n', b"\n\xef\xbb\xbf", b"\xc2\xa0"]
BOM = b"\xef\xbb\xbf"
ONE = Columns(b",", count=1, chosen=0, header=False)
TWO = Columns(b",", count=2, chosen=0, header=False)
HEADED = Columns(b",", count=2, chosen=1, header=True)
TABBED = Columns(b"\t", count=2, chosen=0, header=False)


def read(data: bytes, columns: Columns, size: int = 1 << 20, limit: int = 4 << 20) -> list[Outcome]:
    return outcomes(delimited_rows(io.BytesIO(data), columns, size, limit))


def carefully(data: bytes, columns: Columns, size: int, limit: int) -> list[Outcome]:
    with patch.object(delimited, "_fast", return_value=None):
        return read(data, columns, size, limit)


def expected(data: bytes, columns: Columns, limit: int) -> list[Outcome]:
    """Read as the documentation says, one byte after the other."""
    found: list[Outcome] = []
    start = 0
    header: list[bytes] | None = None
    while True:
        while data.startswith(BOM, start):
            start += len(BOM)
        if start >= len(data):
            return found[1:] if columns.header else found
        fields, end = _record(data, start, columns.delimiter)
        line_end = (data.find(b"\n", start) + 1) or len(data)
        if end is None or end - start > limit:
            end = line_end
            found.append((OVER_LONG if line_end - start > limit else BROKEN_QUOTE,))
        elif fields == header:
            found.append((HEADER_AGAIN,))
        elif len(fields) != columns.count:
            more = "few" if len(fields) < columns.count else "many"
            blank = len(fields) == 1 and not data[start:end].decode(errors="replace").strip()
            reason = f"too {more} columns ({len(fields)}, not {columns.count})"
            found.append((BLANK if blank else reason,))
        else:
            found.append(_uid(fields[columns.chosen], columns))
        if columns.header and header is None:
            header = fields
        start = end


def _record(data: bytes, at: int, delimiter: bytes) -> tuple[list[bytes], int | None]:
    """Return the fields of a record and its end; None where a quote in it is broken."""
    fields = []
    while True:
        field, at = (_quoted if data[at : at + 1] == b'"' else _bare)(data, at, delimiter)
        fields.append(field)
        if at >= len(data):
            return fields, at if at == len(data) else None
        if data[at : at + 1] == delimiter:
            at += 1
        elif data[at : at + 1] == b"\n":
            return fields, at + 1
        elif data[at : at + 2] == b"\r\n":
            return fields, at + 2
        else:
            return fields, None


def _quoted(data: bytes, at: int, _delimiter: bytes) -> tuple[bytes, int]:
    """Return a quoted field and its end, which lies beyond the data if nothing closes it."""
    field = b""
    at += 1
    while at < len(data):
        if data[at : at + 2] == b'""':
            at += 1
        elif data[at : at + 1] == b'"':
            return field, at + 1
        field += data[at : at + 1]
        at += 1
    return field, at + 1


def _bare(data: bytes, at: int, delimiter: bytes) -> tuple[bytes, int]:
    field = b""
    ends = (delimiter, b"\n")
    while at < len(data) and data[at : at + 1] not in ends and data[at : at + 2] != b"\r\n":
        field += data[at : at + 1]
        at += 1
    return field, at


def _uid(field: bytes, columns: Columns) -> Outcome:
    try:
        uid = field.decode()
    except UnicodeDecodeError:
        return (NOT_UTF8,)
    if columns.count == 1 and BOM in field:
        return (INNER_BOM,)
    if not uid.strip():
        return (BLANK,)
    return (INNER_RETURN,) if "\r" in uid.replace("\r\n", "\n") else uid


@given(
    st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join),
    st.sampled_from([ONE, TWO, HEADED, TABBED]),
    st.integers(1, 20),
    st.integers(40, 60),
)
@example(b'a,b\n"broken,c\nd,e\n', TWO, 3, 40)
@example(b'"' + b"x\n" * 40, ONE, 7, 40)
@example(b"a,b\n" + b"y" * 99 + b"\nc,d\n", TWO, 9, 40)
def test_the_fast_path_is_the_law_wherever_the_blocks_are_cut(
    data: bytes, columns: Columns, size: int, limit: int
) -> None:
    if columns.header:  # a broken one is refused before any record is read
        data = b'\xef\xbb\xbfn,"u""\nid"\r\n' + data
    law = expected(data, columns, limit)
    assert carefully(data, columns, size, limit) == law
    assert read(data, columns, size, limit) == law
    assert read(data, columns, 20, limit) == law


def test_a_clean_file_never_leaves_the_fast_path() -> None:
    lines = b'a,1\n"b, ""c""\r\nd",2\r\n\n too few\na,b,c\nNULL,\n'
    with patch.object(Dialect, "record", side_effect=AssertionError):
        found = read(lines * 3, TWO)
    few, many = ("too few columns (1, not 2)",), ("too many columns (3, not 2)",)
    assert found == ["a", 'b, "c"\r\nd', (BLANK,), few, many, "NULL"] * 3


def test_a_block_that_pyarrow_refuses_is_read_row_by_row() -> None:
    assert read(b"a,1\n\xff\nb\xff,2\nc,\xff\n", TWO) == [
        "a",
        ("too few columns (1, not 2)",),
        (NOT_UTF8,),
        "c",
    ]


def test_a_block_whose_records_pyarrow_counts_otherwise_is_read_row_by_row() -> None:
    def forgetful(*arguments: object) -> pa.Table:
        return read_csv(*arguments).slice(1)

    read_csv = delimited.csv.read_csv
    with patch.object(delimited.csv, "read_csv", forgetful):
        assert read(b"a,1\nb,2\n", TWO) == ["a", "b"]


@pytest.mark.parametrize(
    ("field", "uid"),
    [
        ("007", "007"),
        ("1e5", "1e5"),
        ("NULL", "NULL"),
        ("nan", "nan"),
        ("true", "true"),
        ("2024-01-01", "2024-01-01"),
        (" a ", " a "),
        ('"a""b"', 'a"b'),
        ('a"b', 'a"b'),
        ('"a\nb"', "a\nb"),
        ('"a\r\nb"', "a\r\nb"),
        ('"a\rb"', (INNER_RETURN,)),
        ('"a\r\nb\r"', (INNER_RETURN,)),
        ("a\rb", (INNER_RETURN,)),
        ("a\r", (INNER_RETURN,)),
        ("é\ra", (INNER_RETURN,)),
        (" \r", (BLANK,)),
        ('"a,b"', "a,b"),
        ("\x00", "\x00"),
        ("😀", "😀"),
        ("\ufeff", (BLANK,)),
        ("\ufeffa", "a"),
        ("a\ufeff", "a\ufeff"),
        ("", (BLANK,)),
        ('""', (BLANK,)),
        (" \t\v\f", (BLANK,)),
        ('" \r\n"', (BLANK,)),
        ("\u00a0", (BLANK,)),
        ("\u200b", "\u200b"),
        ('"a"b', (BROKEN_QUOTE,)),
    ],
)
def test_a_uid_is_the_bytes_of_its_field(field: str, uid: Outcome) -> None:
    data = f"\ufeffuid,n\r\nx,1\r\n{field},2\r\ny,3".encode()
    chosen_first = Columns(b",", count=2, chosen=0, header=True)
    assert read(data, chosen_first) == ["x", uid, "y"]


def test_a_broken_quote_costs_its_line_and_not_the_rest_of_the_file() -> None:
    lines = b"".join(b"u%d,n\n" % n for n in range(100_000))
    found = read(b'u,n\n"broken,n\n' + lines, TWO, size=1 << 16, limit=1 << 18)
    assert found == ["u", (BROKEN_QUOTE,), *(f"u{n}" for n in range(100_000))]


def test_a_quoted_record_beyond_the_limit_is_a_broken_quote() -> None:
    assert read(b'"' + b"x\n" * 30 + b'"\nb\n', ONE, 10, 40)[0] == (BROKEN_QUOTE,)


def test_an_over_long_line_is_one_record() -> None:
    assert read(b"a\n" + b"x" * 500 + b"\nb\n", ONE, 10, 40) == ["a", (OVER_LONG,), "b"]


def test_a_tsv_field_may_hold_commas() -> None:
    assert read(b'a,b\t1\n"c\td"\t2\n', TABBED) == ["a,b", "c\td"]


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_a_carriage_return_beside_the_uid_is_no_fault_of_it(size: int) -> None:
    assert read(b'a1,"x\ry"\nb1,x\ry\r\na2,z\r', TWO, size) == ["a1", "b1", "a2"]
    assert read(b"a1\r\na2\ra3\nb1\r\nb2\r", ONE, size) == [
        "a1",
        (INNER_RETURN,),
        "b1",
        (INNER_RETURN,),
    ]


# Files that were put together


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"u,n\na,1\nu,n\nb,2\n", ["a", (HEADER_AGAIN,), "b"]),
        (b"\xef\xbb\xbfu,n\r\na,1\r\n\xef\xbb\xbfu,n\r\nb,2", ["a", (HEADER_AGAIN,), "b"]),
        (b'u,n\na,1\n"u","n"\nb,2\n', ["a", (HEADER_AGAIN,), "b"]),
        (b"u,n\nu,n\nu,n", [(HEADER_AGAIN,), (HEADER_AGAIN,)]),
        (b"u,n\nu,1\nn,u\n", ["u", "n"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfu,n\na,1\n", ["a"]),
        (b'u,n\na,1\n\xef\xbb\xbf"b",2\n', ["a", "b"]),
        (b"u,n\na,1\n\xef\xbb\xbf", ["a"]),
        (b"u,n\na,1\xef\xbb\xbfu,n\nb,2\n", [("too many columns (3, not 2)",), "b"]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_what_begins_each_of_several_files_is_no_uid(
    data: bytes, found: list[Outcome], size: int
) -> None:
    assert read(data, Columns(b",", count=2, chosen=0, header=True), size) == found


def test_without_a_header_no_record_is_the_header_again() -> None:
    assert read(b"u,n\na,1\nu,n\n", TWO) == ["u", "a", "u"]


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_an_only_column_shows_of_a_line_end_that_was_lost(size: int) -> None:
    one = Columns(b",", count=1, chosen=0, header=True)
    assert read(b"u\na\xef\xbb\xbfu\nb\n", one, size) == [(INNER_BOM,), "b"]


@pytest.mark.parametrize("line", [b"sep=,\r\n", b"SEP=,\n", b'"sep=,"\n', b"\xef\xbb\xbfsep=,\n"])
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_the_line_that_names_the_delimiter_is_no_record(line: bytes, size: int) -> None:
    headed = Columns(b",", count=2, chosen=0, header=True, has_sep_line=True)
    assert read(line + b"u,n\r\na,1\r\n", headed, size) == ["a"]
    bare = Columns(b",", count=2, chosen=0, header=False, has_sep_line=True)
    assert read(line + b"a,1\n", bare, size) == ["a"]
