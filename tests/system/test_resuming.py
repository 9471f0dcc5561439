"""Commands begun again: what goes on, what begins anew, what is refused."""

import signal
from collections.abc import Callable
from subprocess import PIPE

import pytest
from clean_room import until
from emulated_api import Emulator
from nightly import CommandLine, Ended, assert_balanced

UIDS = 1_000
OTHER = ("--cohort-id", "other", "--cohort-name", "Other")
SLOW = {"requests": 10, "per_seconds": 2.0}


def leave_half_done(cli: CommandLine, api: Emulator, *arguments: str) -> Ended:
    """Push export.txt slowly, and stop it by SIGTERM after a few requests."""
    cli.configure(limits=SLOW)
    running = cli.start_push("export.txt", *arguments)
    until(lambda: api.received() >= 2, "two requests were sent")
    running.process.send_signal(signal.SIGTERM)
    ended = running.wait()
    assert ended.status == 75, ended.stderr
    cli.configure()
    return ended


@pytest.fixture
def planned(cli: CommandLine) -> set[str]:
    """Write export.txt, and return its uids."""
    return cli.write("export.txt", UIDS)


@pytest.fixture
def half_done(cli: CommandLine, api: Emulator, planned: set[str]) -> str:
    """Stop a run in the middle, and return its name."""
    accounts = leave_half_done(cli, api).document
    assert 0 < accounts["uids"]["accepted"] < len(planned)
    return str(accounts["run"])


def test_the_same_command_goes_on_after_a_signal(
    cli: CommandLine, api: Emulator, planned: set[str], half_done: str
) -> None:
    ended = cli.push("export.txt")
    accounts = ended.document
    assert (ended.status, accounts["run"]) == (0, half_done)
    assert "resumed=true" in ended.stderr
    assert api.members() == planned
    assert accounts["uids"]["accepted"] == len(planned)
    assert accounts["requests"]["sent"] == accounts["batches"]["planned"] == api.received()


def test_the_same_command_goes_on_after_a_kill(
    cli: CommandLine, api: Emulator, planned: set[str]
) -> None:
    cli.configure(limits=SLOW)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 2, "two requests were sent")
    running.kill()
    cli.configure()
    [(unknown,)] = cli.query("SELECT count(*) FROM attempt WHERE outcome IS NULL")
    ended = cli.push("export.txt")
    accounts = ended.document
    assert ended.status == 0
    assert "resumed=true" in ended.stderr
    assert api.members() == planned
    assert_balanced(accounts)
    assert accounts["requests"]["retried"] == unknown
    assert cli.query("SELECT count(*) FROM run") == [(1,)]


def test_a_change_of_limits_does_not_hinder_going_on(
    cli: CommandLine, api: Emulator, planned: set[str], half_done: str
) -> None:
    cli.configure(limits={"payload_bytes": 500, "requests": 250})
    accounts = cli.push("export.txt").document
    assert (accounts["run"], accounts["exit_status"]) == (half_done, 0)
    assert api.members() == planned


def test_the_same_command_begins_a_new_run_after_one_that_finished(
    cli: CommandLine, api: Emulator
) -> None:
    cli.write("export.txt", 50)
    first, second = cli.push("export.txt"), cli.push("export.txt")
    assert first.document["run"] != second.document["run"]
    assert "resumed=false" in second.stderr
    assert second.document["uids"]["accepted"] == 50
    assert api.report()["uids"]["applied"] == 100


def test_an_export_that_changed_is_refused(cli: CommandLine, api: Emulator, half_done: str) -> None:
    received = api.received()
    cli.write("other.txt", UIDS)
    (cli.folder / "other.txt").rename(cli.folder / "export.txt")
    ended = cli.push("export.txt")
    assert ended.status == 2
    assert ended.document["run"] == half_done
    assert "the export has changed" in ended.stderr
    assert "--on-changed restart" in ended.stderr
    assert_balanced(ended.document)
    assert api.received() == received


