"""Commands begun again: what goes on, what begins anew, what is refused."""

import signal
from collections.abc import Callable
from subprocess import PIPE

import pytest
from clean_room import until
from emulated_api import Emulator
from nightly import Ended, Night, assert_balanced

UIDS = 1_000
OTHER = ("--cohort-id", "other", "--cohort-name", "Other")
SLOW = {"requests": 10, "per_seconds": 2.0}


def leave_half_done(night: Night, api: Emulator, *arguments: str) -> Ended:
    """Push export.txt slowly, and stop it by SIGTERM after a few requests."""
    night.configure(limits=SLOW)
    running = night.start_push("export.txt", *arguments)
    until(lambda: api.received() >= 2, "two requests were sent")
    running.process.send_signal(signal.SIGTERM)
    ended = running.wait()
    assert ended.status == 75, ended.stderr
    night.configure()
    return ended


@pytest.fixture
def planned(night: Night) -> set[str]:
    """Write export.txt, and return its uids."""
    return night.write("export.txt", UIDS)


@pytest.fixture
def half_done(night: Night, api: Emulator, planned: set[str]) -> str:
    """Stop a run in the middle, and return its name."""
    books = leave_half_done(night, api).document
    assert 0 < books["uids"]["accepted"] < len(planned)
    return str(books["run"])


def test_the_same_command_goes_on_after_a_signal(
    night: Night, api: Emulator, planned: set[str], half_done: str
) -> None:
    ended = night.push("export.txt")
    books = ended.document
    assert (ended.status, books["run"]) == (0, half_done)
    assert "resumed=true" in ended.stderr
    assert api.members() == planned
    assert books["uids"]["accepted"] == len(planned)
    assert books["requests"]["sent"] == books["batches"]["planned"] == api.received()


def test_the_same_command_goes_on_after_a_kill(
    night: Night, api: Emulator, planned: set[str]
) -> None:
    night.configure(limits=SLOW)
    running = night.start_push("export.txt")
    until(lambda: api.received() >= 2, "two requests were sent")
    running.kill()
    night.configure()
    [(unknown,)] = night.query("SELECT count(*) FROM attempt WHERE outcome IS NULL")
    ended = night.push("export.txt")
    books = ended.document
    assert ended.status == 0
    assert "resumed=true" in ended.stderr
    assert api.members() == planned
    assert_balanced(books)
    assert books["requests"]["retried"] == unknown
    assert night.query("SELECT count(*) FROM run") == [(1,)]


def test_a_change_of_limits_does_not_hinder_going_on(
    night: Night, api: Emulator, planned: set[str], half_done: str
) -> None:
    night.configure(limits={"payload_bytes": 500, "requests": 250})
    books = night.push("export.txt").document
    assert (books["run"], books["exit_status"]) == (half_done, 0)
    assert api.members() == planned


def test_the_same_command_begins_a_new_run_after_one_that_finished(
    night: Night, api: Emulator
) -> None:
    night.write("export.txt", 50)
    first, second = night.push("export.txt"), night.push("export.txt")
    assert first.document["run"] != second.document["run"]
    assert "resumed=false" in second.stderr
    assert second.document["uids"]["accepted"] == 50
    assert api.report()["uids"]["applied"] == 100


def test_an_export_that_changed_is_refused(night: Night, api: Emulator, half_done: str) -> None:
    received = api.received()
    night.write("other.txt", UIDS)
    (night.folder / "other.txt").rename(night.folder / "export.txt")
    ended = night.push("export.txt")
    assert ended.status == 2
    assert ended.document["run"] == half_done
    assert "the export has changed" in ended.stderr
    assert "--on-changed restart" in ended.stderr
    assert_balanced(ended.document)
    assert api.received() == received


