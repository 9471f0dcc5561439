"""What is kept apart: cohorts, partners, actions, endpoints."""

from collections.abc import Callable

from emulated_api import COHORT, Emulator
from nightly import CommandLine


def test_uids_are_removed(cli: CommandLine, api: Emulator) -> None:
    planned = cli.write("export.txt")
    gone = cli.write("gone.txt", 7) | set(sorted(planned)[:20])
    (cli.folder / "gone.txt").write_text("\n".join(gone))
    assert cli.push("export.txt").status == 0
    ended = cli.push("gone.txt", "--action", "remove")
    assert ended.status == 0
    assert ended.document["action"] == "remove"
    assert api.members() == planned - gone


def test_name_and_description_are_sent(cli: CommandLine, api: Emulator) -> None:
    cli.write("export.txt", 3)
    description = 'Who "came" back, ∑ 🦄'
    assert cli.push("export.txt", "--cohort-description", description).status == 0
    [cohort] = api.report()["cohorts"]
    assert cohort["cohort_name"] == "Night"
    assert cohort["cohort_description"] == description


def test_without_a_description_none_is_sent(cli: CommandLine, api: Emulator) -> None:
    cli.write("export.txt", 3)
    cli.push("export.txt")
    [cohort] = api.report()["cohorts"]
    assert cohort["cohort_description"] is None


def test_cohorts_are_kept_apart(cli: CommandLine, api: Emulator) -> None:
    mine, theirs = cli.write("mine.txt", 40), cli.write("theirs.txt", 60)
    cli.push("mine.txt")
    cli.run("push", "theirs.txt", "--cohort-id", "theirs", "--cohort-name", "Night")
    assert api.members() == mine
    assert api.members("theirs") == theirs


def test_partners_are_kept_apart(cli: CommandLine, api: Emulator) -> None:
    mine, theirs = cli.write("mine.txt", 40), cli.write("theirs.txt", 60)
    cli.push("mine.txt")
    cli.configure(workspace={"partner": "another"})
    assert cli.push("theirs.txt").document["partner"] == "another"
    assert api.members(COHORT, "?partner=cohortsync") == mine
    assert api.members(COHORT, "?partner=another") == theirs


def test_what_is_known_is_kept_by_endpoint(
    cli: CommandLine, api: Emulator, emulate: Callable[..., Emulator]
) -> None:
    planned = cli.write("export.txt", 40)
    first = cli.push("export.txt").document
    other = emulate()
    second = cli.push("export.txt", "--endpoint", other.url).document
    assert api.members() == other.members() == planned
    assert first["target"] != second["target"]
    assert len(cli.ledger_files()) == 2
    listed = cli.run("runs").stdout
    assert first["run"] in listed
    assert second["run"] in listed


def test_uids_that_nobody_has_are_accepted_all_the_same(
    cli: CommandLine, emulate: Callable[..., Emulator]
) -> None:
    planned = cli.write("export.txt", 60)
    users = set(sorted(planned)[:25])
    (cli.folder / "users").write_text("\n".join([*users, "somebody-else"]))
    api = emulate("--known-users", str(cli.folder / "users"))
    cli.url = api.url
    cli.configure()
    assert cli.push("export.txt").document["uids"]["accepted"] == len(planned)
    assert api.members() == users