def test_an_export_that_changed_can_be_begun_again(
    cli: CommandLine, api: Emulator, half_done: str
) -> None:
    planned = cli.write("other.txt", UIDS)
    (cli.folder / "other.txt").rename(cli.folder / "export.txt")
    ended = cli.push("export.txt", "--on-changed", "restart")
    accounts = ended.document
    assert ended.status == 0
    assert accounts["run"] != half_done
    assert accounts["uids"]["planned"] == len(planned)
    assert planned < api.members()
    old = cli.run("show", half_done, "--json")
    assert f'"run": "{half_done}", "status": "abandoned"' in old.stdout


def test_an_export_put_back_goes_on(
    cli: CommandLine, api: Emulator, planned: set[str], half_done: str
) -> None:
    export = cli.folder / "export.txt"
    content = export.read_text()
    export.write_text("changed\n" + content)
    assert cli.push("export.txt").status == 2
    export.write_text(content)
    ended = cli.push("export.txt")
    assert (ended.status, ended.document["run"]) == (0, half_done)
    assert api.members() == planned


def test_an_export_that_lost_its_end_is_refused(cli: CommandLine, half_done: str) -> None:
    export = cli.folder / "export.txt"
    export.write_text("".join(export.read_text().splitlines(keepends=True)[:10]))
    ended = cli.push("export.txt")
    assert (ended.status, ended.document["run"]) == (2, half_done)
    assert "the export has changed" in ended.stderr


def test_going_on_is_refused_once_a_later_run_has_touched_the_cohort(
    cli: CommandLine, api: Emulator, planned: set[str], half_done: str
) -> None:
    cli.write("later.txt", 50)
    later = cli.push("later.txt").document["run"]
    received = api.received()
    ended = cli.push("export.txt")
    assert ended.status == 2
    assert half_done in ended.stderr
    assert later in ended.stderr
    assert ended.document["status"] == "failed"
    assert api.received() == received
    again = cli.push("export.txt", "--on-changed", "restart")
    assert again.status == 0
    assert again.document["run"] != half_done
    assert planned < api.members()


def test_a_run_for_another_cohort_does_not_hinder_going_on(
    cli: CommandLine, planned: set[str], half_done: str
) -> None:
    cli.write("later.txt", 50)
    other = cli.run("push", "later.txt", "--cohort-id", "other", "--cohort-name", "Other")
    assert other.status == 0
    accounts = cli.push("export.txt").document
    assert (accounts["run"], accounts["uids"]["accepted"]) == (half_done, len(planned))


def test_the_same_data_piped_again_goes_on(
    cli: CommandLine, emulate: Callable[..., Emulator], planned: set[str]
) -> None:
    api = emulate("--fault-at", "401=4")
    cli.url = api.url
    cli.configure()
    data = (cli.folder / "export.txt").read_bytes()
    first = cli.spawn_push("-", stdin=data)
    assert first.status == 3
    second = cli.spawn_push("-", stdin=data)
    assert (second.status, second.document["run"]) == (0, first.document["run"])
    assert "resumed=true" in second.stderr
    assert api.members() == planned
    assert second.document["requests"]["sent"] == second.document["batches"]["planned"] + 1


def test_other_data_piped_is_refused(
    cli: CommandLine, emulate: Callable[..., Emulator], planned: set[str]
) -> None:
    cli.url = emulate("--fault-at", "401=4").url
    cli.configure()
    assert cli.spawn_push("-", stdin="\n".join(sorted(planned)).encode()).status == 3
    ended = cli.spawn_push("-", stdin=b"other\n" * UIDS)
    assert ended.status == 2
    assert "the export has changed" in ended.stderr
    restarted = cli.spawn_push("-", "--on-changed", "restart", stdin=b"other\n" * UIDS)
    assert restarted.status == 0, restarted.stderr
    assert restarted.document["uids"]["accepted"] == UIDS


def test_resume_goes_on_with_the_latest_unfinished_run(
    cli: CommandLine, api: Emulator, planned: set[str], half_done: str
) -> None:
    ended = cli.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, half_done)
    assert api.members() == planned
    nothing_left = cli.run("resume", "--json")
    assert (nothing_left.status, nothing_left.document["run"]) == (0, None)
    assert "nothing to resume" in nothing_left.stderr


