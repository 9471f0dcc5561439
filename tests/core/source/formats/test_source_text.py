"""Text: a line is a record."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from source_outcomes import Outcome, outcomes

from engine.source.block import BLANK
from engine.source.formats.rows import INNER_BOM, INNER_RETURN, NOT_UTF8, OVER_LONG, to_block
from engine.source.formats.text import text_rows

PIECES = [b"a", b"bc", b" ", b"\t", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xc3\xa9", b'"']
PIECES += [b"\xef\xbb\xbf", "😀".encode(), b"\xed\xa0\x80", b",", b"long" * 4]
PIECES += [b"\n\xef\xbb\xbf", b"\xc2\xa0", b"\xe3\x80\x80", b"\x1f", b"\xe2\x80\x8b"]


def lines(data: bytes, size: int = 1 << 20, limit: int = 4 << 20) -> list[Outcome]:
    return outcomes(text_rows(io.BytesIO(data), size, limit))


def expected(data: bytes, limit: int, *, strip: bool) -> Iterator[Outcome]:
    """Read as the documentation says, one line after the other."""
    *ended, last = data.split(b"\n")
    for line in [line + b"\n" for line in ended] + [last]:
        cut = line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")
        while cut.startswith(b"\xef\xbb\xbf"):
            cut = cut.removeprefix(b"\xef\xbb\xbf")
        if len(line) > limit:
            yield (OVER_LONG,)
        elif cut or line.endswith(b"\n"):
            yield _outcome(cut, strip=strip)


def _outcome(line: bytes, *, strip: bool) -> Outcome:
    try:
        uid = line.decode()
    except UnicodeDecodeError:
        return (NOT_UTF8,)
    if "\ufeff" in (uid.strip() if strip else uid):
        return (INNER_BOM,)
    uid = uid.strip() if strip else uid
    if not uid.strip():
        return (BLANK,)
    return (INNER_RETURN,) if "\r" in uid else uid


@given(
    st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join),
    st.integers(1, 12),
    st.integers(24, 40),
    st.booleans(),
)
# What follows a line that is too long is two lines, of which the second is not ended.
@example(b"long" * 7 + b"\n\n\xef\xbb\xbf", 5, 24, False)  # noqa: FBT003 - as below
def test_every_line_is_one_record_wherever_the_blocks_are_cut(
    data: bytes,
    size: int,
    limit: int,
    strip: bool,  # noqa: FBT001 - hypothesis passes by place
) -> None:
    found = outcomes(text_rows(io.BytesIO(data), size, limit), strip=strip)
    assert found == list(expected(data, limit, strip=strip))


@pytest.mark.parametrize(
    "uid",
    ["007", "1e5", "NULL", "nan", "", '"q"', "a,b", "\x00", "x\x00", "😀", " a ", "-", "#"],
)
def test_a_uid_is_what_stands_on_its_line(uid: str) -> None:
    assert lines(f"x\n{uid}\ny".encode()) == ["x", uid or (BLANK,), "y"]


def test_a_bom_and_crlf_are_no_part_of_a_uid() -> None:
    assert lines(b"\xef\xbb\xbfa\r\nb\r\n") == ["a", "b"]


def test_files_that_each_begin_with_a_bom_may_be_put_together() -> None:
    assert lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n\xef\xbb\xbf") == ["a", "b"]
    assert lines(b"\xef\xbb\xbf\xef\xbb\xbfa\n") == ["a"]
    assert lines(b"a\xef\xbb\xbfb\nc\n") == [(INNER_BOM,), "c"]


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize("line", ["a\rb", "a\r\r", "\ra", "\r\ra", "é\ra", "a\r\rb\rc"])
def test_a_carriage_return_without_a_line_feed_makes_a_row_invalid(line: str, size: int) -> None:
    bad = (INNER_RETURN,)
    for end in ("\n", "\r\n", ""):
        assert lines(f"x\r\n{line}{end}".encode(), size) == ["x", bad]
    assert lines(f"x\n{line}\ny\r\n{line}\r\nz".encode(), size) == ["x", bad, "y", bad, "z"]
    assert lines(b"x\n\r\r\n\r\ny", size) == ["x", (BLANK,), (BLANK,), "y"]
    assert lines(b"a\nb\r") == ["a", bad]


def test_a_carriage_return_around_a_uid_is_stripped_like_other_white_space() -> None:
    assert outcomes(text_rows(io.BytesIO(b"a\nb\r")), strip=True) == ["a", "b"]


def test_an_over_long_line_is_passed_over_without_being_held() -> None:
    class Endless(io.RawIOBase):
        """A gigabyte without a line end, and one more line."""

        left = 1 << 10

        def read(self, _size: int = -1) -> bytes:
            self.left -= 1
            return b"x" * (1 << 20) if self.left > 0 else b"\nuid\n" if self.left == 0 else b""

    rows = list(text_rows(Endless()))
    assert [(len(run.values), run.refused) for run in rows] == [(0, ((0, OVER_LONG),)), (1, ())]


def test_neighbours_skipped_for_one_reason_are_one_run() -> None:
    (rows,) = text_rows(io.BytesIO(b"a\n\n \n\xff\nb\n\n"))
    block = to_block(rows, file="f", first_record=11, strip=False)
    runs = [(run.record, run.count, run.reason) for run in block.skipped]
    assert runs == [(12, 2, BLANK), (14, 1, NOT_UTF8), (16, 1, BLANK)]
    assert block.uids.to_pylist() == ["a", "b"]
