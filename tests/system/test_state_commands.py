"""`abandon`, `plans`, `runs` with filters, names of runs, `prune`, `backup` and `restore`."""

import json
import re
import shutil
from pathlib import Path

import pytest
from clean_room import until
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine
from past_runs import LIFT, PUSHED, live, target

from engine.ledger.locks import sole_writer_at_once

SLOW = {"requests": 10, "per_seconds": 2.0}


@pytest.fixture
def killed(cli: CommandLine, api: Emulator) -> str:
    """Kill a push under way, and return its name."""
    cli.write("export.txt", 1_000)
    cli.configure(limits=SLOW)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 2, "two requests were sent")
    running.kill()
    cli.configure()
    return str(cli.query("SELECT name FROM run")[0][0])


def test_an_abandoned_run_is_not_resumed_and_keeps_its_accounts(
    cli: CommandLine, api: Emulator, killed: str
) -> None:
    cli.run("runs")
    closed = cli.run("abandon", "latest", "--json")
    assert closed.status == 0, closed.stderr
    assert (closed.document["run"], closed.document["status"]) == (killed, "abandoned")
    shown = json.loads(cli.run("show", killed, "--json").stdout)
    assert (shown["status"], shown["exit_status"]) == ("abandoned", None)
    assert shown["uids"]["unconfirmed"] == closed.document["unconfirmed"]
    assert shown["uids"]["pending"] == closed.document["pending"]
    received = api.received()
    for resume in (("resume",), ("resume", "--all")):
        nothing = cli.run(*resume, "--json")
        assert (nothing.status, nothing.document["status"]) == (0, "nothing_to_resume")
    refused = cli.run("resume", killed)
    assert refused.status == 2
    assert "is abandoned: there is nothing to resume" in refused.stderr
    again = cli.run("abandon", killed)
    assert again.status == 2
    assert "is abandoned: there is nothing to abandon" in again.stderr
    assert api.received() == received
    # The command that it was begun with begins a run of its own.
    ended = cli.push("export.txt")
    assert ended.status == 0
    assert ended.document["run"] != killed


def test_a_run_that_a_process_works_on_is_not_abandoned(cli: CommandLine, api: Emulator) -> None:
    cli.write("export.txt", 1_000)
    cli.configure(limits=SLOW)
    cli.start_push("export.txt")
    until(lambda: api.received() >= 2, "two requests were sent")
    refused = cli.run("abandon", "latest", "--json")
    assert (refused.status, refused.document["status"]) == (75, "failed")
    assert "is in use by process" in refused.stderr


def test_resume_all_has_the_hint_of_the_worst_run(cli: CommandLine, killed: str) -> None:
    (cli.folder / "export.txt").unlink()
    one = cli.run("resume", killed, "--json").document
    every = cli.run("resume", "--all", "--json").document
    assert every["hint"] == one["hint"] is not None


def test_a_name_is_latest_or_the_beginning_of_one_name(cli: CommandLine) -> None:
    run = live(cli)
    names = [accounts["run"] for accounts in json.loads(cli.run("runs", "--json").stdout)]
    assert len(names) == 3
    assert json.loads(cli.run("show", "latest", "--json").stdout)["run"] == names[0]
    for command in (("show",), ("rejects",)):
        assert cli.run(*command, run[:-1]).output == cli.run(*command, run).output
    ambiguous = cli.run("show", names[0][:4])
    assert ambiguous.status == 2
    assert f"run {names[0][:4]} is ambiguous: {', '.join(sorted(names))} begin" in ambiguous.stderr
    assert "hint: give more" in ambiguous.stderr
    assert "error: no run " in cli.run("show", "").stderr
    for command in ("resume", "abandon"):
        refused = cli.run(command, run[:-1])
        assert (refused.status, f"run {run} is finished" in refused.stderr) == (2, True)


def test_an_ambiguous_name_lists_at_most_five(cli: CommandLine) -> None:
    live(cli)
    [(_, exports)] = cli.query("SELECT 1, exports FROM run LIMIT 1")
    columns = (
        "identity, endpoint, workspace, partner, cohort_id, cohort_name, action, reading, "
        "sizes, status, started_utc_ns"
    )
    for number in range(9):
        cli.change(
            f"INSERT INTO run (name, exports, {columns}) SELECT '19990101-000000-000{number}', "
            f"'{exports}', {columns} FROM run LIMIT 1"
        )
    error = cli.run("show", "1999").stderr
    assert len(re.findall(r"19990101-000000-000\d", error)) == 5
    assert " and 4 more begin with it" in error


