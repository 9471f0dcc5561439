"""What users, disks and signals do to mirrors: a clear end, the right status, nothing lost."""

import gzip
import json
import os
import random
import signal
import subprocess
from collections import namedtuple
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clean_room import ENGINE, PATIENCE_SECONDS, environment, until
from emulated_api import COHORT, Emulator
from nightly import TARGET, CommandLine, Ended

COHORT_ID = ("--cohort-id", COHORT)
AT_ONCE = {"settle_seconds": 0.0}
ROOMY = {"payload_bytes": 128_000}


def mirror(cli: CommandLine, *arguments: str) -> Ended:
    return cli.run("mirror", *arguments, *TARGET, "--json")


def write(cli: CommandLine, start: int, end: int, name: str = "export.txt") -> set[str]:
    uids = [f"uid-{number:06}" for number in range(start, end)]
    (cli.folder / name).write_text("".join(f"{uid}\n" for uid in uids))
    return set(uids)


def write_many(cli: CommandLine, rows: int) -> None:
    chance = random.Random(rows)
    with (cli.folder / "export.txt").open("w") as file:
        file.writelines(f"{chance.randbytes(12).hex()}\n" for _ in range(rows))


def test_an_export_that_breaks_off_is_reported_whatever_stood_before(cli: CommandLine) -> None:
    whole = gzip.compress("".join(f"uid-{n:06}\n\n" for n in range(200_000)).encode())
    (cli.folder / "export.txt.gz").write_bytes(whole[: len(whole) // 2])
    ended = mirror(cli, "export.txt.gz")
    assert ended.status == 2
    assert ended.document["status"] == "source_failed"
    rows = ended.document["rows"]
    assert rows["read"] >= rows["blank"] > 0


def test_a_signal_while_it_reads_is_a_stop_whatever_was_read(cli: CommandLine) -> None:
    running = cli.start("mirror", "-", *TARGET, "--format", "text", "--json", stdin=PIPE)
    assert running.process.stdin is not None
    with running.process.stdin as pipe:
        pipe.write(b"a-uid\n\nanother\n" * 200_000)
        pipe.flush()
        until(lambda: "reading the export" in running.stderr, "it reads")
        running.process.send_signal(signal.SIGTERM)
        ended = running.wait()
    assert ended.status == 75


def test_a_signal_while_it_compares_is_a_stop(cli: CommandLine) -> None:
    cli.configure(plan={"memory_megabytes": 64, "threads": 1}, limits=ROOMY)
    write_many(cli, 1_000_000)
    running = cli.start("mirror", "export.txt", *TARGET, "--json")
    until(lambda: "comparing" in running.stderr, "it compares")
    running.process.send_signal(signal.SIGHUP)
    ended = running.wait()
    assert ended.status == 75
    assert "SIGHUP received" in ended.document["reason"]


def test_a_disk_with_too_little_room_is_reported_before_it_compares(
    cli: CommandLine, api: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - what shutil returns
    monkeypatch.setattr("engine.storage.capacity.shutil.disk_usage", lambda _: usage(1, 1, 1))
    write(cli, 0, 10)
    ended = mirror(cli, "export.txt")
    assert ended.status == 75
    assert "GB are free" in ended.document["reason"]
    assert api.received() == 0


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [50, 300, 700, 1000, 1100, 1400, 1700, 2000, 2500, 4000])
def test_too_little_address_space_is_reported(cli: CommandLine, megabytes: int) -> None:
    cli.configure(mirror=AT_ONCE)
    write(cli, 0, 50_000)
    assert mirror(cli, "export.txt").status == 0
    assert cli.run("snapshot", "export", "x.parquet", *COHORT_ID).status == 0
    limited = ("bash", "-c", f'ulimit -v {megabytes * 1000}; exec "$@"', "bash", *ENGINE)
    for command in (
        ("plan", "export.txt", *TARGET),
        ("snapshot", "import", "x.parquet", *COHORT_ID),
    ):
        ended = subprocess.run(
            [*limited, *command, "--json"],
            capture_output=True,
            env=environment(cli.folder),
            cwd=cli.folder,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        stderr = ended.stderr.decode()
        assert "Traceback" not in stderr
        assert ended.returncode == 0 or (ended.returncode == 75 and "hint" in stderr), stderr


def test_a_folder_that_takes_no_temporary_files_is_reported(cli: CommandLine) -> None:
    (cli.folder / "a-file").write_text("x")
    cli.configure(plan={"spill_dir": str(cli.folder / "a-file" / "spill")})
    write(cli, 0, 10)
    ended = mirror(cli, "export.txt")
    assert ended.status == 2
    assert "plan.spill_dir" in ended.document["reason"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at the open files in /proc")
def test_what_is_compared_is_for_its_owners_eyes_and_does_not_stay(cli: CommandLine) -> None:
    spill = cli.folder / "spill"
    spill.mkdir()
    cli.configure(plan={"spill_dir": str(spill), "memory_megabytes": 64}, limits=ROOMY)
    write_many(cli, 600_000)
    running = cli.start("plan", "export.txt", *TARGET, "--json")
    modes: set[int] = set()

    def look() -> bool:
        for path in Path(f"/proc/{running.process.pid}/fd").glob("*"):
            with suppress(OSError):  # closed between the two looks
                if str(path.readlink()).startswith(f"{spill}/"):
                    modes.add(path.stat().st_mode & 0o777)
        return bool(modes) or running.process.poll() is not None

    until(look, "a file is open there")
    assert modes == {0o600}
    assert list(spill.iterdir()) == []  # It has no name, so that a killed process leaves nothing.
    running.kill()
    assert list(spill.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("mirror", "settle_seconds", "1e12"),
        ("mirror", "settle_seconds", "inf"),
        ("plan", "memory_megabytes", "99999999999999"),
        ("plan", "threads", "100000"),
        ("mirror", "keep_generations", "99999999999999999999"),
        ("guards", "max_removals", "[]"),
        ("guards", "max_removals", "[1, 2, 3]"),
    ],
)
def test_a_setting_beyond_all_bounds_is_reported(
    cli: CommandLine, table: str, key: str, value: str
) -> None:
    with (cli.folder / "config.toml").open("a") as file:
        file.write(f"\n[{table}]\n{key} = {value}\n")
    write(cli, 0, 10)
    ended = mirror(cli, "export.txt")
    assert ended.status == 2
    assert f"`{table}.{key}`" in ended.stderr


def snapshot_of(**columns: Any) -> pa.Table:  # noqa: ANN401 - arrays
    right = {
        "uid": pa.array([b"a"], pa.binary()),
        "state": pa.array([1], pa.uint8()),
        "run": pa.array([1], pa.int32()),
    }
    return pa.table(right | columns)


@pytest.mark.parametrize(
    "table",
    [
        snapshot_of(uid=[1]),
        snapshot_of(uid=["a"]),
        snapshot_of(uid=pa.array([b"\xff\xfe"], pa.binary())),
        snapshot_of(uid=pa.array([None], pa.binary())),
        snapshot_of(state=pa.array([None], pa.uint8())),
        snapshot_of(state=pa.array([9], pa.uint8())),
        snapshot_of(run=["x"]),
        pa.concat_tables([snapshot_of(), snapshot_of()]),
        pa.table({"uid": ["a"]}),
    ],
)
def test_a_file_that_is_no_snapshot_is_not_imported(cli: CommandLine, table: pa.Table) -> None:
    required = [pa.field(field.name, field.type, nullable=False) for field in table.schema]
    is_null = any(column.null_count for column in table.columns)
    written = table if is_null else table.cast(pa.schema(required))
    pq.write_table(written, cli.folder / "x.parquet")
    refused = cli.run("snapshot", "import", "x.parquet", *COHORT_ID)
    assert refused.status == 2
    assert "x.parquet" in refused.stderr


def test_a_snapshot_of_another_cohort_is_not_imported(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror=AT_ONCE)
    write(cli, 0, 10)
    assert mirror(cli, "export.txt").status == 0
    assert cli.run("snapshot", "export", "x.parquet", *COHORT_ID).status == 0
    refused = cli.run("snapshot", "import", "x.parquet", "--cohort-id", "another")
    assert refused.status == 2
    assert f"of cohort {COHORT}" in refused.stderr
    assert len(api.members()) == 10


def test_names_of_files_that_cannot_be_are_reported(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror=AT_ONCE)
    write(cli, 0, 10)
    assert mirror(cli, "export.txt").status == 0
    assert api.received()
    for path in ("x" * 300, "nowhere/x.parquet", "export.txt/x.parquet", "export.txt", "-"):
        assert cli.run("snapshot", "export", path, *COHORT_ID).status == 2
    for path in ("missing.parquet", "export.txt", "."):
        assert cli.run("snapshot", "import", path, *COHORT_ID).status == 2


@pytest.mark.parametrize(
    "command",
    [
        ("snapshot", "list"),
        ("snapshot", "compare", "export.txt"),
        ("snapshot", "adopt", "export.txt"),
        ("why", "x"),
        ("rollback", "--to", "1"),
    ],
)
def test_a_cohort_id_that_none_can_have_is_reported(
    cli: CommandLine, command: tuple[str, ...]
) -> None:
    write(cli, 0, 10)
    for bad in (" ", "a\nb"):
        ended = cli.run(*command, "--cohort-id", bad)
        assert ended.status == 2
        assert "error: --cohort-id" in ended.stderr
    # Only a stderr of its own refuses what is no text.
    ended = cli.spawn(*command, "--cohort-id", os.fsdecode(b"\xff"))
    assert ended.status == 2
    assert "error: --cohort-id" in ended.stderr


@pytest.mark.parametrize("partner", ["中" * 29, "..", "."])
def test_any_partner_has_a_folder_of_its_own(cli: CommandLine, api: Emulator, partner: str) -> None:
    cli.configure(workspace={"partner": partner}, mirror=AT_ONCE)
    wanted = write(cli, 0, 10)
    assert mirror(cli, "export.txt").status == 0
    assert api.members() == wanted
    [file] = cli.folder.glob("state/*/*/snapshots/*/*/*.parquet")
    assert file.name == "000001.parquet"


def test_an_envelope_that_leaves_no_room_is_reported_before_it_reads(cli: CommandLine) -> None:
    cli.configure(limits={"payload_bytes": 100})
    write(cli, 0, 10)
    ended = mirror(cli, "export.txt")
    assert ended.status == 2
    assert "payload_bytes" in ended.document["reason"]
    assert not cli.ledger_files()


def test_a_malformed_proxy_is_reported_before_a_run_is_entered(cli: CommandLine) -> None:
    cli.configure(workspace={"endpoint": "https://api.invalid"})
    cli.variables["HTTPS_PROXY"] = "http://[bad"
    write(cli, 0, 10)
    ended = mirror(cli, "export.txt")
    assert ended.status == 2
    assert "HTTPS_PROXY" in ended.document["reason"]
    assert not cli.ledger_files()


def test_a_list_without_uids_reconciles_nothing(cli: CommandLine, api: Emulator) -> None:
    cli.configure(mirror=AT_ONCE)
    write(cli, 0, 100)
    assert mirror(cli, "export.txt").status == 0
    (cli.folder / "list.csv").write_text("uid\n")
    for command in ("adopt", "reconcile"):
        assert cli.run("snapshot", command, "list.csv", *COHORT_ID).status == 2
    (cli.folder / "list.csv").write_bytes(b"uid,x\n\xff,4\nb,5,5\nc,1\n")
    refused = cli.run("snapshot", "reconcile", "list.csv", "--column", "uid", *COHORT_ID)
    assert refused.status == 4
    taken = cli.run("snapshot", "adopt", "list.csv", "--column", "uid", *COHORT_ID, "--json")
    assert taken.status == 0
    [row] = json.loads(taken.stdout)
    assert row["rows"] == {"read": 3, "blank": 0, "invalid": 2}
    write(cli, 10, 100)
    assert mirror(cli, "export.txt").status == 0
    assert len(api.members()) == 90


def test_a_signal_ends_the_reading_of_a_list(cli: CommandLine) -> None:
    for command in ("adopt", "reconcile"):
        running = cli.start(*("snapshot", command, "-", "--format", "text", *COHORT_ID), stdin=PIPE)
        assert running.process.stdin is not None
        with running.process.stdin as pipe:
            pipe.write(b"a-uid\n" * 100_000)
            pipe.flush()
            until(lambda: any(cli.folder.rglob("*-list-*/*")), "it reads")
            running.process.send_signal(signal.SIGINT)
            assert running.wait().status == 75
        assert not list(cli.folder.rglob("snapshots/*/*/*"))


def test_nobody_waits_to_look_at_snapshots(cli: CommandLine) -> None:
    write(cli, 0, 100)
    assert mirror(cli, "export.txt").status == 0
    write(cli, 10, 100)
    running = cli.start("mirror", "export.txt", *TARGET, "--json")
    until(lambda: "may apply earlier changes" in running.stderr, "it waits")
    for command in (("list",), ("verify",), ("compare", "export.txt"), ("export", "x.parquet")):
        assert cli.run("snapshot", *command, *COHORT_ID).status == 0
    busy = cli.run("snapshot", "adopt", "export.txt", *COHORT_ID)
    assert busy.status == 75
    running.process.send_signal(signal.SIGTERM)
    assert running.wait().status == 75


@pytest.mark.parametrize("command", ["mirror", "push"])
@pytest.mark.parametrize("stderr", ["/dev/full", "closed", "gone"])
def test_a_run_that_nobody_can_hear_goes_on(
    cli: CommandLine, api: Emulator, command: str, stderr: str
) -> None:
    wanted = write(cli, 0, 200)
    redirected = {"/dev/full": "2>/dev/full", "closed": "2>&-", "gone": "2> >(exec true)"}[stderr]
    line = f'"$@" {redirected}'
    done = subprocess.run(
        ["bash", "-c", line, "bash", *ENGINE, command, "export.txt", *TARGET, "--json"],
        capture_output=True,
        env=environment(cli.folder),
        cwd=cli.folder,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["exit_status"] == 0
    assert api.members() == wanted


def test_a_stdout_that_was_closed_is_nobodys_file(cli: CommandLine, api: Emulator) -> None:
    wanted = write(cli, 0, 200)
    done = subprocess.run(
        ["bash", "-c", '"$@" >&-', "bash", *ENGINE, "mirror", "export.txt", *TARGET, "--json"],
        stderr=PIPE,
        env=environment(cli.folder),
        cwd=cli.folder,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert api.members() == wanted
    [path] = cli.ledger_files()
    assert path.read_bytes().startswith(b"SQLite format 3\0")
    assert cli.run("runs").status == 0


def test_known_rejects_are_listed_each_run(cli: CommandLine, emulate: Any) -> None:  # noqa: ANN401 - a fixture
    api = emulate("--poison", "uid-000003")
    cli.url = api.url
    cli.configure(mirror=AT_ONCE)
    write(cli, 0, 10)
    assert mirror(cli, "export.txt").status == 1
    again = mirror(cli, "export.txt")
    assert again.status == 0
    [reject] = cli.rejects(again.document["run"])
    assert (reject["kind"], reject["uid"]) == ("rejected", "uid-000003")
    assert "left alone" in reject["reason"]
    assert reject["request_id"]


def test_the_folder_of_a_run_that_was_killed_before_its_plan_goes(cli: CommandLine) -> None:
    cli.configure(mirror={**AT_ONCE, "keep_generations": 1})
    write(cli, 0, 3_000)
    die = (
        "import os, engine.runs.planner as p\n"
        "async def die(*a): os.kill(os.getpid(), 9)\n"
        "p.Planner._facts = die\n"
        "from engine.cli.application import main\n"
        "main()"
    )
    subprocess.run(
        [ENGINE[0], "-c", die, "mirror", "export.txt", *TARGET],
        env=environment(cli.folder),
        cwd=cli.folder,
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert list(cli.folder.glob("state/*/*/plans/*/adds.parquet"))
    for start in range(4):
        write(cli, start, 3_000 + start)
        assert mirror(cli, "export.txt").status == 0
    assert len(list(Path(cli.folder).glob("state/*/*/plans/*"))) <= 2
