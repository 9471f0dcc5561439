"""One process a workspace and state folder at a time."""

import signal

import pytest
from clean_room import until
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine, Running


@pytest.fixture
def holder(cli: CommandLine, api: Emulator) -> Running:
    """Start a push that takes its time."""
    cli.configure(limits={"requests": 2, "per_seconds": 2.0})
    cli.write("export.txt", 2_000)
    cli.write("other.txt", 100)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 1, "it sends")
    return running


def test_the_second_names_the_holder_and_goes(cli: CommandLine, holder: Running) -> None:
    ended = cli.push("other.txt")
    assert ended.status == 75
    assert ended.document["status"] == "failed"
    assert f"process {holder.process.pid} " in ended.document["reason"]
    assert "--wait" in ended.document["hint"]


def test_the_second_waits_until_the_holder_is_gone(
    cli: CommandLine, api: Emulator, holder: Running
) -> None:
    cli.configure()
    waiting = cli.start("push", "other.txt", *TARGET, "--wait", "60", "--json")
    until(lambda: "waiting for process" in waiting.stderr, "it waits")
    holder.kill()
    ended = waiting.wait()
    assert ended.status == 0, ended.stderr
    assert f'text="waiting for process {holder.process.pid} on ' in ended.stderr
    assert ended.document["uids"]["accepted"] == 100
    assert len(api.members()) >= 100


def test_the_wait_is_bounded(cli: CommandLine, holder: Running) -> None:
    ended = cli.push("other.txt", "--wait", "0.3")
    assert ended.status == 75
    assert str(holder.process.pid) in ended.stderr
    assert "event=progress" not in ended.stderr


def test_a_signal_ends_the_wait(cli: CommandLine, holder: Running) -> None:
    waiting = cli.start("push", "other.txt", *TARGET, "--wait", "60", "--json")
    until(lambda: "waiting for process" in waiting.stderr, "it waits")
    waiting.process.send_signal(signal.SIGTERM)
    ended = waiting.wait()
    assert ended.status == 75
    assert str(holder.process.pid) in ended.document["reason"]


def test_another_state_folder_is_free_and_each_is_informed_of_the_other(
    cli: CommandLine, holder: Running
) -> None:
    cli.configure()
    ended = cli.spawn_push("other.txt", "--state", "elsewhere")
    assert ended.status == 0
    assert f"warning: process {holder.process.pid} on " in ended.stderr
    assert str(cli.folder / "state") in ended.stderr


def test_others_can_plan_meanwhile_but_not_send_nor_work_on_its_cohort(
    cli: CommandLine, holder: Running
) -> None:
    other = ("--cohort-id", "other", "--cohort-name", "Other")
    planned = cli.spawn("plan", "other.txt", *other, "--json")
    assert planned.status == 0, planned.stderr
    assert planned.document["plan"]["add"] == 100
    for command in (("plan", "other.txt", *TARGET), ("mirror", "other.txt", *other)):
        refused = cli.spawn(*command, "--json")
        assert refused.status == 75
        assert f"process {holder.process.pid} " in refused.document["reason"]
    assert holder.process.poll() is None
    statuses = cli.query("SELECT cohort_id, status FROM run ORDER BY run")
    assert [tuple(row) for row in statuses] == [(COHORT, "running"), ("other", "planned")]
    holder.kill()
    cli.configure()
    sent = cli.spawn("mirror", "other.txt", *other, "--json")
    assert sent.status == 0, sent.stderr
    died, *_ = cli.query("SELECT status, reason FROM run ORDER BY run")
    assert tuple(died) == ("incomplete", "the process died")


def test_what_is_under_way_can_be_looked_at(cli: CommandLine, holder: Running) -> None:
    listed = cli.run("runs", "--json")
    assert '"status": "running"' in listed.stdout
    checked = cli.run("check")
    assert f"in use by process {holder.process.pid} " in checked.stdout
    assert holder.process.poll() is None


def test_resume_waits_for_whoever_works_on_it(
    cli: CommandLine, api: Emulator, holder: Running
) -> None:
    refused = cli.run("resume", "--json")
    assert refused.status == 75
    assert f"process {holder.process.pid} " in refused.document["reason"]
    cli.configure()
    waiting = cli.start("resume", "--wait", "60", "--json")
    until(lambda: "waiting for process" in waiting.stderr, "it waits")
    holder.kill()
    ended = waiting.wait()
    assert ended.status == 0, ended.stderr
    assert ended.document["uids"]["accepted"] == 2_000
    assert len(api.members()) == 2_000


def test_resume_begins_nothing_anew_when_what_it_waited_for_finished(
    cli: CommandLine, api: Emulator
) -> None:
    cli.configure(limits={"requests": 4, "per_seconds": 2.0})
    cli.write("export.txt", 300)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 1, "it sends")
    waiting = cli.start("resume", "--wait", "60", "--json")
    assert running.wait().status == 0
    ended = waiting.wait()
    assert ended.status == 0, ended.stderr
    assert ended.document["status"] == "nothing_to_resume"
    assert cli.query("SELECT count(*) FROM run") == [(1,)]
