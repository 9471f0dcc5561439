"""What is kept apart: cohorts, partners, actions, endpoints."""

from collections.abc import Callable

from emulated_api import COHORT, Emulator
from nightly import Night


def test_uids_are_removed(night: Night, api: Emulator) -> None:
    planned = night.write("export.txt")
    gone = night.write("gone.txt", 7) | set(sorted(planned)[:20])
    (night.folder / "gone.txt").write_text("\n".join(gone))
    assert night.push("export.txt").status == 0
    ended = night.push("gone.txt", "--action", "remove")
    assert ended.status == 0
    assert ended.document["action"] == "remove"
    assert api.members() == planned - gone


def test_name_and_description_are_sent(night: Night, api: Emulator) -> None:
    night.write("export.txt", 3)
    description = 'Who "came" back, ∑ 🦄'
    assert night.push("export.txt", "--cohort-description", description).status == 0
    [cohort] = api.report()["cohorts"]
    assert cohort["cohort_name"] == "Night"
    assert cohort["cohort_description"] == description


def test_without_a_description_none_is_sent(night: Night, api: Emulator) -> None:
    night.write("export.txt", 3)
    night.push("export.txt")
    [cohort] = api.report()["cohorts"]
    assert cohort["cohort_description"] is None


def test_cohorts_are_kept_apart(night: Night, api: Emulator) -> None:
    mine, theirs = night.write("mine.txt", 40), night.write("theirs.txt", 60)
    night.push("mine.txt")
    night.run("push", "theirs.txt", "--cohort-id", "theirs", "--cohort-name", "Night")
    assert api.members() == mine
    assert api.members("theirs") == theirs


def test_partners_are_kept_apart(night: Night, api: Emulator) -> None:
    mine, theirs = night.write("mine.txt", 40), night.write("theirs.txt", 60)
    night.push("mine.txt")
    night.configure(workspace={"partner": "another"})
    assert night.push("theirs.txt").document["partner"] == "another"
    assert api.members(COHORT, "?partner=cohortsync") == mine
    assert api.members(COHORT, "?partner=another") == theirs


def test_what_is_known_is_kept_by_endpoint(
    night: Night, api: Emulator, emulate: Callable[..., Emulator]
) -> None:
    planned = night.write("export.txt", 40)
    first = night.push("export.txt").document
    other = emulate()
    second = night.push("export.txt", "--endpoint", other.url).document
    assert api.members() == other.members() == planned
    assert first["target"] != second["target"]
    assert len(night.ledger_files()) == 2
    listed = night.run("runs").stdout
    assert first["run"] in listed
    assert second["run"] in listed


def test_uids_that_nobody_has_are_accepted_all_the_same(
    night: Night, emulate: Callable[..., Emulator]
) -> None:
    planned = night.write("export.txt", 60)
    users = set(sorted(planned)[:25])
    (night.folder / "users").write_text("\n".join([*users, "somebody-else"]))
    api = emulate("--known-users", str(night.folder / "users"))
    night.url = api.url
    night.configure()
    assert night.push("export.txt").document["uids"]["accepted"] == len(planned)
    assert api.members() == users
