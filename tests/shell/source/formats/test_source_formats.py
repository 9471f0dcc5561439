"""Formats and columns: found by suffix, then content; refused with a way out where in doubt."""

import gzip
from pathlib import Path

import pytest

from engine.errors import SourceError, UsageError
from engine.source.files.opening import open_source
from engine.source.formats.rows import INNER_RETURN
from engine.source.options import ReadingOptions

PLAIN = ReadingOptions()


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, data: bytes | str) -> str:
    Path(name).write_bytes(data.encode() if isinstance(data, str) else data)
    return name


def read(name: str, data: bytes | str, options: ReadingOptions = PLAIN) -> list[str]:
    source = open_source([write(name, data)], options)
    return [uid for block in source.blocks() for uid in block.uids.to_pylist()]


def refused(
    name: str, data: bytes | str, options: ReadingOptions = PLAIN
) -> tuple[str, str | None]:
    write(name, data)
    with pytest.raises((SourceError, UsageError)) as caught:
        open_source([name], options)
    assert caught.value.message.startswith(f"{name}: ")
    return caught.value.message.removeprefix(f"{name}: "), caught.value.hint


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", "uid,n\n"),
        ("A.TXT", "uid,n\n"),
        ("a.list", "'uid'\n"),
    ],
)
def test_the_suffix_of_text_wins_over_its_content(name: str, data: str) -> None:
    assert read(name, data) == [data.strip()]


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.b.csv"])
def test_csv_by_suffix(name: str) -> None:
    assert read(name, "uid\na\n") == ["a"]


@pytest.mark.parametrize("name", ["a.tsv", "a.tab"])
def test_tsv_by_suffix(name: str) -> None:
    assert read(name, "n\tuid\n1\ta,b\n", ReadingOptions(column="uid")) == ["a,b"]


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonl", "a.json", "a", "a.dat", "a#1.log"])
def test_ndjson_by_suffix_or_content(name: str) -> None:
    assert read(name, '{"uid": "a"}\n') == ["a"]


@pytest.mark.parametrize("name", ["a", "a.dat", "2024.06"])
def test_text_by_content(name: str) -> None:
    assert read(name, "\na b\nc,d\n") == ["a b", "c,d"]


@pytest.mark.parametrize("line", ["a,b", "a;b", "a\tb", "a|b", '"a"'])
def test_content_that_may_be_several_formats_is_refused(line: str) -> None:
    message, hint = refused("a", line + "\n")
    assert message == "neither name nor content shows the format"
    assert hint == "--format text|csv|tsv|ndjson|parquet"
    assert read("a", line + "\n", ReadingOptions(format="text")) == [line]


@pytest.mark.parametrize(
    ("data", "uid"),
    [
        ("uid,n\na,1\n", "a"),
        ('"n"," uid "\n1,a\n', "a"),
        ("n\tuid\n1\ta,b\n", "a,b"),
        ("uid\na\n", "a"),
    ],
)
def test_a_first_line_that_names_the_column_shows_the_format(data: str, uid: str) -> None:
    assert read("a", data, ReadingOptions(column="uid")) == [uid]


def test_a_first_line_without_the_column_asked_for_leaves_the_format_open() -> None:
    message, _ = refused("a", "id,n\n", ReadingOptions(column="uid"))
    assert message == "neither name nor content shows the format"


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a"])
@pytest.mark.parametrize("codec", ["utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le"])
def test_utf16_and_utf32_are_refused_with_or_without_a_bom(name: str, codec: str) -> None:
    message, hint = refused(name, "uid\nabcdef\n".encode(codec))
    assert message == f"is {codec.upper()}, not UTF-8"
    assert hint == f"convert it: iconv -f {codec.upper()} -t UTF-8"


def test_a_json_array_is_refused_with_a_way_out() -> None:
    assert refused("a.json", '[{"uid": "a"}]')[1] == "one object a line is: jq -c '.[]'"


