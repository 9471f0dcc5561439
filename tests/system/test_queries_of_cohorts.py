"""Cohorts whose exports are the results of queries, from the database to the API's members."""

import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clean_room import until
from configured_sync import by_key, statuses, sync
from emulated_api import Emulator
from nightly import CommandLine

from engine.errors import ExitStatus
from engine.source.sql import reading
from postgres_server import PASSWORD, READER, PostgresServer

Tables = dict[str, dict[str, object]]


def cohort(key: str, mode: str = "mirror", **source: object) -> Tables:
    """Return the tables of a cohort whose source is a query."""
    table = {"name": key, "mode": mode}
    return {f"cohorts.{key}": table, f"cohorts.{key}.source": source}


def database(cli: CommandLine, **cohorts: list[str]) -> Tables:
    """Write the members of cohorts to a file of SQLite; return the table of its connection."""
    with closing(sqlite3.connect(cli.folder / "marts.db")) as file, file:
        file.execute("drop table if exists audience")
        file.execute("create table audience (uid, cohort)")
        rows = [(uid, key) for key, uids in cohorts.items() for uid in uids]
        file.executemany("insert into audience values (?, ?)", rows)
    return {"connections.marts": {"url": "sqlite:marts.db"}}


def spools(cli: CommandLine) -> list[Path]:
    return list(cli.folder.glob("state/*/*/queries/*"))


def numbered(key: str, count: int) -> list[str]:
    return [f"{key}-uid-{number:06}" for number in range(count)]