def test_plans_are_listed_with_what_prevents_them(cli: CommandLine, api: Emulator) -> None:
    live(cli)
    cli.write("first.txt", 30)
    first = cli.run("plan", "first.txt", *target(COHORT), *LIFT)
    assert first.status == 0, first.stderr
    [plan] = json.loads(cli.run("plans", "--json").stdout)
    assert (plan["cohort_id"], plan["add"], plan["remove"]) == (COHORT, 30, 20)
    assert (plan["can_be_applied"], plan["problem"]) == (True, None)
    cli.variables["COLUMNS"] = "80"
    lines = cli.run("plans", on_terminal=True).stdout.splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in lines)
    received = api.received()
    assert cli.run("apply", plan["plan"][:-2], "--first", "5").status == 0
    assert api.received() > received
    [plan] = json.loads(cli.run("plans", "--json").stdout)
    assert (plan["status"], plan["can_be_applied"]) == ("canary", True)
    cli.write("second.txt", 20)
    mirrored = cli.run("mirror", "second.txt", *target(COHORT), *LIFT)
    assert mirrored.status == 0, mirrored.stderr
    [plan] = json.loads(cli.run("plans", "--json").stdout)
    assert plan["can_be_applied"] is False
    assert cli.run("apply", "latest").status == 2
    assert cli.run("abandon", plan["plan"]).status == 0
    assert cli.run("plans", "--json").stdout == "[]\n"
    assert "no plan latest here" in cli.run("apply", "latest").stderr


def test_runs_are_filtered(cli: CommandLine) -> None:
    run = live(cli)

    def listed(*filters: str) -> list[str]:
        return [
            accounts["run"] for accounts in json.loads(cli.run("runs", *filters, "--json").stdout)
        ]

    every = listed()
    assert listed("--cohort", PUSHED) == [run]
    assert listed("--status", "finished") == every
    assert listed("--status", "failed", "--status", "refused") == []
    assert listed("--since", "1h") == every
    assert listed("--since", "2999-01-01") == []
    cli.change(f"UPDATE run SET status = 'running' WHERE name = '{run}'")
    assert listed("--status", "incomplete") == [run]  # Its process has died.
    assert listed("--status", "running") == []
    wrong = cli.run("runs", "--since", "yesterday")
    assert wrong.status == 2
    assert "--since yesterday is no time" in wrong.stderr


def test_runs_fit_into_eighty_columns(cli: CommandLine) -> None:
    cli.configure(mirror={"settle_seconds": 0.0})
    cli.write("export.txt", 20)
    cohort = ("--cohort-id", "a-cohort-with-a-very-long-name-" * 3, "--cohort-name", "Long")
    assert cli.run("mirror", "export.txt", *cohort).status == 0
    cli.variables["COLUMNS"] = "80"
    lines = cli.run("runs", on_terminal=True).stdout.splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert "…" in lines[2]
    assert re.search(r" finished +0 +\d+\.\d s +20 +0 ", lines[2])


def test_a_backup_is_made_while_a_run_goes_on_and_is_whole(cli: CommandLine, api: Emulator) -> None:
    live(cli)
    wanted = cli.write("export.txt", 1_000)
    cli.configure(limits=SLOW, mirror={"settle_seconds": 0.0})
    running = cli.start("push", "export.txt", "--record", *target(COHORT))
    received = api.received()
    until(lambda: api.received() >= received + 2, "two requests were sent")
    made = cli.run("backup", "backup", "--json")
    assert made.status == 0, made.stderr
    assert running.process.poll() is None
    refused = cli.run("restore", "backup", "--json")
    assert (refused.status, refused.document["status"]) == (75, "failed")
    running.kill()
    cli.configure(limits={"requests": 10_000}, mirror={"settle_seconds": 0.0})
    manifest = json.loads((cli.folder / "backup" / "manifest.json").read_text())
    files = {each["path"] for each in manifest["files"]}
    there = {
        path.relative_to(cli.folder / "backup").as_posix()
        for path in (cli.folder / "backup").rglob("*")
        if path.is_file()
    }
    assert there == files | {"manifest.json"}
    assert made.document["files"] == len(files)
    restored = cli.run("restore", "backup", "--json")
    assert restored.status == 0, restored.stderr
    assert restored.document["cohorts"] == [COHORT]
    [abandoned] = restored.document["abandoned"]
    assert json.loads(cli.run("show", abandoned, "--json").stdout)["status"] == "abandoned"
    # Nothing is lost: what was replaced is aside, and the backup can be restored again.
    aside = Path(restored.document["set_aside"])
    assert list(aside.glob("*/*/ledger.sqlite"))
    assert cli.run("restore", "backup").status == 0
    lift = ("--allow", "restored", "--allow", "shape", "--reason", "nothing was sent since")
    ended = cli.run("mirror", "export.txt", *target(COHORT), *lift, "--json")
    assert ended.status == 0, ended.stderr
    assert api.members() == wanted


