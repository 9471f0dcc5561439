"""A preview: the first rows of any source as a run would read them, and nothing else happens."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from engine import Engine, SourcePreview
from engine.cli.source import lines_of
from engine.errors import ConfigError, MissingExportError, SourceError, UsageError
from engine.preflight import source_preview


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def preview(*exports: str, **options: Any) -> SourcePreview:  # noqa: ANN401 - as the method
    async def look() -> SourcePreview:
        async with Engine.open(lazy=True, environ={}) as engine:
            return await engine.preview(exports or None, **options)

    return asyncio.run(look())


VIP = "user_id,country\nu1,IN\n,IN\nu2,IN,more\n 007,US\nu1,IN\n,\n"


def test_rows_counts_shapes_and_what_is_invalid() -> None:
    Path("vip.csv").write_text(VIP)
    found = preview("vip.csv", column="user_id", limit=4)
    assert [(row.record, row.uid, row.reason) for row in found.rows] == [
        (1, "u1", None),
        (2, None, "blank"),
        (3, None, "too many columns (3, not 2)"),
        (4, " 007", None),
    ]
    assert (found.rows_read, found.uids, found.is_complete) == (6, 3, True)
    assert [(each.kind, each.count, each.examples) for each in found.without_uid] == [
        ("blank", 2, [("vip.csv", 2), ("vip.csv", 6)]),
        ("invalid", 1, [("vip.csv", 3)]),
    ]
    assert found.shapes == {"letters and digits of 2": 2, "other ASCII of 4": 1}
    assert list(lines_of(found))[2:] == [
        "read as   csv with a header, column 'user_id': --column names it",
        "rows      6 read = 2 blank + 1 invalid + 3 uids",
        "uids      66.7% letters and digits of 2, 33.3% other ASCII of 4",
        "blank     2 blank: records 2, 6",
        "invalid   1 too many columns (3, not 2): record 3",
        "",
        "record  uid",
        "     1  u1",
        "     2          (blank)",
        "     3          (too many columns (3, not 2))",
        '     4  " 007"',
    ]
    assert list(Path().iterdir()) == [Path("vip.csv")]


def test_only_some_rows_are_read_unless_all_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source_preview, "LOOKED_AT", 1_000)
    Path("ids.txt").write_text("".join(f"{number:09}\n" for number in range(200_000)))
    found = preview("ids.txt", limit=2)
    assert (found.is_complete, len(found.rows)) == (False, 2)
    assert 1_000 <= found.rows_read < 200_000
    assert found.column_reason == "a line is a uid"
    found = preview("ids.txt", read_all=True, limit=0)
    assert (found.is_complete, found.rows_read, found.rows) == (True, 200_000, [])
    assert found.files[0].uids == 200_000


def test_files_of_a_folder_are_named_beside_their_rows() -> None:
    Path("in").mkdir()
    for name in ("a", "b"):
        Path(f"in/{name}.ndjson").write_text(f'{{"id": "{name}1"}}\n{{"id": null}}\n')
    found = preview("in")
    assert [(row.file, row.record, row.uid) for row in found.rows] == [
        *(("in/a.ndjson", 1, "a1"), ("in/a.ndjson", 2, None)),
        *(("in/b.ndjson", 1, "b1"), ("in/b.ndjson", 2, None)),
    ]
    (layout,) = found.layouts
    assert (layout.format, layout.column, layout.files) == ("ndjson", "id", 2)
    assert found.column_reason == "it is the only one"
    assert "blank     2 blank: records in/a.ndjson 2, in/b.ndjson 2" in list(lines_of(found))


def test_a_table_is_previewed_at_its_version() -> None:
    write_deltalake("vip", pa.table({"uid": ["u1", None, "u3"]}))
    document = (preview("delta:vip")).to_dict()
    assert document["exports"] == ["delta:vip@0"]
    assert document["rows"] == {"read": 3, "blank": 1, "invalid": 0, "uids": 2}
    assert [row["uid"] for row in document["first"]] == ["u1", None, "u3"]
    assert document["layouts"][0]["format"] == "delta table"


CONFIG = """
[workspace]
id = "W"
endpoint = "http://127.0.0.1:1"
[cohorts.vip]
name = "VIP"
source = "vip-*.csv"
pick = "newest"
column = "user_id"
[cohorts.vip.guards]
uid_pattern = "u[0-9]+"
[cohorts.vip.exclude]
source = "gone.txt"
"""


def test_a_cohort_is_previewed_as_its_table_says() -> None:
    Path("config.toml").write_text(CONFIG)
    for day in (1, 2):
        Path(f"vip-2026-01-0{day}.csv").write_text(VIP)
    for found in (preview("vip"), preview(cohort="vip")):
        assert found.exports == [str(Path("vip-2026-01-02.csv").absolute())]
        assert (found.cohort, found.misfits) == ("vip", 1)
        assert found.column_reason == "cohorts.vip.column names it"
        assert found.notes[0] == "the cohort's exclusion list is not applied here"
    found = preview("vip-2026-01-01.csv", cohort="vip", column="country")
    assert (found.exports, found.column_reason) == (["vip-2026-01-01.csv"], "--column names it")
    Path("vip").write_text("u1\n")
    assert (preview("vip")).exports == ["vip"]  # A file that exists is meant.


QUERY = """
[connections.here]
url = "sqlite:data.sqlite"
[queries.all]
connection = "here"
query = "SELECT whose, uid FROM audience ORDER BY rowid"
cohort_column = "whose"
[cohorts.gold]
name = "Gold"
source = { connection = "here", query = "SELECT uid FROM audience WHERE whose = 'gold'" }
[cohorts.new]
name = "New"
source = { shared_query = "all" }
"""


def test_a_query_is_read_straight_from_the_database() -> None:
    Path("config.toml").write_text(CONFIG + QUERY)
    with closing(sqlite3.connect("data.sqlite")) as database, database:
        database.execute("CREATE TABLE audience (whose TEXT, uid)")
        rows = [("gold", "g1"), ("new", "n1"), ("gold", None), ("new", 7)]
        database.executemany("INSERT INTO audience VALUES (?, ?)", rows)
    found = preview("gold")
    assert [(row.record, row.uid, row.reason) for row in found.rows] == [
        (1, "g1", None),
        (2, None, "blank"),
    ]
    assert (found.layouts[0].format, found.layouts[0].column) == ("query", "uid")
    assert [row.uid for row in preview("new").rows] == ["n1", "7"]
    actions = '[cohorts.op]\nname = "Op"\nmode = "changes"\n[cohorts.op.source]\n'
    actions += 'connection = "here"\naction_column = "op"\norder_column = "n"\nquery = """\n'
    actions += 'SELECT uid, whose = \'gold\' AS op, rowid AS n FROM audience"""\n'
    Path("config.toml").write_text(CONFIG + QUERY + actions)
    found = preview("op")
    assert [(row.uid, row.action and row.action.value) for row in found.rows] == [
        *(("g1", "add"), ("n1", "remove"), (None, None), ("7", "remove")),
    ]
    assert (found.uids, found.removes) == (3, 2)
    Path("config.toml").write_text(CONFIG + QUERY)
    assert {path.name for path in Path().iterdir()} == {"config.toml", "data.sqlite"}
    with pytest.raises(SourceError, match="has no column 'id'"):
        preview("gold", column="id")


def test_rows_without_any_uid_are_shown_and_are_no_error() -> None:
    Path("ids.csv").write_text("id\n \n \n")
    found = preview("ids.csv")
    assert (found.rows_read, found.uids, found.is_complete) == (2, 0, True)


@pytest.mark.parametrize(
    ("exports", "error", "message"),
    [
        ((), UsageError, "nothing is named"),
        (("vip",), MissingExportError, "no such file"),
        (("vip.csv",), SourceError, "has no column 'nothing'"),
        (("vip.csv", "delta:vip"), UsageError, "a table is read alone"),
    ],
)
def test_what_cannot_be_previewed_is_one_error(
    exports: tuple[str, ...], error: type[Exception], message: str
) -> None:
    Path("vip.csv").write_text(VIP)
    with pytest.raises(error, match=message):
        preview(*exports, column="nothing")


def test_a_configuration_with_errors_is_read_only_for_a_cohort() -> None:
    Path("config.toml").write_text("[workspace]\nidd = 1\n")
    Path("ids.txt").write_text("u1\n")
    assert (preview("ids.txt")).uids == 1
    with pytest.raises(ConfigError):
        preview("vip")
    with pytest.raises(ConfigError):
        preview(cohort="vip")
