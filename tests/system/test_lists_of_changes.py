"""Cohorts whose query says add or remove, from the database to the API's members."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from clean_room import until
from configured_sync import by_key, statuses, sync
from emulated_api import Emulator
from nightly import CommandLine

from engine.errors import ExitStatus

Row = tuple[str | None, str, object, object]
"""A uid, its cohort, what the row says, and its place in the order."""


def night(cli: CommandLine, rows: Iterable[Row]) -> None:
    """Write the changes of one night, in place of those before, in an order that says nothing."""
    with closing(sqlite3.connect(cli.folder / "marts.db")) as file, file:
        file.execute("drop table if exists changes")
        file.execute("create table changes (uid, audience, op, changed_at)")
        shuffled = sorted(rows, key=lambda row: hash((row[3], row[0])))
        file.executemany("insert into changes values (?, ?, ?, ?)", shuffled)


SHARED = {
    "connection": "marts",
    "query": "select uid, audience, op, changed_at from changes",
    "cohort_column": "audience",
    "action_column": "op",
    "order_column": "changed_at",
}


def configure(cli: CommandLine, **tables: dict[str, object]) -> None:
    cohorts = {f"cohorts.{key}": {"name": key, "mode": "changes"} for key in ("vip", "lapsed")}
    sources = {f"cohorts.{key}.source": {"shared_query": "feed"} for key in ("vip", "lapsed")}
    cli.configure(
        **{"connections.marts": {"url": "sqlite:marts.db"}, "queries.feed": SHARED},
        **cohorts,
        **sources,
        **{"mirror": {"settle_seconds": 0}, **tables},
    )


def uids(key: str, start: int, end: int) -> list[str]:
    return [f"{key}-uid-{number:06}" for number in range(start, end)]


def rows(key: str, start: int, end: int, op: object, at: object) -> list[Row]:
    return [(uid, key, op, at) for uid in uids(key, start, end)]


def assert_balanced(run: dict[str, Any]) -> None:
    """Check that each row is accounted for: here the removes are in rows, too."""
    rows = run["rows"]
    changed = run["add"]["planned"] + run["remove"]["planned"]
    assert rows["read"] == changed + sum(n for name, n in rows.items() if name != "read")


def test_two_cohorts_follow_one_list_of_changes_for_three_nights(
    cli: CommandLine, api: Emulator
) -> None:
    configure(cli)
    night(
        cli,
        [
            *rows("vip", 0, 600, "add", 1),
            *rows("vip", 500, 600, " Remove ", 2),  # The later row counts,
            *rows("lapsed", 0, 300, "remove", 1),
            *rows("lapsed", 200, 300, "ADD", "2"),
            *rows("lapsed", 290, 300, "remove", "2"),  # and at the same place, the remove.
        ],
    )
    ended = sync(cli)
    assert statuses(ended) == dict.fromkeys(("vip", "lapsed"), ("finished", 0))
    assert api.members("vip") == set(uids("vip", 0, 500))
    assert api.members("lapsed") == set(uids("lapsed", 200, 290))
    run = by_key(ended)["vip"]["run"]
    assert_balanced(run)
    assert run["lists_changes"]
    assert run["rows"] | {"read": 700, "duplicate": 100} == run["rows"]
    assert (run["add"]["accepted"], run["remove"]["accepted"]) == (500, 100)
    shown = cli.run("show", run["run"]).words
    assert "100 superseded + 0 unchanged + 500 to add + 100 to remove" in shown
    why = cli.run("why", "vip-uid-000550", "--cohort", "vip").words
    assert "not in cohort" in why
    assert "had it, to remove" in why
    # Only one cohort has changes: uids without a row stay, and no change is a normal night.
    night(cli, [*rows("vip", 0, 10, 0, 3), *rows("vip", 20, 30, 1, 3)])
    planned = sync(cli, "--dry-run")
    assert by_key(planned)["vip"]["run"]["remove"]["planned"] == 10
    ended = sync(cli)
    assert statuses(ended) == dict.fromkeys(("vip", "lapsed"), ("finished", 0))
    assert by_key(ended)["vip"]["run"]["rows"]["unchanged"] == 10
    assert api.members("vip") == set(uids("vip", 10, 500))
    assert api.members("lapsed") == set(uids("lapsed", 200, 290))
    assert by_key(ended)["vip"]["members"] == 490
    assert statuses(sync(cli)) == dict.fromkeys(("vip", "lapsed"), ("up_to_date", 0))
    # Removed and added again on the third night; the other cohort is emptied.
    night(cli, [*rows("vip", 0, 20, "add", 4), *rows("lapsed", 200, 290, "remove", 4)])
    assert statuses(sync(cli)) == dict.fromkeys(("vip", "lapsed"), ("finished", 0))
    assert api.members("vip") == set(uids("vip", 0, 500))
    assert api.members("lapsed") == set()


def test_a_night_that_is_killed_is_finished_by_the_next_command(
    cli: CommandLine, api: Emulator
) -> None:
    configure(cli, limits={"requests": 60, "per_seconds": 6.0})
    night(cli, rows("vip", 0, 600, "add", 1))
    assert statuses(sync(cli, "vip")) == {"vip": ("finished", 0)}
    night(
        cli,
        [
            *rows("vip", 0, 300, "remove", 2),
            *rows("vip", 600, 2600, "add", 2),
            *rows("vip", 700, 800, "remove", 3),
        ],
    )
    before = api.received()
    running = cli.start("sync", "vip", "--json")
    until(lambda: api.received() > before + 6, "a part of the changes is sent")
    running.kill()
    assert len(api.members("vip")) < 2100
    configure(cli)
    [result] = sync(cli, "vip").document["cohorts"]
    assert (result["status"], result["exit_status"]) == ("finished", 0)
    assert_balanced(result["run"])
    # What the killed run has sent and the API has acknowledged is not sent again.
    assert 0 < result["run"]["rows"]["unchanged"] < 2200
    expected = {*uids("vip", 300, 700), *uids("vip", 800, 2600)}
    assert api.members("vip") == expected
    assert result["members"] == len(expected)


def test_only_its_query_is_followed_and_only_by_a_mirror(cli: CommandLine, api: Emulator) -> None:
    configure(cli, guards={"max_removals": 5})
    night(cli, rows("vip", 0, 20, "add", 1))
    export = cli.folder / "export.txt"
    export.write_text("one-uid\n")
    refused = {
        ("push", "--cohort", "vip"): "needs an --action",
        ("push", "--cohort", "vip", "--action", "add"): "its query say add or remove",
        ("mirror", str(export), "--cohort", "vip"): "only its query says add or remove",
        ("plan", str(export), "--cohort", "vip"): "only its query says add or remove",
    }
    for command, said in refused.items():
        ended = cli.run(*command)
        assert (ended.status, said in ended.stderr, "hint:" in ended.stderr) == (2, True, True)
    assert api.received() == 0
    assert cli.run("push", str(export), "--cohort", "vip", "--action", "add").status == 0
    planned = cli.run("plan", "--cohort", "vip", "--json").document
    assert (planned["add"]["planned"], planned["remove"]["planned"]) == (20, 0)
    assert cli.run("apply", planned["run"], "--first", "5", "--json").status == 0
    assert len(api.members("vip")) == 6
    assert cli.run("apply", planned["run"], "--json").status == 0
    assert api.members("vip") == {"one-uid", *uids("vip", 0, 20)}
    night(cli, rows("vip", 0, 6, "remove", 2))
    [result] = sync(cli, "vip").document["cohorts"]
    assert (result["status"], "removals: 6 removals" in result["reason"]) == ("guarded", True)
    lifted = ("--allow", "vip:removals=6", "--reason", "they left")
    assert statuses(sync(cli, "vip", *lifted)) == {"vip": ("finished", 0)}
    assert api.members("vip") == {"one-uid", *uids("vip", 6, 20)}
    [health] = [
        each for each in cli.run("status", "--json").document["cohorts"] if each["cohort"] == "vip"
    ]
    assert (health["mode"], health["members"]) == ("changes", 14)
    assert health["last_success_at"] is not None


def test_rows_that_cannot_be_followed_are_counted_and_mistakes_are_one_error(
    cli: CommandLine, api: Emulator
) -> None:
    configure(cli)
    odd: list[Row] = [
        ("no-action", "vip", None, 1),
        ("no-order", "vip", "add", None),
        ("upsert", "vip", "upsert", 1),
        ("tab", "vip", "\tadd", 1),
        (None, "vip", "add", 1),
    ]
    night(cli, [*rows("vip", 0, 200, "add", 1), *odd])
    [result] = sync(cli, "vip").document["cohorts"]
    assert (result["status"], result["exit_status"]) == ("finished", ExitStatus.PARTIAL)
    assert_balanced(result["run"])
    assert (result["run"]["rows"]["invalid"], result["run"]["rows"]["blank"]) == (4, 1)
    assert api.members("vip") == set(uids("vip", 0, 200))
    reasons = {each["reason"] for each in cli.rejects(result["run"]["run"])}
    assert reasons == {
        "blank",
        "no action: the action column is null",
        "no place in the order: the order column is null",
        "the action is neither add nor remove",
    }
    night(cli, [*rows("vip", 0, 2, "add", 1), *odd])
    assert statuses(sync(cli, "vip")) == {"vip": ("guarded", ExitStatus.GUARDED)}
    for key in ("action_column", "order_column", "cohort_column"):
        cli.configure(
            **{
                "connections.marts": {"url": "sqlite:marts.db"},
                "queries.feed": SHARED | {key: "nosuch"},
                "cohorts.vip": {"name": "vip", "mode": "changes"},
                "cohorts.vip.source": {"shared_query": "feed"},
            }
        )
        for command in (("check",), ("source", "preview", "vip"), ("sync", "--dry-run")):
            ended = cli.run(*command)
            assert ended.status == ExitStatus.USAGE
            assert "nosuch" in ended.log + ended.stdout
            assert "op, changed_at" in ended.log + ended.stdout
