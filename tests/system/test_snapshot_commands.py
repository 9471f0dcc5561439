"""The commands about what is known of a mirrored cohort, as they are typed."""

import json
import random
from typing import Any

import pytest
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine, Ended

COHORT_ID = ("--cohort-id", COHORT)


@pytest.fixture
def mirrored(cli: CommandLine, api: Emulator) -> CommandLine:
    """Mirror a cohort twice; it settles at once."""
    cli.configure(mirror={"settle_seconds": 0.0}, guards={"max_removals": 1.0})
    cli.write("first.txt")
    cli.write("second.txt", 200)
    for export in ("first.txt", "second.txt"):
        mirrored = cli.run(
            "mirror", export, *TARGET, "--allow", "shape", "--reason", "another list", "--json"
        )
        assert mirrored.status == 0, mirrored.stderr
    assert len(api.members()) == 200
    return cli


def ask(cli: CommandLine, *arguments: str) -> Any:  # noqa: ANN401 - what the command prints
    ended = cli.run(*arguments, *COHORT_ID, "--json")
    assert ended.status == 0, ended.stderr
    return json.loads(ended.stdout)


def test_generations_are_listed_and_verified(mirrored: CommandLine) -> None:
    listed = ask(mirrored, "snapshot", "list")
    assert [(row["generation"], row["members"]) for row in listed] == [(2, 200), (1, 300)]
    whole = [row | {"verdict": "whole"} for row in listed]
    assert ask(mirrored, "snapshot", "verify") == whole
    output = mirrored.run("snapshot", "list", *COHORT_ID)
    assert output.stdout.splitlines()[0].startswith("generation")
    for wrong in (("--shadow",), ("--partner",)):
        assert mirrored.run("snapshot", "list", *COHORT_ID, *wrong).status == 2
    assert mirrored.run("snapshot", "list", "--cohort-id", "knight").status == 2
    [oldest] = mirrored.folder.glob("state/*/*/snapshots/*/*/000001.parquet")
    oldest.write_bytes(oldest.read_bytes()[:-1])
    broken = mirrored.run("snapshot", "verify", *COHORT_ID, "--json")
    assert broken.status == 2
    verdicts = [row["verdict"] for row in json.loads(broken.stdout)]
    assert verdicts[0] == "whole"
    assert "corrupt" in verdicts[1]
    assert "error: changed since it was made: generation 1" in broken.stderr


def test_a_snapshot_is_exported_imported_and_compared(mirrored: CommandLine, api: Emulator) -> None:
    file = str(mirrored.folder / "carried.parquet")
    assert mirrored.run("snapshot", "export", file, *COHORT_ID).status == 0
    assert mirrored.run("snapshot", "export", file, *COHORT_ID).status == 2
    [made] = ask(mirrored, "snapshot", "import", file)
    assert (made["generation"], made["members"], made["origin"]) == (3, 200, "import")
    # It also holds whom the API may still be removing; the members alone are an export.
    members = str(mirrored.folder / "members.parquet")
    assert mirrored.run("snapshot", "export", members, "--members", *COHORT_ID).status == 0
    found = ask(mirrored, "snapshot", "compare", members)
    assert (found["in_both"], found["only_in_the_list"]) == (200, 0)
    assert mirrored.run("snapshot", "compare", "second.txt", *COHORT_ID).status == 0
    before = api.received()
    again = mirrored.run("mirror", "second.txt", *TARGET, "--json")
    assert again.status == 0, again.stderr
    assert api.received() == before


def test_lists_are_adopted_and_reconciled(mirrored: CommandLine, api: Emulator) -> None:
    [made] = ask(mirrored, "snapshot", "adopt", "first.txt")
    assert (made["members"], made["unknown"]) == (200, 300)
    [made] = ask(mirrored, "snapshot", "reconcile", "second.txt")
    assert (made["members"], made["unknown"]) == (200, 0)
    before = api.received()
    assert mirrored.run("mirror", "second.txt", *TARGET, "--json").status == 0
    assert api.received() == before
    assert mirrored.run("snapshot", "adopt", "no-such.txt", *COHORT_ID).status == 2


def test_a_short_list_reconciles_nothing_unless_it_is_allowed(mirrored: CommandLine) -> None:
    mirrored.configure(
        mirror={"settle_seconds": 0.0}, guards={"max_removals": 0.1, "small_cohort": 1}
    )
    mirrored.write("short.txt", 20)
    reconcile = ("snapshot", "reconcile", "short.txt", *COHORT_ID, "--json")
    blocked = mirrored.run(*reconcile)
    assert blocked.status == 4
    assert "removals: 200 removals of a cohort of 200" in blocked.document["reason"]
    assert blocked.document["hint"].endswith('--allow removals=200 --reason "why"')
    why = ("--reason", "they were counted")
    assert mirrored.run(*reconcile, "--allow", "removals=199", *why).status == 4
    assert mirrored.run(*reconcile, "--allow", "removal=200", *why).status == 2
    for reason in ((), ("--reason", ""), ("--reason", " ")):
        refused = mirrored.run(*reconcile, "--allow", "removals=200", *reason)
        assert refused.status == 2
        assert "--reason" in refused.document["reason"]
    [made] = ask(mirrored, "snapshot", "reconcile", "short.txt", "--allow", "removals=200", *why)
    assert made["members"] == 20
    [latest, *earlier] = ask(mirrored, "snapshot", "list")
    [lifted] = latest["lifted"]
    assert lifted.keys() == {"guard", "bound", "user", "host", "reason"}
    assert (lifted["guard"], lifted["bound"]) == ("removals", 200)
    assert lifted["reason"] == "they were counted"
    assert all(each["lifted"] == [] for each in earlier)
    output = mirrored.run("snapshot", "list", *COHORT_ID)
    assert "lifted" not in output.stdout.splitlines()[0]