def test_a_sync_takes_no_export_for_completed_after_a_restore(
    cli: CommandLine, api: Emulator
) -> None:
    cohorts = {
        f"cohorts.{mode}": {"name": mode, "source": "export.txt", "mode": mode}
        for mode in ("mirror", "add")
    }
    cli.configure(mirror={"settle_seconds": 0.0}, **cohorts)
    wanted = cli.write("export.txt", 20)
    add = ("--cohort-id", "add", "--cohort-name", "add")

    def statuses() -> dict[str, str]:
        synced = cli.run("sync", "--json").document
        return {each["cohort"]: each["status"] for each in synced["cohorts"]}

    assert statuses() == {"mirror": "finished", "add": "finished"}
    assert cli.run("backup", "backup").status == 0
    assert statuses() == {"mirror": "up_to_date", "add": "up_to_date"}
    # Only what was restored is known: another push may have taken back what this one added.
    assert cli.run("push", "export.txt", "--action", "remove", *add).status == 0
    assert cli.run("restore", "backup").status == 0
    found = cli.run("status").stdout
    assert re.findall(r"(\w+) +no run since a backup of .* ago was restored", found) == [
        "mirror",
        "add",
    ]
    assert "never ran" not in found
    stands = json.loads(cli.run("status", "--json").stdout)["cohorts"]
    assert all(each["restored_from_backup_of"] and each["last_success_at"] for each in stands)
    assert [each["status"] for each in stands] == [None, None]
    assert statuses() == {"mirror": "guarded", "add": "finished"}
    assert "no run since" not in cli.run("status").stdout
    assert api.members("add") == wanted


def test_prune_restore_and_usage_need_no_choice_of_a_workspace(cli: CommandLine) -> None:
    live(cli)
    workspaces = {
        f"workspaces.{name}": {"id": f"WS-{name}", "endpoint": cli.url} for name in ("a", "b")
    }
    lines = [
        line
        for name, table in workspaces.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(table[key])}" for key in table))
    ]
    (cli.folder / "config.toml").write_text("\n".join(lines) + "\n")
    for command in (
        ("prune", "--dry-run"),
        ("prune",),
        ("backup", "backup"),
        ("restore", "backup"),
    ):
        ended = cli.run(*command)
        assert ended.status == 0, ended.stderr


def test_what_is_no_whole_backup_changes_nothing(cli: CommandLine) -> None:
    live(cli)
    assert cli.run("backup", "backup").status == 0
    before = sorted(path for path in (cli.folder / "state").rglob("*"))

    def refused(folder: str, message: str) -> None:
        ended = cli.run("restore", folder)
        assert ended.status == 2
        assert message in ended.stderr
        assert "hint: " in ended.stderr
        assert sorted(path for path in (cli.folder / "state").rglob("*")) == before

    refused("nowhere", "nowhere is no complete backup")
    shutil.copytree(cli.folder / "backup", cli.folder / "half")
    (cli.folder / "half" / "manifest.json").unlink()
    refused("half", "half is no complete backup")
    shutil.copytree(cli.folder / "backup", cli.folder / "harmed")
    [snapshot, *_] = (cli.folder / "harmed").rglob("snapshots/*/*/*.parquet")
    snapshot.unlink()
    refused("harmed", "is damaged: ")
    snapshot.write_bytes(b"PAR1")
    refused("harmed", "is damaged: ")
    manifest = cli.folder / "harmed" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("state/http", "state/../http"))
    refused("harmed", "its manifest names")
    assert "exists already" in cli.run("backup", "backup").stderr
    assert "lies in the state folder" in cli.run("backup", "state/backup").stderr


def test_a_restore_that_was_interrupted_lets_no_command_work(cli: CommandLine) -> None:
    live(cli)
    assert cli.run("backup", "backup").status == 0
    (cli.folder / "state" / "restore-unfinished").write_bytes(b"")
    shutil.rmtree(next((cli.folder / "state").glob("http*")))
    for command in (
        ("runs",),
        ("push", "first.txt", *TARGET),
        ("mirror", "first.txt", *TARGET, "--dry-run"),
        ("prune",),
        ("backup", "another"),
    ):
        ended = cli.run(*command)
        assert ended.status == 2, command
        assert "has not ended" in ended.stderr
    assert cli.run("restore", "backup").status == 0
    assert cli.run("runs").status == 0


def test_prune_says_what_it_did_and_what_it_would_do(cli: CommandLine) -> None:
    live(cli)
    cli.change("UPDATE run SET started_utc_ns = started_utc_ns - 200 * 86400000000000")
    dry = cli.run("prune", "--dry-run", "--json")
    assert (dry.status, dry.document["is_dry_run"]) == (0, True)
    assert "would delete 0 runs" in cli.run("prune", "--dry-run").stdout
    assert "deleted 0 runs" in cli.run("prune").stdout
    assert cli.run("prune", "--keep-days", "0").status == 2
    [path] = cli.ledger_files()
    with sole_writer_at_once(path.parent) as is_held:  # Another process sends meanwhile.
        assert is_held
        assert cli.run("prune").status == 0
