"""`cohortsync status`: what runs, how each cohort stands, and whether one is overdue."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine

from engine.ledger.locks import LOCK_NAME, cohort_at_once, sole_writer_at_once
from engine.model.cohort import CohortKey

COHORTS = """
[cohorts.vip]
name = "VIP customers"
source = "vip.txt"
expect_every = "24h"
[cohorts.lapsed]
name = "Lapsed customers"
source = "lapsed.txt"
mode = "add"
"""
SECOND_PROCESS = """
INSERT INTO synced_cohort SELECT 'later', cohort, partner, cohort_id, started_utc_ns + 1000, date,
  finished_utc_ns - 1000, 'failed', 75, 'another process holds the cohort', NULL, NULL
FROM synced_cohort WHERE cohort = 'vip'
"""
"""A sync that began after the one before, and ended first, because the other held the cohort."""
HOUR_NS = 3600 * 1_000_000_000


@pytest.fixture
def cohorts(cli: CommandLine, api: Emulator) -> CommandLine:
    del api
    cli.configure(mirror={"settle_seconds": 0.0})
    with (cli.folder / "config.toml").open("a", encoding="utf-8") as config:
        config.write(COHORTS)
    cli.write("vip.txt", 20)
    cli.write("lapsed.txt", 5)
    return cli


def age_by(cli: CommandLine, hours: int) -> None:
    """Let all runs and syncs have ended earlier."""
    for table in ("run", "synced_cohort"):
        cli.change(f"UPDATE {table} SET finished_utc_ns = finished_utc_ns - {hours * HOUR_NS}")


def test_a_cohort_is_overdue_until_it_succeeds_and_again_after_a_while(
    cohorts: CommandLine,
) -> None:
    before = cohorts.run("status", "--json")
    assert (before.status, before.document["reason"]) == (1, "overdue: vip")
    assert [record["status"] for record in before.records] == ["overdue"]
    assert before.document["cohorts"][1]["next_command"] == "cohortsync sync lapsed"
    assert "next: `cohortsync sync --dry-run` shows" in cohorts.run("status").stdout
    assert cohorts.run("sync").status == 0
    done = cohorts.run("status", "--json")
    assert (done.status, done.document["reason"], done.document["running"]) == (0, None, [])
    vip, lapsed = done.document["cohorts"]
    assert (vip["cohort"], vip["members"], vip["status"], vip["changes"]["added"]) == (
        *("vip", 20, "finished"),
        20,
    )
    assert (lapsed["members"], lapsed["due_at"], lapsed["mode"]) == (None, None, "add")
    assert vip["due_at"] > vip["last_success_at"]
    assert done.document["state_bytes"]["total"] > 0
    cohorts.change(SECOND_PROCESS)
    assert "✓ vip     done, 20 added" in cohorts.run("status").stdout
    assert cohorts.run("sync", "--failed", "--json").document["cohorts"] == []
    age_by(cohorts, 23)
    assert cohorts.run("status").status == 0
    age_by(cohorts, 2)
    late = cohorts.run("status")
    assert late.status == 1
    assert "    overdue for 1 h" in late.stdout
    assert cohorts.run("sync").status == 0  # It finds nothing to send, and that is a success.
    assert cohorts.run("status").status == 0


def test_a_cohort_that_is_not_enabled_is_not_overdue(cohorts: CommandLine) -> None:
    path = cohorts.folder / "config.toml"
    text = path.read_text().replace('expect_every = "24h"', 'expect_every = "24h"\nenabled = false')
    path.write_text(text)
    assert cohorts.run("status").status == 0


def test_what_needs_attention_is_told_with_the_command_that_leads_on(
    cohorts: CommandLine,
) -> None:
    (cohorts.folder / "lapsed.txt").unlink()
    assert cohorts.run("sync").status == 2
    shown = cohorts.run("status", on_terminal=True)
    assert "✓ vip     done, 20 added" in shown.stdout
    assert "✗ lapsed  no export" in shown.stdout
    assert "next: `cohortsync sync lapsed`" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    document = cohorts.run("status", "--json").document
    assert document["cohorts"][1]["next_command"] == "cohortsync sync lapsed"
    # A run by hand says more than an earlier sync.
    cohorts.write("lapsed.txt", 6)
    assert cohorts.run("push", "--cohort", "lapsed").status == 0
    assert "✓ lapsed  done, 6 added" in cohorts.run("status").stdout


def test_cohorts_without_a_table_are_shown_if_there_are_no_others(cli: CommandLine) -> None:
    cli.write("export.txt", 7)
    assert cli.push("export.txt").status == 0
    [found] = cli.run("status", "--json").document["cohorts"]
    assert (found["cohort"], found["cohort_name"], found["exit_status"]) == (COHORT, "Night", 0)
    with (cli.folder / "config.toml").open("a", encoding="utf-8") as config:
        config.write('[cohorts.other]\nname = "Other"\nsource = "x"\n')
    shown = cli.run("status").stdout
    assert "1 cohort not configured: `cohortsync runs` lists what ran" in shown
    assert COHORT not in shown


def test_what_runs_now_is_told_with_what_it_waits_for(cli: CommandLine) -> None:
    cli.write("export.txt", 7)
    assert cli.run("mirror", "export.txt", *TARGET).status == 0
    cli.change("UPDATE run SET status = 'running', finished_utc_ns = NULL, exit_status = NULL")
    [ledger] = cli.ledger_files()
    folder, key = ledger.parent, CohortKey("cohortsync", COHORT)
    with cohort_at_once(folder, key):
        assert f"{COHORT} waits to send" not in cli.run("status").stdout  # It has sent already.
        with sole_writer_at_once(folder):
            [found] = cli.run("status", "--json").document["running"]
            assert (found["state"], found["planned"], found["accepted"]) == ("sends", 7, 7)
            assert found["process"].startswith(f"process {os.getpid()} on ")
        with another_sender(folder):
            shown = cli.run("status").stdout
            assert f"{COHORT} waits for process 1 on elsewhere since now, which sends" in shown
        cli.change("DELETE FROM plan")
        assert f"{COHORT} reads its export and plans" in cli.run("status").stdout
    died = cli.run("status").stdout
    assert "nothing runs now" in died
    assert "the process died" in died


@contextmanager
def another_sender(folder: Path) -> Iterator[None]:
    """Hold the workspace as a process of another machine."""
    with sole_writer_at_once(folder):
        holder = {"pid": 1, "host": "elsewhere", "since": "now"}
        (folder / LOCK_NAME).write_text(json.dumps(holder), encoding="utf-8")
        yield
