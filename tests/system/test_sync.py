"""`cohortsync sync`: many configured cohorts by one command."""

import gzip
import re
import shlex
import signal
from datetime import datetime, timedelta

import pytest
from clean_room import API_KEY, WORKSPACE, until
from configured_sync import by_key, cohort, configure, statuses, sync, two_workspaces
from emulated_api import Emulator
from nightly import CommandLine

from engine.sync import follow_up


def test_what_happens_to_one_cohort_does_not_stop_the_others(
    cli: CommandLine, api: Emulator
) -> None:
    vip, news = cli.write("vip.txt", 500), cli.write("news.txt", 200)
    cli.write("few.txt", 3)
    configure(
        cli,
        {
            "few": cohort("few.txt"),
            "vip": cohort("vip.txt", priority=1),
            "gone": cohort("gone-*.txt"),
            "news": cohort("news.txt", mode="add", id="newsletter"),
            "off": cohort("vip.txt", enabled=False),
        },
        guards={"expected_size": [100, 1000]},
    )
    ended = sync(cli)
    assert ended.status == 2
    assert list(by_key(ended)) == ["vip", "few", "gone", "news"]
    assert statuses(ended) == {
        "vip": ("finished", 0),
        "few": ("guarded", 4),
        "gone": ("missing", 2),
        "news": ("finished", 0),
    }
    assert ended.document["reason"].startswith("gone: ")
    assert by_key(ended)["vip"]["run"]["add"]["accepted"] == 500
    assert by_key(ended)["vip"]["members"] == 500
    assert by_key(ended)["gone"]["run"] is None
    assert api.members("vip") == vip
    assert api.members("newsletter") == news
    assert api.members("few") == set()


def test_a_second_sync_repeats_nothing_that_is_done(cli: CommandLine, api: Emulator) -> None:
    cli.write("vip.txt", 300)
    cli.write("news.txt", 300)
    configure(cli, {"vip": cohort("vip.txt"), "news": cohort("news.txt", mode="add")})
    first = sync(cli)
    received = api.received()
    second = sync(cli)
    assert (first.status, second.status) == (0, 0)
    assert statuses(second) == {"vip": ("up_to_date", 0), "news": ("up_to_date", 0)}
    assert api.received() == received
    assert by_key(second)["vip"]["members"] == 300
    few = {"max_additions": 1, "expected_size": [1, 2]}
    described = {"vip": cohort("vip.txt", description="Who buys."), "vip.guards": few}
    configure(cli, {**described, "news": cohort("news.txt", mode="add")})
    assert statuses(sync(cli)) == statuses(second)  # Nothing is to be sent, so nothing is judged.
    configure(cli, {"vip": cohort("vip.txt"), "news": cohort("news.txt", mode="add")})
    wanted = cli.write("vip.txt", 310)  # A new export, though under the same name.
    third = sync(cli)
    assert statuses(third) == {"vip": ("finished", 0), "news": ("up_to_date", 0)}
    assert by_key(third)["vip"]["run"]["add"]["accepted"] == 10
    assert api.members("vip") == wanted


def test_an_old_export_that_was_completed_is_still_judged_by_its_age(cli: CommandLine) -> None:
    cli.write("vip.txt")
    configure(cli, {"vip": cohort("vip.txt")})
    assert sync(cli).status == 0
    configure(
        cli, {"vip": cohort("vip.txt"), "vip.guards": {"max_age_hours": 0.0}}
    )  # As if a day had passed.
    ended = sync(cli)
    assert statuses(ended) == {"vip": ("guarded", 4)}
    assert by_key(ended)["vip"]["reason"].startswith("age: ")


def test_after_a_limit_on_requests_the_same_command_sends_the_rest(
    cli: CommandLine, api: Emulator
) -> None:
    uids = {key: cli.write(f"{key}.txt", 400) for key in "abc"}
    configure(
        cli,
        {
            "a": cohort("a.txt", mode="add"),
            "b": cohort("b.txt"),
            "c": cohort("c.txt", mode="add"),
        },
    )
    received, rounds = 0, 0
    while True:
        ended = sync(cli, "--max-requests", "4")
        rounds += 1
        assert api.received() - received <= 4
        if ended.status == 0:
            break
        assert ended.status == 75
        assert api.received() - received == 4
        # A push that goes on has sent more than that, but in earlier syncs.
        assert ended.document["requests"] == 4
        assert 0 < ended.document["ceiling_use"] <= 1
        received = api.received()
        reasons = {each["reason"] for each in by_key(ended).values() if each["exit_status"] == 75}
        assert reasons == {"the 4 requests of --max-requests are sent"}
    assert rounds > 2
    assert {key: api.members(key) for key in uids} == uids
    sent = api.report()["requests"]["accepted"]
    assert sent == api.received()
    assert statuses(sync(cli)) == dict.fromkeys(uids, ("up_to_date", 0))


