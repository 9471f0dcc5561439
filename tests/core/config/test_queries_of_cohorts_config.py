"""Connections and queries in the configuration: what is read, and what each mistake says."""

from pathlib import Path

import pytest

from engine.config.loading import Project, load_project
from engine.errors import ConfigError
from engine.source.sql.query import Query

WORKSPACE = '[workspace]\nid = "W"\ndata_center = "01"\n'
CONNECTION = '[connections.dwh]\nurl = "postgresql://reader@db/marts"\n'
SHARED = """[queries.all]
connection = "dwh"
query = "select uid, cohort from audience"
cohort_column = "cohort"
"""
CHANGES = """[cohorts.vip]
name = "VIP"
mode = "changes"
source = { connection = "dwh", query = "select 1", action_column = "op", order_column = "at" }
"""
COHORT = (
    '[cohorts.vip]\nname = "VIP"\nsource = { connection = "dwh", query = "select uid from a" }\n'
)


def load(folder: Path, *parts: str, **environ: str) -> Project:
    path = folder / "config.toml"
    path.write_text("\n".join((WORKSPACE, *parts)), encoding="utf-8")
    return load_project(path, need_credentials=False, environ=environ)


def problems(folder: Path, *parts: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, *parts, **environ)
    return [
        line.removeprefix(f"{folder}/config.toml: ") for line in caught.value.message.split("\n")
    ]


def test_a_query_is_read_with_its_connection(tmp_path: Path) -> None:
    exclude = '[cohorts.vip.exclude]\nsource = { connection = "dwh", query = "table gone" }\n'
    project = load(tmp_path, CONNECTION, COHORT, exclude)
    vip = project.cohorts["vip"]
    assert (vip.query, vip.source) == (Query("dwh", "select uid from a"), ())
    assert vip.exclude is not None
    assert vip.exclude.query == Query("dwh", "table gone")
    connection = project.shared.connections["dwh"]
    assert (connection.scheme, connection.shown) == ("postgresql", "postgresql://db/marts")
    assert connection.password() is None
    assert "reader" not in repr(connection)


def test_a_shared_query_says_whose_rows_are_meant(tmp_path: Path) -> None:
    cohorts = """[cohorts.vip]
name = "VIP"
source = { shared_query = "all" }
[cohorts.b]
name = "B"
source = { shared_query = "all", value = "lapsed" }
"""
    found = load(tmp_path, CONNECTION, SHARED, cohorts).cohorts
    shared = Query("dwh", "select uid, cohort from audience", "cohort")
    assert found["vip"].query == shared.of("vip")
    assert found["b"].query == shared.of("lapsed")


def test_a_query_may_say_add_or_remove(tmp_path: Path) -> None:
    vip = load(tmp_path, CONNECTION, CHANGES).cohorts["vip"]
    assert vip.query == Query("dwh", "select 1", action_column="op", order_column="at")
    assert vip.push_action is None
    keys = 'action_column = "op"\norder_column = "at"\n'
    cohort = '[cohorts.vip]\nname = "VIP"\nmode = "changes"\nsource = { shared_query = "all" }\n'
    vip = load(tmp_path, CONNECTION, SHARED, keys, cohort).cohorts["vip"]
    shared = Query("dwh", "select uid, cohort from audience", "cohort", "vip", "op", "at")
    assert vip.query == shared
    assert Query(**shared.to_dict()) == shared


def test_where_a_password_is_from(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("from file\n")
    (tmp_path / "cohortsync_password_dwh").write_text("from systemd")
    lines = {
        "password_file = 'pw'\n": "from file",
        "password_command = ['echo', 'from command']\n": "from command",
        "": "from systemd",
    }
    for line, password in lines.items():
        project = load(tmp_path, CONNECTION, line, CREDENTIALS_DIRECTORY=str(tmp_path))
        assert project.shared.connections["dwh"].password() == password
    project = load(tmp_path, CONNECTION, COHORTSYNC_PASSWORD_DWH="pä/ss")
    connection = project.shared.connections["dwh"]
    assert connection.password() == "pä/ss"
    assert connection.url_with("p@/ss") == "postgresql://reader:p%40%2Fss@db/marts"
    whole = '[connections.dwh]\nurl = "${DWH}"\n'
    connection = load(tmp_path, whole, DWH="mysql://u:s3cret@h/d").shared.connections["dwh"]
    assert connection.url_with(connection.password()) == "mysql://u:s3cret@h/d"
    assert "s3cret" not in connection.shown + repr(connection)
    part = '[connections.dwh]\nurl = "mysql://u:${PW}@h/d?token=${PW}"\n'
    assert (
        load(tmp_path, part, PW="s3cret").shared.connections["dwh"].url_with(None).count("s3") == 2
    )


def test_a_password_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    connection = load(tmp_path, CONNECTION, "password_file = 'none'\n").shared.connections["dwh"]
    with pytest.raises(ConfigError, match=r"`connections\.dwh\.password_file` names a file that"):
        connection.password()


LITERAL = (
    "`connections.dwh.url` holds a password, which does not belong in a file that is copied, "
    "shared and versioned: put it into a file of its own (mode 0600), name that as "
    "`connections.dwh.password_file`, and leave it out here"
)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@h/d",
        "postgresql://h/d?user=u&password=s3cret",
        "postgresql://u:s3cret@${HOST}/d",
        "postgresql://u:s3${PW}cret@h/d",
        "snowflake://u:s3/cret@a/d",
    ],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    connection = f'[connections.dwh]\nurl = "{url}"\n'
    assert problems(tmp_path, connection, HOST="h", PW="pw") == [LITERAL]


