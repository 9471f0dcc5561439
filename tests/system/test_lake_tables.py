"""Whole runs on a Delta table: a push goes on at its version, a sync mirrors the latest one."""

import json
import signal

import pyarrow as pa
from clean_room import until
from configured_sync import cohort, configure, statuses, sync
from deltalake import write_deltalake
from emulated_api import COHORT, Emulator
from nightly import CommandLine, assert_balanced

SLOW = {"requests": 10, "per_seconds": 2.0}


def write(cli: CommandLine, uids: range) -> set[str]:
    """Write a version that has these uids alone; return them."""
    names = [f"user-{number:012}" for number in uids]
    data = pa.table({"uid": names, "score": [0.5] * len(names)})
    write_deltalake(cli.folder / "vip", data, mode="overwrite")
    return {*names}


def test_a_push_goes_on_at_the_version_that_it_began_with(cli: CommandLine, api: Emulator) -> None:
    first = write(cli, range(1_000))
    [data] = (cli.folder / "vip").glob("*.parquet")
    cli.configure(limits=SLOW)
    running = cli.start_push("delta:vip", "--column", "uid")
    until(lambda: api.received() >= 2, "two requests were sent")
    running.process.send_signal(signal.SIGTERM)
    began = running.wait()
    assert began.status == 75
    cli.configure()
    write(cli, range(5_000, 5_010))
    moved = data.rename(cli.folder / "moved")  # As by a vacuum.
    gone = cli.run("resume", "--json")
    assert gone.status == 2
    assert "delta:vip@0: files of this version were deleted, as by a vacuum" in gone.stderr
    assert "hint: name a later version" in gone.stderr
    moved.rename(data)
    ended = cli.push("delta:vip@0", "--column", "uid")
    assert (ended.status, ended.document["run"]) == (0, began.document["run"])
    assert api.members() == first
    assert_balanced(ended.document)
    [file] = json.loads(cli.run("show", "latest", "--json").stdout)["files"]
    assert (file["name"], file["uids"]) == ("delta:vip@0", 1_000)
    assert "delta:vip@0" in cli.run("show", "latest").stdout


def test_a_sync_mirrors_the_latest_version_and_knows_when_there_is_none_new(
    cli: CommandLine, api: Emulator
) -> None:
    configure(
        cli,
        {COHORT: cohort("delta:vip", column="uid") | {"name": "VIP"}},
        mirror={"settle_seconds": 0.0},
    )
    missing = sync(cli)
    assert statuses(missing) == {"night": ("missing", 2)}
    for uids in (range(500), range(100, 520)):
        members = write(cli, uids)
        assert statuses(sync(cli)) == {"night": ("finished", 0)}
        assert api.members() == members
        assert statuses(sync(cli)) == {"night": ("up_to_date", 0)}
    assert "night: 1 file" in cli.run("check").stdout
    shown = cli.run("source", "preview", "night", "--limit", "1")
    assert f"source delta:{cli.folder}/vip@1, the export of cohort night" in shown.words