# Columns of csv and tsv


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("n,uid", "uid"),
        ('"n","uid"', "uid"),
        ("n, uid ", "uid"),
        ("n, uid ", " uid "),
        ('n,"user ""id"",\nnew"', 'user "id",\nnew'),
        ("n,Größe", "Größe"),
        ("uid ,uid", "uid"),
        ("n,n,uid", "uid"),
    ],
)
def test_a_column_is_found_by_its_name(header: str, wanted: str) -> None:
    row = "x," * header.count("n,n") + "x,a"
    options = ReadingOptions(column=wanted)
    assert read("a.csv", f"\ufeff{header}\r\n{row}\r\n", options) == ["a"]


def test_the_only_column_needs_no_name() -> None:
    assert read("a.csv", "whatever\na\n") == ["a"]


def test_of_several_columns_one_has_to_be_named() -> None:
    message, hint = refused("a.csv", "n,uid\n1,a\n")
    assert message == "has 2 columns; which one holds the uids?"
    assert hint == "--column NAME, one of 'n', 'uid'"


def test_a_long_list_of_columns_is_cut() -> None:
    _, hint = refused("a.csv", ",".join(f"c{n}" for n in range(50)))
    assert hint is not None
    assert hint.endswith("'c19' and 30 more")


def test_a_missing_column_names_the_nearest() -> None:
    message, hint = refused("a.csv", "n,user_id\n", ReadingOptions(column="userid"))
    assert (message, hint) == ("has no column 'userid'", "did you mean 'user_id'?")
    assert refused("a.csv", "n,uid\n", ReadingOptions(column="xyz"))[1] == "it has 'n', 'uid'"


def test_a_column_missing_in_any_file_is_known_before_the_first_block() -> None:
    write("a.csv", "uid,n\na,1\n")
    write("b.csv", "id,n\nb,1\n")
    with pytest.raises(SourceError, match=r"b\.csv: has no column 'uid'"):
        open_source(["a.csv", "b.csv"], ReadingOptions(column="uid"))


def test_the_place_of_a_column_may_differ_between_files() -> None:
    write("a.csv", "uid,n\na,1\n")
    write("b.csv", "n,uid\n1,b\n")
    source = open_source(["a.csv", "b.csv"], ReadingOptions(column="uid"))
    assert [block.uids.to_pylist() for block in source.blocks()] == [["a"], ["b"]]


@pytest.mark.parametrize("header", ["uid,uid", " uid,uid "])
def test_a_column_that_stands_twice_is_refused(header: str) -> None:
    message, _ = refused("a.csv", f"{header}\n", ReadingOptions(column="uid"))
    assert message == "has 2 columns named 'uid'"


def test_an_only_column_that_looks_like_several_is_refused() -> None:
    message, _ = refused("a.csv", "uid;name\n1;a\n")
    assert message == "its one column seems to be several, separated by ';'"
    assert read("a.csv", "uid;name\n1;a\n", ReadingOptions(column="uid;name")) == ["1;a"]


@pytest.mark.parametrize("header", ['"uid,n\n', '"uid"x\na\n', "x" * (5 << 20)])
def test_a_header_that_cannot_be_read_is_refused(header: str) -> None:
    assert refused("a.csv", header)[0].startswith("the first record cannot be read")


def test_without_a_header_the_first_record_counts_and_columns_have_numbers() -> None:
    bare = ReadingOptions(header=False)
    assert read("a.csv", "auth0|1\nb\n", bare) == ["auth0|1", "b"]
    assert read("a.csv", "1,a\n2,b\n", ReadingOptions(header=False, column="2")) == ["a", "b"]
    assert refused("a.csv", "1,a\n", bare)[1] == "--column NAME, one of '1', '2'"
    assert refused("a.csv", "a\n", ReadingOptions(header=False, column="uid"))[1] == "it has '1'"


def test_options_that_do_not_apply_are_noted() -> None:
    write("a.txt", "a\n")
    source = open_source(["a.txt"], ReadingOptions(header=False))
    assert source.notes == ("--no-header is ignored: only csv and tsv have a header",)


def test_text_that_nothing_but_its_content_shows_is_noted() -> None:
    write("a", "user_id\na\n")
    write("b", "b\n")
    [note] = open_source(["a", "b"], PLAIN).notes
    assert note.startswith("a: read as text, a uid a line, its first line too")
    assert open_source(["a"], ReadingOptions(format="text")).notes == ()


# Fields of ndjson