MISTAKES = {
    "no url": ("[connections.dwh]\n", "`connections.dwh.url` is needed: the URL of the database"),
    "no database": (
        '[connections.dwh]\nurl = "db.example.com"\n',
        (
            "`connections.dwh.url` should be a URL, as postgresql://reader@host/database or "
            "sqlite:FILE"
        ),
    ),
    "no file": (
        '[connections.dwh]\nurl = "sqlite:"\n',
        "`connections.dwh.url` should name a file, as sqlite:FILE",
    ),
    "unknown key": (
        CONNECTION + 'user = "x"\n',
        "unknown key `connections.dwh.user`; did you mean `connections.dwh.url`?",
    ),
    "unknown connection": (
        COHORT,
        (
            "`cohorts.vip.source.connection` is 'dwh'; each connection is a table "
            "[connections.NAME] with a `url`"
        ),
    ),
    "other connection": (
        CONNECTION + COHORT.replace('"dwh"', '"dw"'),
        "`cohorts.vip.source.connection` is 'dw'; the connections are: dwh",
    ),
    "a query that writes": (
        CONNECTION + COHORT.replace("select uid from", "delete from"),
        (
            "`cohorts.vip.source.query` should be one query that reads, as SELECT …, and begins "
            "with DELETE"
        ),
    ),
    "an invalid date": (
        CONNECTION + COHORT.replace("from a", "from {day}"),
        (
            "`cohorts.vip.source.query` has an invalid date: {day} is not known, only {date}, "
            "{yesterday} are; '{{' and '}}' stand for a brace"
        ),
    ),
    "unknown shared query": (
        CONNECTION + SHARED + '[cohorts.vip]\nname = "V"\nsource = { shared_query = "al" }\n',
        "`cohorts.vip.source.shared_query` is 'al'; the tables [queries.NAME] are: all",
    ),
    "both kinds": (
        CONNECTION
        + SHARED
        + '[cohorts.vip]\nname = "V"\nsource = { shared_query = "all", query = "select 1" }\n',
        "`cohorts.vip.source.query` and `shared_query` exclude each other",
    ),
    "a value alone": (
        CONNECTION + COHORT.replace(" }", ', value = "v" }'),
        "`cohorts.vip.source.value` needs `shared_query`: the name of a [queries.NAME]",
    ),
    "no cohort column": (
        CONNECTION + SHARED.replace("cohort_column", "# cohort_column"),
        "`queries.all.cohort_column` is needed: the column that says which cohort a row is of",
    ),
    "an action without an order": (
        CONNECTION + SHARED + 'action_column = "op"\n',
        (
            "`queries.all.order_column` is needed: rows that say add or remove have an "
            "`action_column` and an `order_column`"
        ),
    ),
    "an order without an action": (
        CONNECTION + COHORT.replace(" }", ', order_column = "at" }'),
        (
            "`cohorts.vip.source.action_column` is needed: rows that say add or remove have an "
            "`action_column` and an `order_column`"
        ),
    ),
    "changes without actions": (
        CONNECTION + COHORT + 'mode = "changes"\n',
        (
            '`cohorts.vip.mode` can\'t be "changes": that needs a query with `action_column` and '
            "`order_column`"
        ),
    ),
    "changes of files": (
        '[cohorts.vip]\nname = "VIP"\nmode = "changes"\nsource = "vip.csv"\n',
        (
            '`cohorts.vip.mode` can\'t be "changes": that needs a query with `action_column` and '
            "`order_column`"
        ),
    ),
    "actions without changes": (
        CONNECTION + CHANGES.replace('mode = "changes"', 'mode = "add"'),
        '`cohorts.vip.mode` should be "changes": the rows of its query say add or remove',
    ),
    "actions with no mode": (
        CONNECTION + CHANGES.replace('mode = "changes"\n', ""),
        '`cohorts.vip.mode` should be "changes": the rows of its query say add or remove',
    ),
    "an action beside a shared query": (
        CONNECTION
        + SHARED
        + '[cohorts.vip]\nname = "V"\nsource = { shared_query = "all", action_column = "op" }\n',
        "`cohorts.vip.source.action_column` and `shared_query` exclude each other",
    ),
    "an exclusion list with actions": (
        CONNECTION
        + CHANGES
        + "[cohorts.vip.exclude]\n"
        + CHANGES.partition("\n")[2].partition("\n")[2].partition("\n")[2],
        "`cohorts.vip.exclude.source` can't have an `action_column`: a list of uids has no actions",
    ),
    "a guard of whole lists": (
        CONNECTION + CHANGES + "guards = { max_duplicates = 5 }\n",
        (
            '`cohorts.vip.guards.max_duplicates` can\'t be checked with mode = "changes": its list '
            "does not name all members"
        ),
    ),
    "a key of files": (
        CONNECTION + COHORT + 'format = "csv"\n',
        "`cohorts.vip.format` is for files: the result of a query has columns",
    ),
    "a wait for the export": (
        CONNECTION + COHORT + "wait_for = true\n",
        "`cohorts.vip.wait_for` should be the path of a marker: a query has no file to wait for",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, mistake: str) -> None:
    text, line = MISTAKES[mistake]
    assert problems(tmp_path, text) == [line]


def test_a_query_from_a_variable_is_not_repeated(tmp_path: Path) -> None:
    cohort = COHORT.replace("select uid from a", "${SQL}")
    for text in ("delete from s3cret", "select {s3cret}"):
        assert problems(tmp_path, CONNECTION, cohort, SQL=text) == [
            "`cohorts.vip.source.query` is no query that can be run"
        ]