def test_an_export_that_changed_can_be_begun_again(
    night: Night, api: Emulator, half_done: str
) -> None:
    planned = night.write("other.txt", UIDS)
    (night.folder / "other.txt").rename(night.folder / "export.txt")
    ended = night.push("export.txt", "--on-changed", "restart")
    books = ended.document
    assert ended.status == 0
    assert books["run"] != half_done
    assert books["uids"]["planned"] == len(planned)
    assert planned < api.members()
    old = night.run("show", half_done, "--json")
    assert f'"run": "{half_done}", "status": "abandoned"' in old.stdout


def test_an_export_put_back_goes_on(
    night: Night, api: Emulator, planned: set[str], half_done: str
) -> None:
    export = night.folder / "export.txt"
    content = export.read_text()
    export.write_text("changed\n" + content)
    assert night.push("export.txt").status == 2
    export.write_text(content)
    ended = night.push("export.txt")
    assert (ended.status, ended.document["run"]) == (0, half_done)
    assert api.members() == planned


def test_an_export_that_lost_its_end_is_refused(night: Night, half_done: str) -> None:
    export = night.folder / "export.txt"
    export.write_text("".join(export.read_text().splitlines(keepends=True)[:10]))
    ended = night.push("export.txt")
    assert (ended.status, ended.document["run"]) == (2, half_done)
    assert "the export has changed" in ended.stderr


def test_going_on_is_refused_once_a_later_run_has_touched_the_cohort(
    night: Night, api: Emulator, planned: set[str], half_done: str
) -> None:
    night.write("later.txt", 50)
    later = night.push("later.txt").document["run"]
    received = api.received()
    ended = night.push("export.txt")
    assert ended.status == 2
    assert half_done in ended.stderr
    assert later in ended.stderr
    assert ended.document["status"] == "failed"
    assert api.received() == received
    again = night.push("export.txt", "--on-changed", "restart")
    assert again.status == 0
    assert again.document["run"] != half_done
    assert planned < api.members()


def test_a_run_for_another_cohort_does_not_hinder_going_on(
    night: Night, planned: set[str], half_done: str
) -> None:
    night.write("later.txt", 50)
    other = night.run("push", "later.txt", "--cohort-id", "other", "--cohort-name", "Other")
    assert other.status == 0
    books = night.push("export.txt").document
    assert (books["run"], books["uids"]["accepted"]) == (half_done, len(planned))


def test_the_same_data_piped_again_goes_on(
    night: Night, emulate: Callable[..., Emulator], planned: set[str]
) -> None:
    api = emulate("--fault-at", "401=4")
    night.url = api.url
    night.configure()
    data = (night.folder / "export.txt").read_bytes()
    first = night.spawn_push("-", stdin=data)
    assert first.status == 3
    second = night.spawn_push("-", stdin=data)
    assert (second.status, second.document["run"]) == (0, first.document["run"])
    assert "resumed=true" in second.stderr
    assert api.members() == planned
    assert second.document["requests"]["sent"] == second.document["batches"]["planned"] + 1


def test_other_data_piped_is_refused(
    night: Night, emulate: Callable[..., Emulator], planned: set[str]
) -> None:
    night.url = emulate("--fault-at", "401=4").url
    night.configure()
    assert night.spawn_push("-", stdin="\n".join(sorted(planned)).encode()).status == 3
    ended = night.spawn_push("-", stdin=b"other\n" * UIDS)
    assert ended.status == 2
    assert "the export has changed" in ended.stderr
    restarted = night.spawn_push("-", "--on-changed", "restart", stdin=b"other\n" * UIDS)
    assert restarted.status == 0, restarted.stderr
    assert restarted.document["uids"]["accepted"] == UIDS


def test_resume_goes_on_with_the_latest_unfinished_run(
    night: Night, api: Emulator, planned: set[str], half_done: str
) -> None:
    ended = night.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, half_done)
    assert api.members() == planned
    nothing_left = night.run("resume", "--json")
    assert (nothing_left.status, nothing_left.document["run"]) == (0, None)
    assert "nothing to resume" in nothing_left.stderr