def test_a_signal_ends_the_sync_and_the_next_goes_on(cli: CommandLine, api: Emulator) -> None:
    uids = {key: cli.write(f"{key}.txt", 3_000) for key in "ab"}
    configure(
        cli,
        {"a": cohort("a.txt", mode="add"), "b": cohort("b.txt", mode="add")},
        limits={"requests": 20, "per_seconds": 2.0},
    )
    running = cli.start("sync", "--json")
    until(lambda: api.received() > 3, "requests arrive")
    running.process.send_signal(signal.SIGTERM)
    ended = running.wait()
    assert ended.status == 75
    assert {each["reason"] for each in by_key(ended).values()} == {"SIGTERM received"}
    configure(cli, {"a": cohort("a.txt", mode="add"), "b": cohort("b.txt", mode="add")})
    assert sync(cli).status == 0
    assert {key: api.members(key) for key in uids} == uids


def test_cohorts_are_selected_by_key_tag_and_failure(cli: CommandLine) -> None:
    cli.write("a.txt")
    configure(
        cli,
        {
            "a": cohort("a.txt", tags=["daily", "crm"]),
            "b": cohort("b.txt", tags=["daily"]),
            "c": cohort("a.txt", tags=["crm"], enabled=False),
        },
    )
    assert set(statuses(sync(cli, "b", "c"))) == {"b", "c"}
    assert set(statuses(sync(cli, "--tag", "daily"))) == {"a", "b"}
    assert set(statuses(sync(cli, "--failed"))) == {"b"}
    assert set(statuses(sync(cli, "--tag", "crm"))) == {"a"}
    cli.write("b.txt")
    assert sync(cli, "--failed").status == 0
    nothing = sync(cli, "--failed")
    assert (nothing.status, nothing.document["cohorts"]) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["vop"], "no cohort 'vop' is configured", "did you mean 'vip'?"),
        (["--tag", "dayly"], "no cohort has the tag 'dayly'", "did you mean 'daily'?"),
        (["--until", "25:00"], "--until 25:00 should be a time", "--until 06:00"),
        (["--allow", "removals=3"], "--allow removals=3: of which cohort?", "COHORT:removals=3"),
        (["--allow", "vip:removals=3"], "--allow needs a --reason", "--reason"),
        (["--allow", "vop:size=3", "--reason", "x"], "no cohort 'vop'", "did you mean 'vip'?"),
        (["off", "--allow", "vip:size=3", "--reason", "x"], "is not selected", None),
        (["vip", "--tag", "none-of-it"], "no cohort has the tag", "daily"),
        (["off", "--tag", "daily"], "no cohort is selected", "[cohorts.KEY]"),
    ],
)
def test_mistakes_are_one_error(
    cli: CommandLine, arguments: list[str], message: str, hint: str | None
) -> None:
    cli.write("vip.txt")
    tables = {"vip": cohort("vip.txt", tags=["daily"]), "off": cohort("vip.txt", enabled=False)}
    tables["off"]["id"] = "other"
    configure(cli, tables)
    ended = cli.run("sync", *arguments)
    assert ended.status == 2
    assert message in ended.stderr
    assert hint is None or hint in ended.stderr
    assert not list(cli.folder.glob("state/*/*/ledger.sqlite"))


def test_without_cohorts_the_error_says_where_they_belong(cli: CommandLine) -> None:
    ended = cli.run("sync")
    assert ended.status == 2
    assert "[cohorts.KEY]" in ended.stderr


def test_a_workspace_without_its_key_does_not_stop_the_other(
    cli: CommandLine, api: Emulator
) -> None:
    two_workspaces(cli)
    ended = sync(cli)
    assert statuses(ended) == {"a": ("finished", 0), "b": ("failed", 2)}
    assert "us.key" not in by_key(ended)["a"]
    assert "api_key_file" in by_key(ended)["b"]["reason"]
    (cli.folder / "us.key").write_text(API_KEY)
    (cli.folder / "us.key").chmod(0o600)
    again = sync(cli)
    assert statuses(again) == {"a": ("up_to_date", 0), "b": ("finished", 0)}
    assert len(api.members("a")) == len(api.members("b")) == 200


