"""Exclusion lists: by a push, by a mirror, resumed, changed, unreadable, empty."""

import json
from typing import Any

import pytest
from clean_room import until
from emulated_api import Emulator
from nightly import TARGET, CommandLine, Ended, assert_balanced


def mirror(cli: CommandLine, *arguments: str) -> Ended:
    return cli.run("mirror", "export.txt", *arguments, *TARGET, "--json")


def listed(cli: CommandLine, uids: set[str], name: str = "suppressed.txt") -> None:
    (cli.folder / name).write_text("".join(f"{uid}\n" for uid in sorted(uids)))


def rows(document: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in document["rows"].items() if count}


def test_a_push_leaves_out_what_is_listed(cli: CommandLine, api: Emulator) -> None:
    uids = cli.write("export.txt", 300)
    some = set(sorted(uids)[::4])
    (cli.folder / "reasons.csv").write_text(
        "id,why\n" + "".join(f"{uid},asked\n" for uid in some) + "\n,nobody\nelse,\n"
    )
    cli.write("staff.csv", 1)
    ended = cli.push("export.txt", "--exclude", "reasons.csv", "--exclude-column", "id")
    assert ended.status == 0
    assert rows(ended.document) == {"read": 300, "excluded": 75}
    assert_balanced(ended.document)
    assert api.members() == uids - some
    run = ended.document["run"]
    shown = json.loads(cli.run("show", run, "--json").stdout)
    assert rows(shown) == {"read": 300, "excluded": 75}
    assert not cli.rejects(run)
    [(entries, count)] = cli.query("SELECT count(*), sum(count) FROM skipped")
    assert (entries <= ended.document["batches"]["planned"], count) == (True, 75)
    summary = cli.run(
        "push", "export.txt", "--exclude", "reasons.csv", "--exclude-column=id", *TARGET, "-v"
    )
    assert "300 read = 0 blank + 0 invalid + 75 excluded + 225 planned" in summary.stdout


def test_a_mirror_removes_what_is_listed(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror={"settle_seconds": 0.0}, guards={"max_removals": 1.0})
    uids = cli.write("export.txt", 300)
    first = mirror(cli)
    assert first.document["rows"]["excluded"] == 0
    some = set(sorted(uids)[:30])
    listed(cli, some | {"a stranger"})
    planned = cli.run("plan", "export.txt", "--exclude", "suppressed.txt", *TARGET, "--json")
    assert planned.document["plan"]["excluded"] == planned.document["plan"]["remove"] == 30
    second = mirror(cli, "--exclude", "suppressed.txt")
    assert second.status == 0
    assert rows(second.document) == {"read": 300, "excluded": 30, "unchanged": 270}
    assert second.document["remove"]["accepted"] == 30
    assert api.members() == uids - some
    listed(cli, set())
    third = mirror(cli, "--exclude", "suppressed.txt")
    assert "the exclusion list suppressed.txt is empty" in third.stderr
    assert api.members() == uids


def test_a_list_of_all_uids_sends_nothing(cli: CommandLine, api: Emulator) -> None:
    listed(cli, cli.write("export.txt", 30))
    pushed = cli.push("export.txt", "--exclude", "suppressed.txt")
    dry = cli.push("export.txt", "--exclude", "suppressed.txt", "--dry-run")
    for ended in (pushed, dry):
        assert ended.status == 2
        assert "each uid of the export is excluded" in ended.document["reason"]
        assert rows(ended.document) == {"read": 30, "excluded": 30}
    mirrored = mirror(cli, "--exclude", "suppressed.txt")
    assert mirrored.status == 4
    assert "empty: each uid of the export is excluded" in mirrored.document["reason"]
    assert rows(mirrored.document) == {"read": 30, "excluded": 30}
    assert api.received() == 0