def test_resume_goes_on_with_a_run_by_its_name(
    night: Night, api: Emulator, planned: set[str]
) -> None:
    options = ("--cohort-description", "Kept", "--strip")
    run = leave_half_done(night, api, *options).document["run"]
    ended = night.run("resume", run, "--json")
    assert (ended.status, ended.document["run"]) == (0, run)
    assert api.members() == planned
    [cohort] = api.report()["cohorts"]
    assert cohort["cohort_description"] == "Kept"


def test_resume_refuses_what_it_cannot_do(
    night: Night, emulate: Callable[..., Emulator], planned: set[str]
) -> None:
    night.url = emulate("--fault-at", "401=2").url
    night.configure()
    (night.folder / "state").mkdir()
    unknown = night.run("resume", "20260101-000000-0000")
    assert unknown.status == 2
    assert "`cohortsync runs` lists them" in unknown.stderr
    piped = night.spawn_push("-", stdin="\n".join(sorted(planned)).encode()).document["run"]
    from_pipe = night.run("resume", piped)
    assert from_pipe.status == 2
    assert "pipe the same data" in from_pipe.stderr
    night.write("small.txt", 5)
    finished = night.run("push", "small.txt", "--cohort-id", "b", "--cohort-name", "B", "--json")
    done = night.run("resume", finished.document["run"])
    assert done.status == 2
    assert "finished" in done.stderr


def test_resume_refuses_a_run_of_another_target(night: Night, half_done: str) -> None:
    ended = night.run("resume", half_done, "--endpoint", "http://127.0.0.1:9")
    assert ended.status == 2
    assert half_done in ended.stderr
    assert "--config" in ended.stderr


def test_resume_never_takes_other_files_for_the_run_s_own(
    night: Night, api: Emulator, half_done: str
) -> None:
    received = api.received()
    elsewhere = night.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "export.txt").write_text("of another export\n")
    ended = night.run("resume", half_done, "--config", "../config.toml", folder=elsewhere)
    assert ended.status == 2
    assert half_done in ended.stderr
    assert "resume it in the folder" in ended.stderr
    assert api.received() == received


def test_resume_passes_over_a_run_that_read_a_pipe(
    night: Night, api: Emulator, half_done: str
) -> None:
    night.configure(limits=SLOW)
    piped = night.start("push", "-", *OTHER, "--format", "text", "--json", stdin=PIPE)
    assert piped.process.stdin is not None
    with piped.process.stdin as pipe:
        pipe.write(b"a-uid\nanother\n" * 500)
        pipe.flush()
        received = api.received()
        until(lambda: api.received() > received, "what was piped is on its way")
        piped.process.send_signal(signal.SIGTERM)
        assert piped.wait().status == 75
    night.configure()
    ended = night.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, half_done)
    only_piped = night.run("resume")
    assert only_piped.status == 2
    assert "pipe the same data" in only_piped.stderr


def test_resume_elsewhere_says_where_the_files_were(night: Night, half_done: str) -> None:
    elsewhere = night.folder / "elsewhere"
    elsewhere.mkdir()
    ended = night.run("resume", half_done, "--config", "../config.toml", folder=elsewhere)
    assert ended.status == 2
    assert "export.txt: no such file" in ended.stderr
    assert "hint: resume it in the folder" in ended.stderr


def test_a_run_that_another_command_overtakes_is_named_and_then_left_alone(
    night: Night, half_done: str
) -> None:
    night.write("more.txt", 5)
    other = night.push("export.txt", "more.txt")
    assert (other.status, other.document["run"] == half_done) == (0, False)
    assert f"run {half_done} of this cohort is unfinished" in other.stderr
    nothing_left = night.run("resume", "--json")
    assert (nothing_left.status, nothing_left.document["run"]) == (0, None)
    by_name = night.run("resume", half_done)
    assert by_name.status == 2
    assert "has touched cohort" in by_name.stderr


def test_resume_names_the_run_of_another_target(night: Night, half_done: str) -> None:
    ended = night.run("resume", "--endpoint", "http://127.0.0.1:9")
    assert ended.status == 0
    assert "nothing to resume: no run for http://127.0.0.1:9" in ended.stderr
    assert f"run {half_done} belongs to {night.url}" in ended.stderr