def test_a_snapshot_of_another_target_is_imported_only_when_that_is_meant(
    mirrored: CommandLine,
) -> None:
    file = str(mirrored.folder / "carried.parquet")
    assert mirrored.run("snapshot", "export", file, *COHORT_ID).status == 0
    elsewhere = ("--endpoint", "http://127.0.0.1:9")
    refused = mirrored.run("snapshot", "import", file, *COHORT_ID, *elsewhere)
    assert refused.status == 2
    assert f"is for {mirrored.url}" in refused.stderr
    [made] = ask(mirrored, "snapshot", "import", file, *elsewhere, "--from-elsewhere")
    assert made["members"] == 200


def test_a_rollback_undoes_a_run(mirrored: CommandLine, api: Emulator) -> None:
    planned = mirrored.run(
        "rollback",
        *COHORT_ID,
        "--to",
        "1",
        "--allow",
        "shape",
        "--reason",
        "r",
        "--dry-run",
    )
    assert (planned.status, len(api.members())) == (0, 200), planned.stderr
    assert "guards    " in planned.stdout
    rolled = mirrored.run(
        *("rollback", *COHORT_ID, "--to", "1", "--allow", "shape", "--reason", "a bad export"),
        "--json",
    )
    assert rolled.status == 0, rolled.stderr
    assert {uid.partition("-")[0] for uid in api.members()} == {"first.txt"}
    assert rolled.document["cohort_name"] == "Night"
    assert mirrored.run("rollback", *COHORT_ID, "--to", "9").status == 2


def test_a_uid_is_asked_after(mirrored: CommandLine) -> None:
    answer = ask(mirrored, "why", "second.txt-uid-000007")
    assert answer["membership"] == "in"
    output = mirrored.run("why", "second.txt-uid-000007", *COHORT_ID)
    assert "in cohort night, by generation 2" in output.stdout
    assert f"run {answer['since']['run']}" in output.stdout
    assert "had it" in output.stdout
    assert ask(mirrored, "why", "first.txt-uid-000007")["membership"] == "out"
    assert mirrored.run("why", "x", *COHORT_ID, "--state", "elsewhere").status == 2


def test_a_shadow_sends_nothing_and_needs_no_key(cli: CommandLine, api: Emulator) -> None:
    cli.configure()
    cli.write("first.txt")
    before = api.received()
    ended = run_without_key(cli, "mirror", "first.txt", *TARGET, "--shadow", "--json")
    assert ended.status == 0, ended.stderr
    assert ended.document["status"] == "shadow"
    assert ended.document["plan"]["add"] == 300
    assert api.received() == before
    assert [row["members"] for row in ask(cli, "snapshot", "list", "--shadow")] == [300]
    found = ask(cli, "snapshot", "compare", "first.txt", "--shadow")
    assert (found["in_both"], found["only_in_the_list"]) == (300, 0)
    both = cli.run("mirror", "first.txt", *TARGET, "--shadow", "--dry-run")
    assert both.status == 2


def run_without_key(cli: CommandLine, *arguments: str) -> Ended:
    cli.variables["MOENGAGE_API_KEY"] = ""
    try:
        return cli.run(*arguments)
    finally:
        del cli.variables["MOENGAGE_API_KEY"]


def test_a_push_to_a_mirrored_cohort_is_recorded(mirrored: CommandLine, api: Emulator) -> None:
    refused = mirrored.push("first.txt")
    assert refused.status == 2
    assert "--record" in refused.stderr
    recorded = mirrored.push("first.txt", "--record")
    assert recorded.status == 0, recorded.stderr
    assert len(api.members()) == 500
    assert ask(mirrored, "snapshot", "list")[0]["members"] == 500


def test_a_mirror_says_that_earlier_pushes_are_not_known(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror={"settle_seconds": 0.0})
    cli.write("first.txt")
    assert cli.push("first.txt").status == 0
    cli.write("second.txt", 200)
    output = cli.run("mirror", "second.txt", *TARGET)
    assert output.status == 0
    assert "snapshot adopt" in output.stderr
    assert len(api.members()) == 500


def test_a_mirror_is_shown_with_its_plan(mirrored: CommandLine) -> None:
    [latest, *_] = json.loads(mirrored.run("runs", "--json").stdout)
    shown = mirrored.run("show", latest["run"], "--json")
    plan = json.loads(shown.stdout)["plan"]
    assert (plan["add"], plan["remove"]) == (200, 300)
    assert len(plan["sample"]["add"]) == 5
    assert [each["guard"] for each in plan["allowed"]] == ["shape"]
    assert "guard     removals" in mirrored.run("show", latest["run"]).stdout


def test_the_full_disk_under_a_plan_is_reported(cli: CommandLine, api: Emulator) -> None:
    cli.configure(limits={"payload_bytes": 128_000})
    chance = random.Random(1)
    uids = {chance.randbytes(50).hex() for _ in range(50_000)}
    (cli.folder / "large.txt").write_text("".join(f"{uid}\n" for uid in uids))
    ended = cli.spawn("mirror", "large.txt", *TARGET, "--json", largest_file_kib=2_000)
    assert ended.status == 75, ended.stderr
    assert "disk is full" in ended.document["reason"], ended.stderr
    assert api.received() == 0
    assert cli.run("mirror", "large.txt", *TARGET, "--json").status == 0
    assert api.members() == uids