def test_resume_goes_on_with_a_run_by_its_name(
    cli: CommandLine, api: Emulator, planned: set[str]
) -> None:
    options = ("--cohort-description", "Kept", "--strip")
    run = leave_half_done(cli, api, *options).document["run"]
    ended = cli.run("resume", run, "--json")
    assert (ended.status, ended.document["run"]) == (0, run)
    assert api.members() == planned
    [cohort] = api.report()["cohorts"]
    assert cohort["cohort_description"] == "Kept"


def test_resume_refuses_what_it_cannot_do(
    cli: CommandLine, emulate: Callable[..., Emulator], planned: set[str]
) -> None:
    cli.url = emulate("--fault-at", "401=2").url
    cli.configure()
    (cli.folder / "state").mkdir()
    unknown = cli.run("resume", "20260101-000000-0000")
    assert unknown.status == 2
    assert "`cohortsync runs` lists them" in unknown.stderr
    piped = cli.spawn_push("-", stdin="\n".join(sorted(planned)).encode()).document["run"]
    from_pipe = cli.run("resume", piped)
    assert from_pipe.status == 2
    assert "pipe the same data" in from_pipe.stderr
    cli.write("small.txt", 5)
    finished = cli.run("push", "small.txt", "--cohort-id", "b", "--cohort-name", "B", "--json")
    done = cli.run("resume", finished.document["run"])
    assert done.status == 2
    assert "finished" in done.stderr


def test_resume_refuses_a_run_of_another_target(cli: CommandLine, half_done: str) -> None:
    ended = cli.run("resume", half_done, "--endpoint", "http://127.0.0.1:9")
    assert ended.status == 2
    assert half_done in ended.stderr
    assert "--config" in ended.stderr


def test_resume_never_takes_other_files_for_the_run_s_own(
    cli: CommandLine, api: Emulator, half_done: str
) -> None:
    received = api.received()
    elsewhere = cli.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "export.txt").write_text("of another export\n")
    ended = cli.run("resume", half_done, "--config", "../config.toml", folder=elsewhere)
    assert ended.status == 2
    assert half_done in ended.stderr
    assert "resume it in the folder" in ended.stderr
    assert api.received() == received


def test_resume_passes_over_a_run_that_read_a_pipe(
    cli: CommandLine, api: Emulator, half_done: str
) -> None:
    cli.configure(limits=SLOW)
    piped = cli.start("push", "-", *OTHER, "--format", "text", "--json", stdin=PIPE)
    assert piped.process.stdin is not None
    with piped.process.stdin as pipe:
        pipe.write(b"a-uid\nanother\n" * 500)
        pipe.flush()
        received = api.received()
        until(lambda: api.received() > received, "what was piped is on its way")
        piped.process.send_signal(signal.SIGTERM)
        assert piped.wait().status == 75
    cli.configure()
    ended = cli.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, half_done)
    only_piped = cli.run("resume")
    assert only_piped.status == 2
    assert "pipe the same data" in only_piped.stderr


def test_resume_elsewhere_says_where_the_files_were(cli: CommandLine, half_done: str) -> None:
    elsewhere = cli.folder / "elsewhere"
    elsewhere.mkdir()
    ended = cli.run("resume", half_done, "--config", "../config.toml", folder=elsewhere)
    assert ended.status == 2
    assert "export.txt: no such file" in ended.stderr
    assert "hint: resume it in the folder" in ended.stderr


def test_a_run_that_another_command_overtakes_is_named_and_then_left_alone(
    cli: CommandLine, half_done: str
) -> None:
    cli.write("more.txt", 5)
    other = cli.push("export.txt", "more.txt")
    assert (other.status, other.document["run"] == half_done) == (0, False)
    assert f"run {half_done} of this cohort is unfinished" in other.stderr
    nothing_left = cli.run("resume", "--json")
    assert (nothing_left.status, nothing_left.document["run"]) == (0, None)
    by_name = cli.run("resume", half_done)
    assert by_name.status == 2
    assert "has touched cohort" in by_name.stderr


