"""Ndjson: strings as they stand, integers as decimal text, everything else named and counted."""

import io
import json
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_outcomes import Outcome, outcomes

from engine.source.block import BLANK
from engine.source.formats import ndjson
from engine.source.formats.ndjson import ndjson_rows
from engine.source.formats.rows import NOT_UTF8, OVER_LONG

VALUES = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
VALUES |= st.integers() | st.text() | st.sampled_from(["007", "", " ", "1e5", "\x00", {}, []])
RECORDS = st.dictionaries(st.sampled_from(["uid", "n"]), VALUES, max_size=2)
LINES = RECORDS.map(lambda record: json.dumps(record).encode())
LINES |= st.sampled_from(
    [b"", b" ", b"{", b'"uid"', b"[]", b"null", b'{"uid": "\xff"}', b"1", b"\r"]
)


def read(
    data: bytes, column: str = "uid", size: int = 1 << 20, limit: int = 4 << 20
) -> list[Outcome]:
    return outcomes(ndjson_rows(io.BytesIO(data), column, size, limit))


@given(st.lists(LINES, max_size=12), st.integers(1, 40), st.sampled_from(["uid", "uid.x"]))
def test_the_fast_path_is_the_law_wherever_the_blocks_are_cut(
    lines: list[bytes], size: int, column: str
) -> None:
    data = b"\n".join(lines)
    with patch.object(ndjson, "_fast", return_value=None):
        law = read(data, column, size, 1000)
    assert read(data, column, size, 1000) == law
    assert len(law) == len(lines) - (lines[-1:] == [b""])


@pytest.mark.parametrize(
    ("value", "uid"),
    [
        ('"007"', "007"),
        ('"1e5"', "1e5"),
        ('"NULL"', "NULL"),
        ('"a\\nb\\r\\u0000\\"😀"', 'a\nb\r\x00"😀'),
        ('"\\ud83d\\ude00"', "😀"),
        ('" a "', " a "),
        ("7", "7"),
        ("-7", "-7"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("9" * 308, "9" * 308),
        ("null", (BLANK,)),
        ('""', (BLANK,)),
        ('" \\t"', (BLANK,)),
        ("1e3", ("uid is a float",)),
        ("1.0", ("uid is a float",)),
        ("true", ("uid is a boolean",)),
        ('{"a": 1}', ("uid is an object",)),
        ('["a"]', ("uid is an array",)),
        ('"\\ud83d"', ("malformed JSON",)),
        ("NaN", ("malformed JSON (NaN is not JSON)",)),
        ('"a","s":NaN', ("malformed JSON (NaN is not JSON)",)),
        ('"a","s":[-Infinity]', ("malformed JSON (-Infinity is not JSON)",)),
        ('"a","s":Infinity', ("malformed JSON (Infinity is not JSON)",)),
        ('"a","s":"NaN"', "a"),
        ('"a","s":nan', ("malformed JSON",)),
        ("007", ("malformed JSON",)),
    ],
)
def test_a_value_becomes_a_uid_or_a_reason(value: str, uid: Outcome) -> None:
    lines = ['{"uid":"x"}', f'{{"uid":{value}}}', '{"uid":"y"}']
    assert read("\n".join(lines).encode()) == ["x", uid, "y"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", BLANK),
        (b" \r", BLANK),
        (b"{}", BLANK),
        (b'{"other":1}', BLANK),
        (b'{"uid":"a"', "malformed JSON"),
        (b'{"uid":"a"}{"uid":"b"}', "malformed JSON"),
        (b"\xef\xbb\xbf{}", BLANK),
        (b"\xc2\xa0", BLANK),
        (b'{"n":"\xff","uid":"a"}', NOT_UTF8),
        (b'["uid"]', "not a JSON object"),
        (b'"uid"', "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'{"uid":' + b"[" * 2000 + b"]" * 2000 + b"}", "malformed JSON"),
        (b'{"uid":1.5,"n":' + b"[" * 1010 + b"]" * 1010 + b"}", "malformed JSON"),
    ],
)
def test_a_line_without_a_uid_has_a_reason(line: bytes, reason: str) -> None:
    assert read(b'{"uid":"x"}\n' + line + b'\n{"uid":"y"}') == ["x", (reason,), "y"]


def test_a_bom_and_crlf_do_not_matter() -> None:
    assert read(b'\xef\xbb\xbf{"uid":"a"}\r\n{"uid":"b"}\r\n') == ["a", "b"]


def test_an_over_long_line_is_one_record() -> None:
    data = b'{"uid":"a"}\n{"uid":"' + b"x" * 500 + b'"}\n{"uid":"b"}\n'
    assert read(data, "uid", 10, 40) == ["a", (OVER_LONG,), "b"]


def test_a_dotted_path_leads_into_objects_and_a_field_of_that_very_name_wins() -> None:
    lines = [
        {"user": {"_id": {"$oid": "a"}}},
        {"user._id.$oid": "b", "user": {"_id": {"$oid": "x"}}},
        {"user": {"_id": {"$oid": 7}}},
        {"user": {"_id": None}},
        {"user": "text"},
        {},
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    assert read(data, "user._id.$oid") == ["a", "b", "7", (BLANK,), (BLANK,), (BLANK,)]