def test_resume_passes_over_runs_of_other_targets(
    night: Night, emulate: Callable[..., Emulator], half_done: str
) -> None:
    other = emulate("--fault-at", "401=1")
    later = night.push("export.txt", "--endpoint", other.url)
    assert later.status == 3
    ended = night.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, half_done)


@pytest.fixture
def unfinished(night: Night, emulate: Callable[..., Emulator]) -> list[str]:
    """Leave three cohorts' runs unfinished, and return their names, the earliest first."""
    night.url = emulate("--fault-at", "401=2", "--fault-at", "401=4", "--fault-at", "401=6").url
    night.configure(delivery={"max_in_flight": 1})  # Else more than two may be under way.
    names = []
    for cohort in ("a", "b", "c"):
        night.write(f"{cohort}.txt", 300)
        ended = night.run("push", f"{cohort}.txt", *cohort_options(cohort), "--json")
        assert ended.status == 3
        names.append(ended.document["run"])
    return names


def cohort_options(cohort: str) -> tuple[str, ...]:
    return ("--cohort-id", cohort, "--cohort-name", cohort.upper())


def unfinished_now(night: Night) -> list[str]:
    return [name for (name,) in night.query("SELECT name FROM run WHERE status <> 'finished'")]


def test_resume_names_the_unfinished_runs_that_it_does_not_go_on_with(
    night: Night, unfinished: list[str]
) -> None:
    ended = night.run("resume", "--json")
    assert (ended.status, ended.document["run"]) == (0, unfinished[-1])
    assert f"{unfinished[0]}, {unfinished[1]}; `cohortsync resume --all`" in ended.stderr
    assert unfinished_now(night) == unfinished[:-1]


def test_resume_all_goes_on_with_each_unfinished_run(night: Night, unfinished: list[str]) -> None:
    ended = night.run("resume", "--all", "--json")
    document = ended.document
    assert (ended.status, document["status"]) == (0, "finished")
    assert [each["run"] for each in document["runs"]] == unfinished
    assert {each["uids"]["accepted"] for each in document["runs"]} == {300}
    assert unfinished_now(night) == []
    nothing = night.run("resume", "--all", "--json")
    assert (nothing.status, nothing.document["status"]) == (0, "nothing_to_resume")


def test_resume_all_goes_on_past_a_run_that_fails_and_exits_with_the_worst(
    night: Night, unfinished: list[str]
) -> None:
    (night.folder / "b.txt").unlink()
    ended = night.run("resume", "--all", "--json")
    document = ended.document
    assert ended.status == 2
    assert [each["exit_status"] for each in document["runs"]] == [0, 2, 0]
    assert [each["run"] for each in document["runs"]] == unfinished
    assert document["runs"][1]["status"] == document["status"] == "failed"
    assert "b.txt" in document["reason"]
    assert unfinished_now(night) == [unfinished[1]]
    shown = night.run("resume", "--all")
    assert shown.status == 2
    assert unfinished[1] in shown.stderr


def test_resume_all_ends_at_a_signal_and_names_what_is_left(
    night: Night, unfinished: list[str]
) -> None:
    night.configure(limits={"requests": 1, "per_seconds": 2.0})
    running = night.start("resume", "--all", "--json")
    until(lambda: "event=opened" in running.stderr, "the first run goes on")
    running.process.send_signal(signal.SIGTERM)
    document = running.wait().document
    assert document["exit_status"] == 75
    assert [each["run"] for each in document["runs"]] == unfinished
    assert "SIGTERM" in document["runs"][0]["reason"]
    assert "a signal came" in document["runs"][1]["reason"]


def test_resume_takes_a_name_or_all(night: Night, unfinished: list[str]) -> None:
    ended = night.run("resume", unfinished[0], "--all", "--json")
    assert ended.status == 2
    assert "--all" in ended.document["reason"]
