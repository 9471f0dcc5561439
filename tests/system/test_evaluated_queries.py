"""Cohorts whose queries the database evaluates that makes their plans: no row comes here."""

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from clean_room import until
from configured_sync import by_key, statuses, sync
from emulated_api import Emulator
from nightly import CommandLine

from engine.errors import ExitStatus
from engine.source.sql import reading

if TYPE_CHECKING:
    from postgres_server import PostgresServer


@pytest.fixture(params=["duckdb", "postgres"])
def marts(request: pytest.FixtureRequest, cli: CommandLine) -> "Marts":
    """Return a database with the table `audience` (uid, cohort)."""
    if request.param == "duckdb":
        pytest.importorskip("duckdb")
        return Marts(cli)
    server: PostgresServer = request.getfixturevalue("postgres")
    server.execute("drop schema if exists cohortsync cascade", "drop table if exists audience")
    return Marts(cli, server)


class Marts:
    """A database that has the audiences, and makes the plans."""

    def __init__(self, cli: CommandLine, server: "PostgresServer | None" = None) -> None:
        self.cli = cli
        self.server = server
        self.execute("create table audience (uid text, cohort text)")

    def execute(self, *statements: str) -> None:
        if self.server is not None:
            self.server.execute(*statements)
            return
        import duckdb  # noqa: PLC0415 - an extra

        with duckdb.connect(str(self.cli.folder / "marts.duckdb")) as connection:
            for each in statements:
                connection.execute(each)

    def fill(self, **cohorts: Sequence[str | None]) -> None:
        """Replace the audiences."""
        rows = [
            f"({'null' if uid is None else repr(uid)}, '{key}')"
            for key, uids in cohorts.items()
            for uid in uids
        ]
        self.execute("delete from audience", f"insert into audience values {', '.join(rows)}")

    def configure(self, text: str, guards: dict[str, object] | None = None, **further: Any) -> None:  # noqa: ANN401 - tables
        url = self.server.url if self.server else "duckdb:marts.duckdb"
        engine = "postgres" if self.server else "duckdb"
        tables = {
            "connections.marts": {"url": url},
            "plan": {"engine": engine, "connection": "marts"},
            "mirror": {"settle_seconds": 0},
            "cohorts.vip": {"name": "VIP", "mode": "mirror"},
            "cohorts.vip.source": {"connection": "marts", "query": text},
        }
        if guards is not None:
            tables["cohorts.vip.guards"] = guards
        self.cli.configure(**tables | further)


def numbered(first: int, last: int) -> list[str]:
    return [f"vip-uid-{number:06}" for number in range(first, last)]


def test_three_nights_of_which_no_export_is_here(
    cli: CommandLine, api: Emulator, marts: Marts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "run_query", None)
    text = "select uid from audience where '{date}' > '2026' order by uid nulls first"
    marts.configure(text, {"uid_pattern": r"vip-uid-\d{6}"})
    nights = [
        [None, " ", *numbered(0, 3000), "vip-uid-000007"],
        numbered(30, 3030),
        numbered(30, 3030),
    ]
    runs = []
    for wanted in nights:
        marts.fill(vip=wanted)
        ended = sync(cli)
        assert statuses(ended) == {"vip": ("finished", 0)}
        assert "the database evaluates the query marts: select uid from" in ended.log
        assert api.members("vip") == {each for each in wanted if each and each.strip()}
        run = by_key(ended)["vip"]["run"]
        assert run["rows"]["read"] == len(wanted)
        runs.append(run)
    first, second, last = runs
    assert (first["rows"]["blank"], first["rows"]["duplicate"]) == (2, 1)
    assert [each["record"] for each in cli.rejects(first["run"])] == [1, 2]
    assert (second["add"]["planned"], second["remove"]["planned"]) == (30, 30)
    assert (last["add"]["planned"], last["remove"]["planned"]) == (0, 0)
    [file] = last["files"]
    assert (file["uids"], file["bytes"]) == (3000, None)
    assert list(cli.folder.glob("state/*/*/queries")) == []