def test_a_key_that_was_replaced_meanwhile_is_read_again_once(
    cli: CommandLine, api: Emulator
) -> None:
    """As by a vault: the first answer is an old key, each later one is the new key."""
    cli.write("a.txt", 200)
    cli.write("b.txt", 200)
    (cli.folder / "vault.sh").write_text(
        f"if [ -e asked ]; then echo {API_KEY}; else touch asked; echo old-key; fi\n"
    )
    configure(
        cli,
        {"a": cohort("a.txt"), "b": cohort("b.txt", mode="add")},
        workspace={"api_key_command": ["sh", "vault.sh"]},
    )
    ended = sync(cli)
    assert statuses(ended) == {"a": ("finished", 0), "b": ("finished", 0)}
    assert len(api.members("a")) == len(api.members("b")) == 200


def test_a_key_that_stays_wrong_ends_every_cohort_with_3(cli: CommandLine, api: Emulator) -> None:
    cli.write("a.txt")
    cli.write("b.txt")
    cli.variables["MOENGAGE_API_KEY"] = "wrong-key"
    configure(cli, {"a": cohort("a.txt"), "b": cohort("b.txt", mode="add")})
    ended = sync(cli)
    assert statuses(ended) == {"a": ("refused", 3), "b": ("refused", 3)}
    assert api.received() <= 2


def test_a_dry_run_plans_each_cohort_and_sends_and_records_nothing(
    cli: CommandLine, api: Emulator
) -> None:
    cli.write("a.txt", 200)
    cli.write("b.txt", 100)
    configure(cli, {"a": cohort("a.txt"), "b": cohort("b.txt", mode="add"), "c": cohort("c.txt")})
    ended = sync(cli, "--dry-run")
    assert ended.document["is_dry_run"] is True
    assert statuses(ended) == {
        "a": ("planned", 0),
        "b": ("dry_run", 0),
        "c": ("missing", 2),
    }
    assert by_key(ended)["a"]["run"]["plan"]["add"] == 200
    assert api.received() == 0
    assert cli.query("SELECT count(*) FROM synced_cohort") == [(0,)]
    assert statuses(sync(cli, "a", "b")) == {"a": ("finished", 0), "b": ("finished", 0)}


def test_a_dry_run_counts_no_requests_of_a_cohort_that_a_guard_stops(cli: CommandLine) -> None:
    cli.write("a.txt", 200)
    cli.write("b.txt", 200)
    configure(
        cli,
        {"a": cohort("a.txt"), "b": cohort("b.txt"), "a.guards": {"expected_size": [1000, 2000]}},
    )
    [planned] = [
        each for each in by_key(sync(cli, "--dry-run")).values() if not each["exit_status"]
    ]
    requests = planned["run"]["plan"]["requests"]
    last = " ".join(cli.run("sync", "--dry-run").stdout.splitlines()[-2:])
    assert f"; {requests} requests to send, nothing was sent" in re.sub(r" +", " ", last)


def test_a_dry_run_shows_what_would_stop_the_sync(cli: CommandLine) -> None:
    two_workspaces(cli)
    ended = sync(cli, "--dry-run")
    assert ended.status == 0
    assert "us: " in ended.log
    assert "api_key_file" in ended.log
    with (cli.folder / "config.toml").open("a") as config:
        config.write('\n[notify]\nurls = ["nowhere"]\n')
    assert sync(cli, "--dry-run").status == sync(cli).status == 2


def test_a_guard_is_lifted_for_one_cohort(cli: CommandLine, api: Emulator) -> None:
    cli.write("a.txt", 200)
    cli.write("b.txt", 200)
    configure(
        cli,
        {"a": cohort("a.txt"), "b": cohort("b.txt")},
        guards={"expected_size": [1000, 2000]},
    )
    ended = sync(cli, "--allow", "a:size=200", "--reason", "a small month")
    assert statuses(ended) == {"a": ("finished", 0), "b": ("guarded", 4)}
    assert api.members("b") == set()
    assert by_key(ended)["a"]["run"]["exit_status"] == 0