def test_one_query_feeds_many_cohorts_in_one_pass(
    cli: CommandLine, api: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {key: numbered(key, 500) for key in ("vip", "lapsed", "other")}
    connection = database(cli, **lists)
    ran = []
    run_query = reading.run_query

    def counted(*arguments: Any, **further: Any) -> Any:  # noqa: ANN401 - passed through
        ran.append(arguments[1].text)
        return run_query(*arguments, **further)

    monkeypatch.setattr(reading, "run_query", counted)
    text = "select uid, cohort from audience"
    shared: Tables = {
        "queries.all": {"connection": "marts", "query": text, "cohort_column": "cohort"}
    }
    cohorts = {
        **cohort("vip", shared_query="all"),
        **cohort("gone", "add", shared_query="all", value="lapsed"),
        **cohort("nobody", shared_query="all"),
    }
    cli.configure(**connection, **shared, **cohorts, mirror={"settle_seconds": 0})
    ended = sync(cli)
    assert statuses(ended) == {
        "vip": ("finished", 0),
        "gone": ("finished", 0),
        "nobody": ("guarded", 4),
    }
    assert by_key(ended)["nobody"]["reason"].startswith("empty: ")
    assert ran == [text]
    assert api.members("vip") == set(lists["vip"])
    assert api.members("gone") == set(lists["lapsed"])
    assert spools(cli) == []
    # The same results are complete already, and one of them is another query's now.
    assert statuses(sync(cli, "vip", "gone")) == dict.fromkeys(("vip", "gone"), ("up_to_date", 0))
    database(cli, vip=lists["vip"][1:], lapsed=lists["lapsed"])
    assert statuses(sync(cli, "vip", "gone"))["vip"] == ("finished", 0)
    assert api.members("vip") == set(lists["vip"][1:])
    assert cli.run("check").stdout.count("the uids are in column 'uid'") == 3


def test_a_push_goes_on_with_what_its_query_returned(cli: CommandLine, api: Emulator) -> None:
    first = numbered("first", 2000)
    text = "select uid from audience where cohort = 'vip' and '{date}' > '2026'"
    query: dict[str, object] = {"connection": "marts", "query": text}
    exclude: Tables = {
        "cohorts.vip.exclude.source": {
            "connection": "marts",
            "query": "select uid from audience where cohort = 'gone'",
        }
    }
    tables = {**cohort("vip", "add", **query), **exclude}
    cli.configure(**database(cli, vip=first, gone=first[:100]), **tables)
    ended = sync(cli, "--max-requests", "3")
    assert statuses(ended) == {"vip": ("incomplete", 75)}
    assert len(spools(cli)) == 2
    assert [each.stat().st_mode & 0o777 for each in spools(cli)] == [0o600] * 2
    database(cli, vip=numbered("second", 10))
    assert "query result: 2 files" in cli.run("check").stdout
    shown = cli.run("push", "--cohort", "vip", "--dry-run", "--json").document
    assert shown["uids"]["planned"] == 1900
    ended = sync(cli)
    assert statuses(ended) == {"vip": ("finished", 0)}
    assert "goes on with what the query returned then" in ended.log
    assert api.members("vip") == set(first[100:])
    assert spools(cli) == []
    # A new run runs the query again.
    assert statuses(sync(cli)) == {"vip": ("finished", 0)}
    assert api.members("vip") == {*first[100:], *numbered("second", 10)}


def test_a_run_is_resumed_by_its_name_without_its_query(cli: CommandLine, api: Emulator) -> None:
    uids = numbered("vip", 2000)
    query = {"connection": "marts", "query": "select uid from audience"}
    cli.configure(**database(cli, vip=uids), **cohort("vip", "add", **query))
    [result] = sync(cli, "--max-requests", "3").document["cohorts"]
    (cli.folder / "marts.db").unlink()
    assert cli.run("resume", result["run"]["run"], "--json").status == 0
    assert api.members("vip") == set(uids)
    assert spools(cli) == []


def test_what_a_run_can_no_longer_read_is_one_error(cli: CommandLine) -> None:
    query = {"connection": "marts", "query": "select uid from audience"}
    cli.configure(**database(cli, vip=numbered("vip", 2000)), **cohort("vip", "add", **query))
    [result] = sync(cli, "--max-requests", "3").document["cohorts"]
    [spool] = spools(cli)
    content = spool.read_bytes()
    spool.write_bytes(content[:100] + bytes(50) + content[150:])
    damaged = cli.run("resume", result["run"]["run"])
    assert damaged.status == 2
    spool.unlink()
    lost = cli.run("resume", result["run"]["run"])
    assert lost.status == 2
    for ended in (damaged, lost):
        assert "the result of the query is no longer in the state folder" in ended.stderr
    assert statuses(sync(cli)) == {"vip": ("finished", 0)}  # It runs the query again.


@pytest.fixture
def marts(postgres: PostgresServer) -> PostgresServer:
    postgres.execute(
        "drop table if exists members",
        "create table members as select 'pg-uid-' || n as uid from generate_series(1, 20000) n",
    )
    return postgres


def configure(cli: CommandLine, url: str, text: str, mode: str = "mirror") -> None:
    (cli.folder / "password").write_text(f"{PASSWORD}\n")
    (cli.folder / "password").chmod(0o600)
    connection = {"url": url, "password_file": "password"}
    query = {"connection": "marts", "query": text}
    limits = {"limits": {"payload_bytes": 128_000}, "mirror": {"settle_seconds": 0}}
    cli.configure(**{"connections.marts": connection}, **limits, **cohort("vip", mode, **query))


def test_members_of_a_postgres_and_what_goes_wrong(
    cli: CommandLine, api: Emulator, marts: PostgresServer
) -> None:
    url = marts.url_of(READER)
    configure(cli, url, "select uid from members")
    assert statuses(sync(cli)) == {"vip": ("finished", 0)}
    members = {f"pg-uid-{number}" for number in range(1, 20_001)}
    assert api.members("vip") == members
    mistakes = {
        "delete from members returning uid": "should be one query that reads",
        "with d as (delete from members returning uid) select uid from d": "the query writes",
        "select uid from members; select 1": "has several statements",
        "select uid from dropped": 'the query failed: relation "dropped" does not exist',
    }
    for text, said in mistakes.items():
        configure(cli, url, text)
        ended = sync(cli)
        assert ended.status == ExitStatus.USAGE
        assert said in ended.stderr
        assert PASSWORD not in ended.log + ended.stdout
    configure(cli, url, "select uid from members")
    (cli.folder / "password").write_text("wr-ong/5%")
    ended = sync(cli)
    assert ended.status == ExitStatus.USAGE
    assert "refuses the password or the user" in ended.log
    assert "wr-ong" not in ended.log + ended.stdout
    killing = "select pg_terminate_backend(pg_backend_pid())::text as uid"
    configure(cli, url, f"select uid from members union all {killing}")
    ended = sync(cli)
    assert ended.status == ExitStatus.INCOMPLETE
    assert "terminating connection" in ended.log
    marts.execute("delete from members where uid like '%7'")
    configure(cli, url, "select uid from members")
    assert statuses(sync(cli)) == {"vip": ("finished", 0)}
    assert api.members("vip") == {each for each in members if not each.endswith("7")}
    assert spools(cli) == []
    marts.await_idle()


@pytest.mark.slow
def test_five_million_uids_of_a_postgres(
    cli: CommandLine, api: Emulator, postgres: PostgresServer
) -> None:
    uids = 5_000_000
    postgres.execute(
        "create table many as select lpad(n::text, 24, '0') as uid "
        f"from generate_series(1, {uids}) n"
    )
    configure(cli, postgres.url_of(READER), "select uid from many")
    # Killed when a part of it is read, it leaves nothing, and the same command does all of it.
    running = cli.start("sync", "--json", anew=True)
    until(lambda: any(each.stat().st_size > 10**6 for each in spools(cli)), "rows are spooled")
    postgres.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = '" + READER + "'"
    )
    ended = running.wait()
    assert ended.status == ExitStatus.INCOMPLETE
    assert "the query was ended" in ended.log
    assert spools(cli) == []
    assert api.received() == 0
    running = cli.start("sync", "--json", anew=True)
    peak = 0  # Until the plan begins, whose memory does not depend on where the uids are from.
    while running.process.poll() is None and "reading the export" not in running.stderr:
        with suppress(OSError, IndexError):  # It may just have ended.
            status = Path(f"/proc/{running.process.pid}/status").read_text(encoding="ascii")
            peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]))
        time.sleep(0.1)
    [result] = running.wait().document["cohorts"]
    assert (result["status"], result["members"]) == ("finished", uids)
    members = np.array([int(each) for each in api.members("vip")])
    assert (len(members), members.min(), members.max()) == (uids, 1, uids)
    assert 0 < peak < 250_000, f"{peak:,} kB"
    assert spools(cli) == []
    postgres.await_idle()
    postgres.execute("drop table many")
    ended = sync(cli)
    assert ended.status == ExitStatus.USAGE
    assert 'relation "many" does not exist' in ended.stderr


def test_a_stop_ends_the_query_and_its_connection(cli: CommandLine, marts: PostgresServer) -> None:
    configure(cli, marts.url_of(READER), "select uid from members, pg_sleep(600)")
    running = cli.start("sync", "--json")
    until(lambda: marts.connections() == 1, "the query runs")
    running.process.send_signal(signal.SIGTERM)
    ended = running.wait()
    assert ended.status == ExitStatus.INCOMPLETE
    assert by_key(ended)["vip"]["status"] == "not_begun"
    marts.await_idle()
    assert spools(cli) == []