def test_the_only_field_needs_no_name_however_deep() -> None:
    assert read("a.ndjson", '{"_id": {"$oid": "a"}}\n{}\n{"_id": {"$oid": "b"}}') == ["a", "b"]


def test_of_several_fields_one_has_to_be_named() -> None:
    message, hint = refused("a.ndjson", '{"uid": "a"}\n{"uid": "b", "user": {"n": 1}}\n')
    assert message == "has 2 fields; which one holds the uids?"
    assert hint == "--column NAME, one of 'uid', 'user.n'"


def test_a_field_that_no_record_of_the_start_has_is_missing() -> None:
    options = ReadingOptions(column="user.idd")
    message, hint = refused("a.ndjson", '{"user": {"id": 1}}\n{"x": 1}\n', options)
    assert (message, hint) == ("has no field 'user.idd'", "did you mean 'user.id'?")


@pytest.mark.parametrize("first", ["{}", "", "{", '{"user": null}', '{"user": 1}', "[]"])
def test_a_field_may_be_absent_from_the_first_records(first: str) -> None:
    options = ReadingOptions(column="user.id")
    assert read("a.ndjson", f'{first}\n{{"user": {{"id": "a"}}}}\n', options) == ["a"]


def test_a_field_may_come_late() -> None:
    lines = '{"n": 1}\n' * 50_000 + '{"uid": "a"}\n'
    assert read("a.ndjson", lines, ReadingOptions(column="uid")) == ["a"]


def test_an_ndjson_file_without_an_object_needs_help() -> None:
    message, hint = refused("a.ndjson", "what\nis\nthis\n")
    assert message == "starts with no JSON object that has a field"
    assert hint == "--column NAME, or --format if the file is no ndjson"


def test_a_long_first_line_is_read_to_its_end() -> None:
    line = '{"n": "' + "x" * 300_000 + '", "uid": "a"}\n'
    assert read("a.ndjson", line, ReadingOptions(column="uid")) == ["a"]


# Text has no columns

BY_COLUMN = ReadingOptions(column="user_id")


@pytest.mark.parametrize(
    "data",
    [
        "user_id\tcountry\na1\tIN\n",
        "country\tuser_id\r\nIN\ta1\r\n",
        "user_id,country\na1,IN\n",
        '"country","user_id"\n"x, y","a1"\n',
        "user_id\na1\n",
        "\ufeffuser_id,c\na1,x\n",
        "sep=,\nuser_id,c\na1,x\n",
        '{"user_id":"a1"}\n',
        '{"c":"x","user_id":"a1"}\n',
    ],
)
def test_with_a_column_the_first_line_shows_how_text_is_read(data: str) -> None:
    for name in ("e.txt", "e.list", "e", "e.dat"):
        assert read(name, data, BY_COLUMN) == ["a1"]


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("userid\tcountry\na1\tIN\n", "--format tsv if it has"),
        ("id,country\na1,IN\n", "--format csv if it has"),
        ("user_id;country\na1;IN\n", "';' is not read as a delimiter"),
        ("user_id|country\na1|IN\n", "'|' is not read as a delimiter"),
        ("a1\na2\n", "--format csv|tsv|ndjson if it has; without --column each line is a uid"),
    ],
)
def test_a_column_that_the_first_line_does_not_name_is_never_thrown_away(
    data: str, hint: str
) -> None:
    message, found = refused("e.txt", data, BY_COLUMN)
    assert message == "text has no columns, and so no 'user_id'"
    assert (found or "").startswith(hint)
    message, found = refused("e.txt", data, ReadingOptions(column="2", header=False))
    assert message == "text has no columns, and so no '2'"
    message, found = refused("e.csv", data, ReadingOptions(column="user_id", format="text"))
    assert message == "text has no columns, and so no 'user_id'"


# Line ends, and the line that Excel writes first


@pytest.mark.parametrize(
    "data",
    ["a1\ra2\ra3\r", "a1\ra2\ra3", "a1\ra2\ra3\n", "user_id\r", "x\r" * 90_000, "a\n" + "b\r" * 9],
)
def test_lines_that_end_with_a_carriage_return_alone_are_refused(data: str) -> None:
    for name in ("a.txt", "a.csv", "a.tsv", "a.ndjson", "a", "a.txt.gz"):
        written = gzip.compress(data.encode()) if name.endswith(".gz") else data
        message, hint = refused(name, written)
        assert message == "its lines end with a carriage return alone"
        assert hint == "convert it: tr '\\r' '\\n' < FILE"


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_two_carriage_returns_before_each_line_feed_are_refused(name: str) -> None:
    assert "two carriage returns" in refused(name, "a1\r\r\na2\r\r\n")[0]