@pytest.mark.parametrize("mode", ["mirror", "add"])
def test_the_hint_at_a_guard_is_a_command_that_lifts_it(
    cli: CommandLine, api: Emulator, mode: str
) -> None:
    """The command is the same in the log, the document and on a terminal."""
    cli.write("a.txt", 300)
    configure(cli, {"vip": cohort("a.txt", mode=mode)})
    assert sync(cli).status == 0
    cli.write("a.txt", 310)
    configure(cli, {"vip": cohort("a.txt", mode=mode) | {"name": "Another"}})
    ended = sync(cli)
    assert statuses(ended) == {"vip": ("guarded", 4)}
    _, colon, command = by_key(ended)["vip"]["hint"].partition(": cohortsync ")
    assert colon
    assert by_key(ended)["vip"]["hint"] in {each.get("hint") for each in ended.records}
    assert f"  cohortsync {command}\n" in cli.run("sync", on_terminal=True).log
    assert cli.run(*shlex.split(command)).status == 0
    assert len(api.members("vip")) == 310


def test_a_cohort_that_would_be_late_is_refused_before_its_first_request(
    cli: CommandLine, api: Emulator
) -> None:
    """A push is counted before it begins, also if nothing says how many rows its export has."""
    cli.write("a.txt", 2_000)
    with gzip.open(cli.folder / "b.txt.gz", "wb") as file:
        file.write((cli.folder / "a.txt").read_bytes())
    deadline = datetime.now().astimezone() + timedelta(minutes=3)
    configure(
        cli,
        {
            "a": cohort("a.txt", deadline=f"{deadline:%H:%M}"),
            "b": cohort("b.txt.gz", deadline=f"{deadline:%H:%M}", mode="add"),
        },
        limits={"requests": 2, "per_seconds": 60.0},
        sync={"on_late": "refuse"},
    )
    ended = sync(cli)
    assert statuses(ended) == {"a": ("guarded", 4), "b": ("guarded", 4)}
    for each in by_key(ended).values():
        assert each["reason"].startswith("late: ")
        assert each["forecast"]["share_by_deadline"] < 1
        assert each["forecast"]["is_exact"]
    assert api.received() == 0


def test_a_sync_that_cannot_begin_leaves_the_marker(cli: CommandLine, api: Emulator) -> None:
    """Nothing has changed: the cohort is as complete as it was."""
    cli.write("a.txt", 10)
    configure(cli, {"a": cohort("a.txt", marker="done")})
    assert sync(cli).status == 0
    received = api.received()
    cli.variables["MOENGAGE_API_KEY"] = ""
    assert statuses(sync(cli)) == {"a": ("failed", 2)}
    assert (cli.folder / "done").exists()
    cli.variables["MOENGAGE_API_KEY"] = API_KEY
    [ledger] = [each for each in cli.ledger_files() if each.suffix == ".sqlite"]
    ledger.write_bytes(b"not SQLite" * 1000)
    assert statuses(sync(cli)) == {"a": ("failed", 2)}
    assert (cli.folder / "done").exists()
    assert api.received() == received


def test_a_dated_export_is_found_by_the_date_of_the_sync(cli: CommandLine, api: Emulator) -> None:
    today = datetime.now().astimezone()
    wanted = cli.write(f"vip-{today:%Y-%m-%d}.txt", 50)
    cli.write(f"vip-{today - timedelta(days=1):%Y-%m-%d}.txt", 70)
    configure(cli, {"vip": cohort("vip-{date}.txt")})
    assert sync(cli).status == 0
    assert api.members("vip") == wanted


def test_excluded_uids_are_left_out_and_a_push_with_the_same_list_is_not_repeated(
    cli: CommandLine, api: Emulator
) -> None:
    everyone = cli.write("all.txt", 300)
    staff = sorted(everyone)[:20]
    (cli.folder / "staff.txt").write_text("\n".join(staff) + "\n")
    excluded = {"source": "staff.txt"}
    configure(
        cli,
        {
            "a": cohort("all.txt"),
            "a.exclude": excluded,
            "b": cohort("all.txt", mode="add"),
            "b.exclude": excluded,
        },
    )
    first = sync(cli)
    assert first.status == 0
    assert {each["run"]["rows"]["excluded"] for each in by_key(first).values()} == {20}
    assert api.members("a") == api.members("b") == everyone - set(staff)
    received = api.received()
    again = sync(cli)
    assert statuses(again) == {"a": ("finished", 0), "b": ("up_to_date", 0)}
    assert api.received() == received
    (cli.folder / "staff.txt").write_text("\n".join(staff[:10]) + "\n")
    assert statuses(sync(cli)) == {"a": ("finished", 0), "b": ("finished", 0)}
    assert api.members("a") == api.members("b") == everyone - set(staff[:10])


