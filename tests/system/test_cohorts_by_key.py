"""Commands on a configured cohort, named by its key: its table says what no option does."""

import re
from pathlib import Path

import pytest
from clean_room import API_KEY, WORKSPACE
from emulated_api import Emulator
from nightly import CommandLine

TWO_WORKSPACES = """
[workspaces.eu]
id = "{id}"
endpoint = "{url}"
partner = "eu"
[workspaces.us]
id = "{id}"
endpoint = "{url}"
partner = "us"
[limits]
per_seconds = 2.0
[mirror]
settle_seconds = 0.0
[cohorts.vip]
id = "vip-2026"
name = "VIP customers"
workspace = "us"
source = "exports/vip-*.csv"
pick = "newest"
column = "user_id"
[cohorts.vip.guards]
expected_size = [1, 50]
[cohorts.vip.exclude]
source = "suppressed.txt"
[cohorts.lapsed]
name = "Lapsed customers"
workspace = "eu"
source = "exports/lapsed.csv"
column = "user_id"
mode = "add"
on_changed = "restart"
"""


@pytest.fixture
def two(cli: CommandLine, api: Emulator) -> CommandLine:
    """Two workspaces, whose cohorts name theirs, and the exports of the cohorts."""
    text = TWO_WORKSPACES.format(id=WORKSPACE, url=api.url)
    (cli.folder / "config.toml").write_text(text, encoding="utf-8")
    (cli.folder / "suppressed.txt").write_text("u3\n", encoding="utf-8")
    cli.variables |= {"MOENGAGE_API_KEY_EU": API_KEY, "MOENGAGE_API_KEY_US": API_KEY}
    write(cli.folder / "exports" / "vip-1.csv", 90)
    write(cli.folder / "exports" / "vip-2.csv", 10)
    write(cli.folder / "exports" / "lapsed.csv", 5)
    return cli


def write(path: Path, uids: int, column: str = "user_id") -> None:
    path.parent.mkdir(exist_ok=True)
    rows = "".join(f"u{number},x\n" for number in range(uids))
    path.write_text(f"{column},other\n{rows}", encoding="utf-8")


def uids(count: int) -> set[str]:
    return {f"u{number}" for number in range(count)}


def test_a_mirror_takes_all_from_the_table(two: CommandLine, api: Emulator) -> None:
    ended = two.run("mirror", "--cohort", "vip", "--json")
    assert (ended.status, ended.document["partner"]) == (0, "us")
    assert (ended.document["cohort_id"], ended.document["cohort_name"]) == (
        "vip-2026",
        "VIP customers",
    )
    assert api.members("vip-2026", "?partner=us") == uids(10) - {"u3"}


def test_the_guards_of_the_table_hold_and_are_lifted_as_any(
    two: CommandLine, api: Emulator
) -> None:
    write(two.folder / "exports" / "vip-3.csv", 60)
    for command in ("plan", "mirror"):
        blocked = two.run(command, "--cohort", "vip", "--json")
        assert blocked.status == 4, blocked.stderr
        assert "size" in blocked.document["reason"]
    lift = ("--allow", "size=60", "--reason", "a campaign")
    assert two.run("mirror", "--cohort", "vip", *lift).status == 0
    assert api.members("vip-2026", "?partner=us") == uids(60) - {"u3"}


def test_options_win_over_the_table(two: CommandLine, api: Emulator) -> None:
    write(two.folder / "other.csv", 20, column="id")
    options = ("--cohort", "vip", "--column", "id")
    assert two.run("mirror", "other.csv", *options).status == 0
    # The exclusion list of the table is not forgotten.
    assert api.members("vip-2026", "?partner=us") == uids(20) - {"u3"}
    assert two.run("mirror", *options).status == 2  # The configured export has no such column.
    removed = two.run("push", "--cohort", "vip", "--action", "remove", "--record", "--json")
    assert removed.status == 0, removed.stderr  # What is not added may well be removed.
    assert removed.document["uids"]["accepted"] == 10


