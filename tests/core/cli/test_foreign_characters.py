"""Characters that a terminal obeys or nobody sees are escaped, and can be read back."""

import json
import sys
import unicodedata

import pytest
from rich.cells import cell_len

from engine.cli.text import csv_cell, json_safe, table_lines, wrapped
from engine.model.foreign_text import UNSAFE, printable

SAMPLES = [
    *("\x00", "\x1b[2J", "\x7f", "\x85", "\x9b", "\xa0", "\xad", "\u061c", "\u200b", "\u200d"),
    *("\u2028", "\u2029", "\u202e", "\u2066", "\u3000", "\ufeff", "\U000e0041", "\n", "\r", "\t"),
]


def test_every_character_of_an_unsafe_category_is_unsafe() -> None:
    categories = {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if number != ord(" ") and unicodedata.category(character) in categories:
            assert UNSAFE.fullmatch(character), hex(number)


@pytest.mark.parametrize("text", ["naïve ∑ 🦄", "日本", "e\u0301", "a b", "\\x1b", "'=`\""])
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert json_safe(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize("text", SAMPLES)
def test_an_unsafe_character_is_escaped_and_means_the_same(text: str) -> None:
    for shown in (printable(text), json_safe(json.dumps(text, ensure_ascii=False)), csv_cell(text)):
        assert isinstance(shown, str)
        assert not UNSAFE.search(shown)
    assert json.loads(json_safe(json.dumps({text: [text]}, ensure_ascii=False))) == {text: [text]}
    assert printable(text).encode().decode("unicode_escape") == text


@pytest.mark.parametrize(
    "cell",
    [*SAMPLES, "", "a", "-5", "+49", "=1+1", "@x", "'x", "''", "\uff1d1", "\\", "\\x1b", "ü∑"],
)
def test_a_csv_cell_is_no_formula_and_can_be_read_back(cell: str) -> None:
    shown = csv_cell(cell)
    assert isinstance(shown, str)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))
    read = shown.removeprefix("'").encode("latin-1", "backslashreplace").decode("unicode_escape")
    assert read == cell


def test_a_cell_that_is_no_text_stays_as_it_is() -> None:
    assert [csv_cell(value) for value in (None, 5, -5, True)] == [None, 5, -5, True]


@pytest.mark.parametrize("width", [12, 20, 40, 80])
def test_lines_fit(width: int) -> None:
    line = (
        "rows      日本 words that go on · `a command to copy` · "
        + "/long" * 30
        + "x" * 99
        + " end"
    )
    pieces = list(wrapped(line, width, "  "))
    assert max(map(cell_len, pieces)) <= width
    assert "".join("".join(pieces).split()) == "".join(line.split())
    assert list(wrapped(line, None)) == [line]
    assert next(wrapped("    " + "x" * 30, 20, "    ")) == "    " + "x" * 16
    if width > 20:
        assert any("`a command to copy`" in piece for piece in pieces)
        assert any(piece.endswith("/long/") for piece in pieces)


def test_a_row_that_is_wider_than_the_terminal_goes_on_below() -> None:
    rows = [("a" * 30, 1, "b" * 30), ("c", 22, "")]
    assert list(table_lines(("name", "count", "note"), rows, ("count",), 40)) == [
        "name                            count",
        "    note",
        f"{'a' * 30}      1",
        f"    {'b' * 30}",
        f"c{' ' * 34}22",
    ]