def test_resume_names_the_run_of_another_target(cli: CommandLine, half_done: str) -> None:
    ended = cli.run("resume", "--endpoint", "http://127.0.0.1:9")
    assert ended.status == 0
    assert "nothing to resume: no run for http://127.0.0.1:9" in ended.stderr
    assert f"run {half_done} belongs to {cli.url}" in ended.stderr


def test_resume_passes_over_runs_of_other_targets(
    cli: CommandLine, emulate: Callable[..., Emulator], half_done: str
) -> None:
    other = emulate("--fault-at", "401=1")
    later = cli.push("export.txt", "--endpoint", other.url)
    assert later.status == 3
    ended = cli.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, half_done)


@pytest.fixture
def unfinished(cli: CommandLine, emulate: Callable[..., Emulator]) -> list[str]:
    """Leave three cohorts' runs unfinished, and return their names, the earliest first."""
    cli.url = emulate("--fault-at", "401=2", "--fault-at", "401=4", "--fault-at", "401=6").url
    cli.configure(delivery={"max_in_flight": 1})  # Else more than two may be under way.
    names = []
    for cohort in ("a", "b", "c"):
        cli.write(f"{cohort}.txt", 300)
        ended = cli.run("push", f"{cohort}.txt", *cohort_options(cohort), "--json")
        assert ended.status == 3
        names.append(ended.document["run"])
    return names


def cohort_options(cohort: str) -> tuple[str, ...]:
    return ("--cohort-id", cohort, "--cohort-name", cohort.upper())


def unfinished_now(cli: CommandLine) -> list[str]:
    return [name for (name,) in cli.query("SELECT name FROM run WHERE status <> 'finished'")]


def test_resume_names_the_unfinished_runs_that_it_does_not_go_on_with(
    cli: CommandLine, unfinished: list[str]
) -> None:
    ended = cli.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, unfinished[-1])
    assert f"{unfinished[0]}, {unfinished[1]}; `cohortsync resume --all`" in ended.stderr
    assert unfinished_now(cli) == unfinished[:-1]


def test_resume_all_goes_on_with_each_unfinished_run(
    cli: CommandLine, unfinished: list[str]
) -> None:
    ended = cli.run("resume", "--all", "--json")
    document = ended.document
    assert (ended.status, document["status"]) == (0, "finished")
    assert [each["run"] for each in document["runs"]] == unfinished
    assert {each["uids"]["accepted"] for each in document["runs"]} == {300}
    assert unfinished_now(cli) == []
    nothing = cli.run("resume", "--all", "--json")
    assert (nothing.status, nothing.document["status"]) == (0, "nothing_to_resume")


def test_resume_all_goes_on_past_a_run_that_fails_and_exits_with_the_worst(
    cli: CommandLine, unfinished: list[str]
) -> None:
    (cli.folder / "b.txt").unlink()
    ended = cli.run("resume", "--all", "--json")
    document = ended.document
    assert ended.status == 2
    assert [each["exit_status"] for each in document["runs"]] == [0, 2, 0]
    assert [each["run"] for each in document["runs"]] == unfinished
    assert document["runs"][1]["status"] == document["status"] == "failed"
    assert "b.txt" in document["reason"]
    assert unfinished_now(cli) == [unfinished[1]]
    shown = cli.run("resume", "--all")
    assert shown.status == 2
    assert unfinished[1] in shown.stderr


def test_resume_all_ends_at_a_signal_and_names_what_is_left(
    cli: CommandLine, unfinished: list[str]
) -> None:
    cli.configure(limits={"requests": 1, "per_seconds": 2.0})
    running = cli.start("resume", "--all", "--json")
    until(lambda: "event=opened" in running.stderr, "the first run goes on")
    running.process.send_signal(signal.SIGTERM)
    document = running.wait().document
    assert document["exit_status"] == 75
    assert [each["run"] for each in document["runs"]] == unfinished
    assert "SIGTERM" in document["runs"][0]["reason"]
    assert "a signal came" in document["runs"][1]["reason"]


def test_resume_takes_a_name_or_all(cli: CommandLine, unfinished: list[str]) -> None:
    ended = cli.run("resume", unfinished[0], "--all", "--json")
    assert ended.status == 2
    assert "--all" in ended.document["reason"]