def test_a_push_takes_the_mode_of_the_table_and_whether_it_begins_anew(
    two: CommandLine, api: Emulator
) -> None:
    assert two.run("push", "--cohort", "lapsed", "--dry-run").status == 0
    assert two.run("push", "--cohort", "lapsed").status == 0
    assert api.members("lapsed", "?partner=eu") == uids(5)
    assert two.run("push", "--cohort", "lapsed", "--action", "remove").status == 0
    assert api.members("lapsed", "?partner=eu") == set()


def test_what_is_known_of_a_cohort_is_found_by_its_key(two: CommandLine) -> None:
    assert two.run("mirror", "--cohort", "vip").status == 0
    assert "in cohort vip-2026" in two.run("why", "u1", "--cohort", "vip").stdout
    write(two.folder / "exports" / "vip-3.csv", 12)
    assert two.run("mirror", "--cohort", "vip").status == 0
    listed = two.run("snapshot", "list", "--cohort", "vip")
    assert re.findall(r"^ *(\d+)  ", listed.stdout, re.MULTILINE) == ["2", "1"]
    assert two.run("snapshot", "verify", "--cohort", "vip").status == 0
    back = two.run("rollback", "--cohort", "vip", "--to", "1", "--json")
    assert (back.status, back.document["remove"]["accepted"]) == (0, 2), back.stderr


def test_the_guards_of_the_table_judge_a_list_of_real_members(two: CommandLine) -> None:
    assert two.run("mirror", "--cohort", "vip").status == 0
    options = ("--cohort", "vip", "--column", "user_id")
    refused = two.run("snapshot", "reconcile", "exports/vip-1.csv", *options)
    assert refused.status == 4
    assert "size" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mirror", "--cohort", "vpi"), "no cohort 'vpi' is configured"),
        (("mirror", "--cohort", "lapsed"), 'has mode = "add": it is not mirrored'),
        (("push", "--cohort", "vip"), 'has mode = "mirror": a push to it needs an --action'),
        (("push", "--cohort", "lapsed", "--workspace", "us"), "is of workspace eu, not us"),
        (("mirror", "--cohort", "vip", "--exclude", "x"), "--exclude would replace it"),
        (("mirror", "x", "--cohort-id", "c", "--cohort-name", "C"), "several workspaces: eu, us"),
        (("why", "u1", "--cohort", "vpi"), "no cohort 'vpi' is configured"),
        (("snapshot", "list", "--cohort", "vpi"), "no cohort 'vpi' is configured"),
        (
            ("rollback", "--cohort", "vip", "--to", "1", "--cohort-name", "C"),
            "--cohort and --cohort-name exclude each other",
        ),
    ],
)
def test_a_cohort_that_is_named_wrongly_is_one_error(
    two: CommandLine, api: Emulator, arguments: tuple[str, ...], said: str
) -> None:
    ended = two.run(*arguments)
    assert ended.status == 2
    [record] = ended.records
    assert said in record["text"]
    assert record["hint"]
    assert api.received() == 0


def test_the_near_key_is_named(two: CommandLine) -> None:
    [record] = two.run("mirror", "--cohort", "lasped").records
    assert record["hint"].startswith("did you mean 'lapsed'?")


def test_check_looks_at_each_workspace_and_export(two: CommandLine) -> None:
    (two.folder / "exports" / "lapsed.csv").unlink()
    del two.variables["MOENGAGE_API_KEY_EU"]
    ended = two.run("check", "--json")
    found = [
        (each["workspace"], each["cohort"], each["name"], each["status"])
        for each in ended.document["findings"]
        if each["name"] in {"credentials", "export"}
    ]
    assert found == [
        ("eu", None, "credentials", "failed"),
        ("us", None, "credentials", "ok"),
        (None, "vip", "export", "ok"),
        (None, "lapsed", "export", "note"),
    ]
    assert ended.status == 2
    only = two.run("check", "--workspace", "us", "--json")
    assert only.status == 0  # A missing export is no failure.
    assert {each["cohort"] for each in only.document["findings"]} == {None, "vip"}
    (two.folder / "suppressed.txt").unlink()
    shown = two.run("check", "--workspace", "us").words
    assert "note export vip: exclusion list: " in shown