@pytest.mark.parametrize("data", ["x\ry\na1\r\n", "a1\nx\r", "a1\r\nb1\rb2\r\nc1\rc2"])
def test_a_few_of_them_make_their_rows_invalid(data: str) -> None:
    for name, header in (("a.txt", ""), ("a.csv", "uid\n"), ("a.tsv", "uid\r\n"), ("a", "")):
        source = open_source([write(name, header + data)], PLAIN)
        blocks = list(source.blocks())
        assert [uid for block in blocks for uid in block.uids.to_pylist()] == ["a1"]
        reasons = {skipped.reason for block in blocks for skipped in block.skipped}
        assert reasons == {INNER_RETURN}


def test_a_carriage_return_far_behind_the_start_is_found() -> None:
    lines = "".join(f"{number}\n" for number in range(20_000))
    for name in ("a.txt", "a.csv"):
        assert read(name, f"uid\n{lines}a1\ra2\ra3\n")[-20_000:] == lines.split()


def test_carriage_returns_within_fields_are_no_line_ends() -> None:
    rows = 'user_id,note\na1,"one\rtwo\rthree\rfour"\na2,"five\rsix\rseven"\n'
    assert read("a.csv", rows, BY_COLUMN) == ["a1", "a2"]


@pytest.mark.parametrize(
    "line", ["sep=,\r\n", "SEP=,\n", "Sep=,\r\n", '"sep=,"\r\n', "\ufeffsep=,\n"]
)
def test_the_line_by_which_excel_shows_the_delimiter_is_passed_over(line: str) -> None:
    assert read("a.csv", line + "user_id,c\r\na1,x\r\n", BY_COLUMN) == ["a1"]
    assert read("b.csv", line + "a1\n", ReadingOptions(header=False)) == ["a1"]
    assert read("c.tsv", "sep=\t\nuser_id\tc\na1\tx\n", BY_COLUMN) == ["a1"]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("sep=;", "';' is not read"),
        ("sep=\t", "--format tsv"),
        ('"sep=|"', "'|'"),
        ("sep=#", "'#'"),
    ],
)
def test_a_delimiter_declared_by_excel_that_is_not_read_is_named(line: str, hint: str) -> None:
    message, found = refused("a.csv", f"{line}\r\nuser_id;c\r\na1;x\r\n", BY_COLUMN)
    assert message.startswith("its first line says sep=")
    assert hint in (found or "")


# JSON that is no object a line


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ('[\n{"user_id":"a1"},\n{"user_id":"a2"}\n]\n', "jq -c '.[]'"),
        ('[{"user_id":"a1"},\n{"user_id":"a2"}]\n', "jq -c '.[]'"),
        ('[{"user_id":"a1"},{"user_id":"a2"}]\n', "jq -c '.[]'"),
        ('[ {"user_id":"a1"}\n, {"user_id":"a2"}\n]\n', "jq -c '.[]'"),
        ('\n\ufeff[\n  {\n    "user_id": "a1"\n  }\n]\n'[1:], "jq -c '.[]'"),
        ('["a1","a2"]\n', "jq -c '.[]'"),
        ('{"user_id":"a1"},\n{"user_id":"a2"}\n', "jq -c '.[]'"),
        ('{"users":[\n{"user_id":"a1"},\n{"user_id":"a2"}\n]}\n', "jq -c '.[]'"),
        ('{\n  "user_id": "a1"\n}\n{\n  "user_id": "a2"\n}\n', "jq -c ."),
    ],
)
def test_an_array_or_objects_that_span_lines_are_refused(data: str, hint: str) -> None:
    for name in ("a.ndjson", "a.json", "a.jsonl", "a"):
        for options in (PLAIN, BY_COLUMN):
            assert refused(name, data, options)[1] == f"one object a line is: {hint}"
