"""Exclusion lists: by a push, by a mirror, resumed, changed, unreadable, empty."""

import json
from typing import Any

import pytest
from emulated_api import Emulator
from nightly import TARGET, Ended, Night, assert_balanced


def mirror(night: Night, *arguments: str) -> Ended:
    return night.run("mirror", "export.txt", *arguments, *TARGET, "--json")


def listed(night: Night, uids: set[str], name: str = "suppressed.txt") -> None:
    (night.folder / name).write_text("".join(f"{uid}\n" for uid in sorted(uids)))


def rows(document: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in document["rows"].items() if count}


def test_a_push_leaves_out_what_is_listed(night: Night, api: Emulator) -> None:
    uids = night.write("export.txt", 300)
    some = set(sorted(uids)[::4])
    (night.folder / "reasons.csv").write_text(
        "id,why\n" + "".join(f"{uid},asked\n" for uid in some) + "\n,nobody\nelse,\n"
    )
    night.write("staff.csv", 1)
    ended = night.push("export.txt", "--exclude", "reasons.csv", "--exclude-column", "id")
    assert ended.status == 0
    assert rows(ended.document) == {"read": 300, "excluded": 75}
    assert_balanced(ended.document)
    assert api.members() == uids - some
    run = ended.document["run"]
    shown = json.loads(night.run("show", run, "--json").stdout)
    assert rows(shown) == {"read": 300, "excluded": 75}
    assert not night.rejects(run)
    [(entries, count)] = night.query("SELECT count(*), sum(count) FROM skipped")
    assert (entries <= ended.document["batches"]["planned"], count) == (True, 75)
    summary = night.run(
        "push", "export.txt", "--exclude", "reasons.csv", "--exclude-column=id", *TARGET
    )
    assert "300 read = 0 blank + 0 invalid + 75 excluded + 225 planned" in summary.stdout


def test_a_mirror_removes_what_is_listed(night: Night, api: Emulator) -> None:
    night.configure(mirror={"settle_seconds": 0.0}, guards={"max_removals": 1.0})
    uids = night.write("export.txt", 300)
    first = mirror(night)
    assert first.document["rows"]["excluded"] == 0
    some = set(sorted(uids)[:30])
    listed(night, some | {"a stranger"})
    planned = night.run("plan", "export.txt", "--exclude", "suppressed.txt", *TARGET, "--json")
    assert planned.document["plan"]["excluded"] == planned.document["plan"]["remove"] == 30
    second = mirror(night, "--exclude", "suppressed.txt")
    assert second.status == 0
    assert rows(second.document) == {"read": 300, "excluded": 30, "unchanged": 270}
    assert second.document["remove"]["accepted"] == 30
    assert api.members() == uids - some
    listed(night, set())
    third = mirror(night, "--exclude", "suppressed.txt")
    assert "the exclusion list suppressed.txt is empty" in third.stderr
    assert api.members() == uids


def test_a_list_of_all_uids_sends_nothing(night: Night, api: Emulator) -> None:
    listed(night, night.write("export.txt", 30))
    pushed = night.push("export.txt", "--exclude", "suppressed.txt")
    dry = night.push("export.txt", "--exclude", "suppressed.txt", "--dry-run")
    for ended in (pushed, dry):
        assert ended.status == 2
        assert "each uid of the export is excluded" in ended.document["reason"]
        assert rows(ended.document) == {"read": 30, "excluded": 30}
    mirrored = mirror(night, "--exclude", "suppressed.txt")
    assert mirrored.status == 4
    assert "empty: each uid of the export is excluded" in mirrored.document["reason"]
    assert rows(mirrored.document) == {"read": 30, "excluded": 30}
    assert api.received() == 0


def test_a_killed_push_goes_on_with_the_same_list_only(night: Night, api: Emulator) -> None:
    night.configure(limits={"requests": 20, "per_seconds": 2.0, "payload_bytes": 2000})
    uids = night.write("export.txt", 2000)
    some = set(sorted(uids)[::3])
    listed(night, some)
    arguments = ("export.txt", "--exclude", "suppressed.txt")
    running = night.start_push(*arguments)
    while not api.received() and running.process.poll() is None:
        pass
    running.kill()
    night.configure()
    [run] = [each["run"] for each in json.loads(night.run("runs", "--json").stdout)]
    listed(night, some | {max(uids)})
    for command in (
        night.push(*arguments),
        night.run("resume", run),
        night.push(*arguments, "--dry-run"),
    ):
        assert command.status == 2
        assert "the exclusion list has changed since run" in command.stderr
    listed(night, some)
    resumed = night.run("resume", run, "--json")
    assert resumed.status == 0
    assert resumed.document["run"] == run
    assert rows(resumed.document) == {"read": 2000, "excluded": len(some)}
    assert_balanced(resumed.document)
    assert api.members() == uids - some


def test_a_changed_list_begins_a_new_run_if_asked_to(night: Night, api: Emulator) -> None:
    uids = night.write("export.txt", 2000)
    night.configure(limits={"requests": 20, "per_seconds": 2.0, "payload_bytes": 2000})
    listed(night, {"nobody"})
    arguments = ("export.txt", "--exclude", "suppressed.txt")
    running = night.start_push(*arguments)
    while not api.received() and running.process.poll() is None:
        pass
    running.kill()
    night.configure()
    last = max(uids)
    listed(night, {last})
    dry = night.push(*arguments, "--on-changed", "restart", "--dry-run")
    ended = night.push(*arguments, "--on-changed", "restart")
    for each in (dry, ended):
        assert each.status == 0
        assert rows(each.document) == {"read": 2000, "excluded": 1}
    assert api.members() == uids - {last}
    assert [each["status"] for each in json.loads(night.run("runs", "--json").stdout)] == [
        "finished",
        "abandoned",
    ]


@pytest.mark.parametrize("command", ["push", "mirror"])
@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.txt", None, "exclusion list: none.txt: no such file"),
        ("two.csv", b"id,why\na,x\n", "exclusion list: two.csv"),
        ("odd.txt", b"a\n\xff\nb\n", "odd.txt, record 2: invalid UTF-8; an exclusion list must"),
    ],
)
def test_a_list_that_cannot_be_read_stops_the_run(
    night: Night, command: str, name: str, content: bytes | None, problem: str
) -> None:
    night.url = "http://127.0.0.1:1"
    night.configure()
    night.write("export.txt", 3)
    if content is not None:
        (night.folder / name).write_bytes(content)
    ended = night.run(command, "export.txt", "--exclude", name, *TARGET)
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
    night: Night, arguments: tuple[str, ...], problem: str
) -> None:
    night.write("export.txt", 3)
    ended = night.push("export.txt", *arguments)
    assert ended.status == 2
    assert problem in ended.stderr


def test_standard_input_is_one_of_the_two(night: Night, api: Emulator) -> None:
    uids = night.write("export.txt", 3)
    both = night.spawn_push("-", "--exclude", "-", stdin=b"a\n")
    assert both.status == 2
    assert "not both" in both.stderr
    ended = night.spawn_push("export.txt", "--exclude", "-", stdin=min(uids).encode() + b"\n")
    assert ended.status == 0
    assert api.members() == uids - {min(uids)}
