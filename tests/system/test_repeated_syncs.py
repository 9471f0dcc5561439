"""What `report` and `status` show of a night in which cohorts were synced more than once."""

from collections.abc import Mapping
from typing import Any

from emulated_api import Emulator
from nightly import CommandLine

COHORTS = {
    "vip": {"name": "VIP customers", "source": "vip.txt", "priority": 1},
    "late": {"name": "Late", "source": "late-*.txt", "mode": "add"},
    "lapsed": {"name": "Lapsed", "source": "lapsed.txt"},
}


def test_a_later_sync_hides_nothing_of_the_night(cli: CommandLine, api: Emulator) -> None:
    del api
    cli.configure(
        mirror={"settle_seconds": 0.0},
        guards={"same_shape": False, "small_cohort": 5},
        **{f"cohorts.{key}": table for key, table in COHORTS.items()},
    )
    cli.write("vip.txt", 4)
    cli.write("lapsed.txt", 40)
    assert cli.run("sync", "vip", "lapsed", "--max-requests", "1").status == 75
    assert cli.run("sync").status == 2  # There is no export of `late`.
    cli.write("late-1.txt", 7)
    cli.write("lapsed.txt", 10)
    assert cli.run("sync").status == 4
    lift = "cohortsync sync lapsed --allow lapsed:removals=30 --reason"
    guarded = cli.run("status", on_terminal=True).stdout
    assert f"    `{lift}" in guarded
    shown = cli.run("report", on_terminal=True).stdout
    assert f"    `{lift}" in shown
    assert "✗ 1 of 3 cohorts needs attention; 2 are done after a failed attempt." in shown
    assert "✗ Lapsed (NIGHTLY): stopped by a guard, 40 added, 10 unchanged, 30 not sent" in shown
    assert "○ nothing was sent" in shown
    assert cli.run(*lift.split()[1:], "it is right").status == 0
    assert cli.run("sync").status == 0  # It finds nothing to do.
    document = cli.run("report", "--json").document
    assert document["verdict"] == "All 3 cohorts are done, 3 of them after a failed attempt."
    found = {each["cohort"]: each for each in document["cohorts"]}
    assert {key: _figures(each) for key, each in found.items()} == {
        "vip": ("up_to_date", 4, 0, ["incomplete"]),
        "late": ("up_to_date", 7, 0, ["missing"]),
        "lapsed": ("up_to_date", 40, 30, ["incomplete", "guarded"]),
    }
    assert (document["changes"]["added"], document["changes"]["removed"]) == (51, 30)
    lines = cli.run("report", on_terminal=True).stdout.splitlines()
    assert any("before: " in line and ", stopped by a guard: " in line for line in lines)
    assert cli.run("report", "--html", "page.html").status == 0
    page = (cli.folder / "page.html").read_text(encoding="utf-8")
    assert "Failed attempts before the last one" in page
    assert "<span>○ nothing was sent</span>" in page


def _figures(cohort: Mapping[str, Any]) -> tuple[str, int, int, list[str]]:
    changes = cohort["changes"]
    attempts = [each["status"] for each in cohort["failed_attempts"]]
    return cohort["status"], changes["added"], changes["removed"], attempts