@pytest.mark.slow
def test_guards_judge_what_is_never_read(cli: CommandLine, api: Emulator, marts: Marts) -> None:
    text = "select uid from audience"
    marts.fill(vip=[*numbered(0, 50), "VIP-7", "é"])
    for pattern, is_read in ((r"vip-uid-\d{6}", False), (r"vip.uid.\d{6}", True)):
        marts.configure(text, {"uid_pattern": pattern})
        ended = sync(cli)
        assert statuses(ended) == {"vip": ("guarded", 4)}
        assert "2 uids do not match the pattern" in by_key(ended)["vip"]["reason"]
        assert ("the rows of the query are read here" in ended.log) is is_read
    marts.configure(text)
    marts.execute("delete from audience")
    assert by_key(sync(cli))["vip"]["reason"].startswith("empty: the export holds no uid")
    assert api.received() == 0


@pytest.mark.slow
def test_a_plan_is_sent_without_its_query(cli: CommandLine, api: Emulator, marts: Marts) -> None:
    marts.fill(vip=numbered(0, 500))
    marts.configure("select uid from audience")
    assert statuses(sync(cli, "--dry-run")) == {"vip": ("planned", 0)}
    planned = cli.run("plan", "--cohort", "vip", "--json")
    assert planned.document["plan"]["add"] == 500
    marts.execute("drop table audience")
    assert cli.run("apply", planned.document["run"]).status == 0
    assert api.members("vip") == set(numbered(0, 500))
    ended = sync(cli)
    assert ended.status == ExitStatus.USAGE
    assert "marts: select uid from audience: the query failed: " in ended.stderr
    assert "audience" in by_key(ended)["vip"]["reason"]
    marts.execute("create table audience (uid text, cohort text)")
    marts.fill(vip=numbered(100, 600))
    assert cli.run("mirror", "--cohort", "vip").status == 0
    assert api.members("vip") == set(numbered(100, 600))


@pytest.mark.slow
def test_cohorts_that_share_a_query_are_evaluated_one_by_one(
    cli: CommandLine, api: Emulator, marts: Marts, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {key: [f"{key}-{n}" for n in range(300)] for key in ("vip", "a b", "pushed")}
    spooled = []
    open_spools = reading.open_spools
    monkeypatch.setattr(
        reading,
        "open_spools",
        lambda folder, values: spooled.extend(values) or open_spools(folder, values),
    )
    marts.fill(**lists)
    shared = {
        "queries.all": {
            "connection": "marts",
            "query": "select * from audience",
            "cohort_column": "cohort",
        },
        "cohorts.vip.source": {"shared_query": "all"},
        "cohorts.other": {"name": "Other", "mode": "mirror"},
        "cohorts.other.source": {"shared_query": "all", "value": "a b"},
    }
    shared["cohorts.pushed"] = {"name": "Pushed", "mode": "add"}
    shared["cohorts.pushed.source"] = {"shared_query": "all"}
    listed = "select uid from audience where uid = 'vip-7'"
    shared["cohorts.vip.exclude.source"] = {"connection": "marts", "query": listed}
    marts.configure("", **shared)
    ended = sync(cli)
    assert set(statuses(ended).values()) == {("finished", 0)}, ended.log
    assert api.members("vip") == set(lists["vip"]) - {"vip-7"}
    assert api.members("other") == set(lists["a b"])
    assert sorted(spooled, key=str) == [None, "pushed"]


@pytest.mark.slow
def test_a_query_that_is_ended_sends_nothing_and_is_run_again(
    cli: CommandLine, api: Emulator, marts: Marts
) -> None:
    server = marts.server
    if server is None:
        pytest.skip("nothing but this process ends a query of DuckDB")
    marts.fill(vip=numbered(0, 500))
    text = "select uid from audience"
    for ending in ("the server", "a stop"):
        marts.configure(f"{text}, pg_sleep(600)")
        running = cli.start("sync", "--json", anew=ending == "the server")
        until(lambda: server.execute(_RUNNING) != [], "the query runs")
        if ending == "the server":
            server.execute(f"select pg_terminate_backend(pid) from ({_RUNNING}) running")
        else:
            running.process.send_signal(signal.SIGTERM)
        ended = running.wait()
        assert ended.status == ExitStatus.INCOMPLETE
        server.await_idle()
    assert api.received() == 0
    marts.configure(text)
    assert statuses(sync(cli)) == {"vip": ("finished", 0)}
    assert api.members("vip") == set(numbered(0, 500))


_RUNNING = """
select pid from pg_stat_activity
where query like 'insert into cohortsync_list%' and state = 'active'
"""