def test_the_page_is_written_after_each_sync_and_a_page_that_cannot_be_is_a_warning(
    cli: CommandLine,
) -> None:
    cli.write("a.txt")
    configure(cli, {"a": cohort("a.txt"), "b": cohort("b.txt")}, report={"html": "page.html"})
    assert sync(cli, "--dry-run").status == 2
    assert not (cli.folder / "page.html").exists()
    assert sync(cli).status == 2
    page = (cli.folder / "page.html").read_text()
    assert "1 of 2 cohorts needs attention" in page
    configure(cli, {"a": cohort("a.txt")}, report={"html": "no-such-folder/page.html"})
    ended = sync(cli)
    assert ended.status == 0
    assert "the report was not written" in ended.log


def test_people_are_notified_before_old_state_is_deleted(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.write("a.txt")
    told = []

    async def prune(*_: object, **__: object) -> None:
        told.append((cli.folder / "sync.prom").exists() and (cli.folder / "page.html").exists())

    monkeypatch.setattr(follow_up, "prune", prune)
    page, metrics = {"html": "page.html"}, {"textfile": "sync.prom"}
    configure(cli, {"a": cohort("a.txt")}, report=page, metrics=metrics)
    assert sync(cli).status == 0
    assert told == [True]


def test_a_partial_cohort_stays_partial_until_its_export_changes(
    cli: CommandLine, api: Emulator
) -> None:
    cli.write("a.txt", 50)
    with (cli.folder / "a.txt").open("ab") as export:
        export.write(b"no-utf-8-\xff\n")
    (cli.folder / "done").mkdir()
    configure(cli, {"a": cohort("a.txt", mode="add", marker="done/a")})
    first, second = sync(cli), sync(cli)
    assert (first.status, second.status) == (1, 1)
    assert statuses(second) == {"a": ("up_to_date", 1)}
    assert "1 row invalid" in by_key(second)["a"]["reason"]
    assert not (cli.folder / "done" / "a").exists()
    assert set(statuses(sync(cli, "--failed"))) == {"a"}
    assert api.received() == 1


@pytest.mark.parametrize("command", ["reconcile", "adopt"])
def test_a_snapshot_that_a_command_has_replaced_is_mirrored_again(
    cli: CommandLine, api: Emulator, command: str
) -> None:
    wanted = cli.write("a.txt", 300)
    (cli.folder / "real.txt").write_text("\n".join([*sorted(wanted)[:250], "someone-else"]) + "\n")
    configure(
        cli, {"a": cohort("a.txt")}, mirror={"settle_seconds": 0.0}, guards={"max_additions": 1.0}
    )
    assert sync(cli).status == 0
    replaced = cli.run("snapshot", command, "real.txt", "--cohort-id", "a")
    assert replaced.status == 0, replaced.stderr
    again = sync(cli)
    assert statuses(again) == {"a": ("finished", 0)}
    assert api.members("a") == wanted


def test_a_damaged_ledger_stops_only_its_own_workspace(cli: CommandLine) -> None:
    two_workspaces(cli)
    config = (cli.folder / "config.toml").read_text()
    us = config.index("[workspaces.us]")
    other = config[us:].replace(f'"{WORKSPACE}"', '"OTHER"', 1)
    (cli.folder / "config.toml").write_text(config[:us] + other)
    (cli.folder / "us.key").write_text(API_KEY)
    (cli.folder / "us.key").chmod(0o600)
    assert statuses(sync(cli)) == {"a": ("finished", 0), "b": ("refused", 3)}
    [damaged] = [path for path in cli.ledger_files() if "OTHER" in str(path)]
    for path in damaged.parent.glob("ledger.sqlite*"):
        path.write_bytes(b"no ledger" * 1000)
    ended = sync(cli)
    assert statuses(ended) == {"a": ("up_to_date", 0), "b": ("failed", 2)}
    assert "ledger" in by_key(ended)["b"]["reason"]