def test_a_killed_push_goes_on_with_the_same_list_only(cli: CommandLine, api: Emulator) -> None:
    cli.configure(limits={"requests": 20, "per_seconds": 2.0, "payload_bytes": 2000})
    uids = cli.write("export.txt", 2000)
    some = set(sorted(uids)[::3])
    listed(cli, some)
    arguments = ("export.txt", "--exclude", "suppressed.txt")
    running = cli.start_push(*arguments)
    until(lambda: api.received() > 0 or running.process.poll() is not None, "it sends")
    running.kill()
    cli.configure()
    [run] = [each["run"] for each in json.loads(cli.run("runs", "--json").stdout)]
    listed(cli, some | {max(uids)})
    for command in (
        cli.push(*arguments),
        cli.run("resume", run),
        cli.push(*arguments, "--dry-run"),
    ):
        assert command.status == 2
        assert "the exclusion list has changed since run" in command.stderr
    listed(cli, some)
    resumed = cli.run("resume", run, "--json")
    assert resumed.status == 0
    assert resumed.document["run"] == run
    assert rows(resumed.document) == {"read": 2000, "excluded": len(some)}
    assert_balanced(resumed.document)
    assert api.members() == uids - some


def test_a_changed_list_begins_a_new_run_if_asked_to(cli: CommandLine, api: Emulator) -> None:
    uids = cli.write("export.txt", 2000)
    cli.configure(limits={"requests": 20, "per_seconds": 2.0, "payload_bytes": 2000})
    listed(cli, {"nobody"})
    arguments = ("export.txt", "--exclude", "suppressed.txt")
    running = cli.start_push(*arguments)
    until(lambda: api.received() > 0 or running.process.poll() is not None, "it sends")
    running.kill()
    cli.configure()
    last = max(uids)
    listed(cli, {last})
    dry = cli.push(*arguments, "--on-changed", "restart", "--dry-run")
    ended = cli.push(*arguments, "--on-changed", "restart")
    for each in (dry, ended):
        assert each.status == 0
        assert rows(each.document) == {"read": 2000, "excluded": 1}
    assert api.members() == uids - {last}
    assert [each["status"] for each in json.loads(cli.run("runs", "--json").stdout)] == [
        "finished",
        "abandoned",
    ]


@pytest.mark.parametrize("command", ["push", "mirror"])
@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.txt", None, "exclusion list: none.txt: no such file"),
        ("two.csv", b"id,why\na,x\n", "exclusion list: two.csv"),
        ("odd.txt", b"a\n\xff\nb\n", "exclusion list: odd.txt, record 2: invalid UTF-8; the list"),
    ],
)
def test_a_list_that_cannot_be_read_stops_the_run(
    cli: CommandLine, command: str, name: str, content: bytes | None, problem: str
) -> None:
    cli.url = "http://127.0.0.1:1"
    cli.configure()
    cli.write("export.txt", 3)
    if content is not None:
        (cli.folder / name).write_bytes(content)
    ended = cli.run(command, "export.txt", "--exclude", name, *TARGET)
    assert ended.status == 2
    assert problem in ended.stderr
    if name == "two.csv":
        assert "--exclude-column NAME" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--exclude", "a.txt", "--action", "remove"), "--exclude and --action remove exclude"),
        (("--exclude-column", "id"), "--exclude-column needs an --exclude"),
    ],
)
def test_options_that_exclude_each_other(
    cli: CommandLine, arguments: tuple[str, ...], problem: str
) -> None:
    cli.write("export.txt", 3)
    ended = cli.push("export.txt", *arguments)
    assert ended.status == 2
    assert problem in ended.stderr


def test_standard_input_is_one_of_the_two(cli: CommandLine, api: Emulator) -> None:
    uids = cli.write("export.txt", 3)
    both = cli.spawn_push("-", "--exclude", "-", stdin=b"a\n")
    assert both.status == 2
    assert "not both" in both.stderr
    ended = cli.spawn_push("export.txt", "--exclude", "-", stdin=min(uids).encode() + b"\n")
    assert ended.status == 0
    assert api.members() == uids - {min(uids)}
