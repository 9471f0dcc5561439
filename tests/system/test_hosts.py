"""Processes with state folders of their own, as on several hosts, share a ceiling and cohorts."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from clean_room import ROOT, until
from emulated_api import Emulator
from nightly import TARGET, CommandLine, assert_balanced

from valkey_server import ValkeyServer, server_program

Host = Callable[..., CommandLine]
NAMED = ("--cohort-name", "C")


@pytest.fixture
def server(valkey_server: ValkeyServer) -> ValkeyServer:
    return valkey_server


@pytest.fixture
def host(api: Emulator, server: ValkeyServer, tmp_path: Path) -> Iterator[Host]:
    """Make a host: a folder with a configuration of its own."""
    with server.client() as client:
        client.flushall()
    with ExitStack() as stack:

        def make(name: str, **limits: object) -> CommandLine:
            folder = tmp_path / name
            folder.mkdir()
            cli = CommandLine(folder, api.url)
            stack.callback(cli.end)
            cli.configure(limits={"shared": server.url, **limits}, mirror={"settle_seconds": 0.0})
            return cli

        yield make


@pytest.mark.slow
def test_hosts_stay_within_one_ceiling_and_use_it(
    host: Host, api: Emulator, server: ValkeyServer
) -> None:
    hosts = [host(name) for name in ("a", "b")]
    planned = [cli.write(f"{number}.txt", 12_000) for number, cli in enumerate(hosts)]
    running = [
        cli.start("push", f"{number}.txt", "--cohort-id", f"c{number}", *NAMED, "--json")
        for number, cli in enumerate(hosts)
    ]
    ends = [each.wait() for each in running]
    assert [each.status for each in ends] == [0, 0], [each.stderr for each in ends]
    for number, ended in enumerate(ends):
        assert_balanced(ended.document)
        assert api.members(f"c{number}") == planned[number]
    shown = hosts[0].run("status")
    assert f"the ceiling shared at {server.url}/0: " in shown.stdout
    [use] = hosts[0].run("status", "--json").document["shared_ceilings"]
    assert use["used"] <= use["requests"] == 300
    assert "of 300 requests in the last 2 s, by " in hosts[0].run("check").words
    report = api.report()
    assert not report["breaches"]
    assert set(report["requests"]["by_status"]) == {"200"}
    others = [each.document["ceiling_spending"]["other_processes"] for each in ends]
    assert max(others) > 100


@pytest.mark.slow
def test_a_cohort_of_one_host_is_refused_to_another(host: Host, api: Emulator) -> None:
    first, second = host("a", requests=2), host("b", requests=2)
    for cli in (first, second):
        cli.write("export.txt", 2_000)
    running = first.start("mirror", "export.txt", *TARGET, "--json")
    until(lambda: api.received() >= 1, "it sends")
    ended = second.run("mirror", "export.txt", *TARGET, "--json")
    assert ended.status == 75
    assert f"process {running.process.pid} on " in ended.stderr
    running.kill()


def test_a_snapshot_of_one_host_moves_on_another_only_after_it_was_brought_there(
    host: Host, api: Emulator
) -> None:
    first, second = host("a"), host("b")
    planned = first.write("export.txt", 500)
    second.write("export.txt", 500)
    assert first.run("mirror", "export.txt", *TARGET, "--json").status == 0
    received = api.received()
    for command in ("mirror", "plan", "push"):
        ended = second.run(command, "export.txt", *TARGET, "--json")
        assert ended.status == 2, ended.stderr
        assert "was last moved from another state folder" in ended.stderr
        assert "snapshot import" in ended.stderr
    assert api.received() == received
    cohort = ("--cohort-id", TARGET[1])
    file = str(second.folder / "snapshot.parquet")
    assert first.run("snapshot", "export", file, *cohort).status == 0
    ended = second.run("snapshot", "import", file, *cohort)
    assert ended.status == 0, ended.stderr
    second.write("more.txt", 10)
    ended = second.run("push", "more.txt", *TARGET, "--record", "--json")
    assert ended.status == 0, ended.stderr
    assert second.run("snapshot", "verify", *cohort).status == 0
    # And now the first one is out of date.
    assert first.run("mirror", "export.txt", *TARGET, "--json").status == 2
    assert planned < api.members()


@pytest.mark.slow
def test_a_run_whose_cohort_was_taken_over_moves_no_snapshot_and_nothing_is_lost(
    host: Host, api: Emulator, server: ValkeyServer
) -> None:
    cli = host("a")
    planned = cli.write("export.txt", 8_000)
    running = cli.start("mirror", "export.txt", *TARGET, "--json")
    until(lambda: api.received() >= 1, "it sends")
    with server.client() as client:
        [lease] = client.keys("*:cohort:*")
        token = client.hget(lease, "token")
        client.hset(lease, mapping={"token": 1 << 52, "holder": "process 9 on elsewhere"})
        ended = running.wait()
        assert ended.status == 75, ended.stderr
        assert "was taken over by process 9 on elsewhere" in ended.stderr
        client.hset(lease, mapping={"token": token or 0, "until": 0})
    received = api.received()
    ended = cli.run("mirror", "export.txt", *TARGET, "--json")
    assert ended.status == 0, ended.stderr
    assert api.members() == planned
    assert api.received() - received < 30
    assert cli.run("snapshot", "verify", "--cohort-id", TARGET[1]).status == 0


@pytest.mark.slow
def test_without_the_server_nothing_is_sent(host: Host, api: Emulator) -> None:
    cli = host("a", shared="redis://127.0.0.1:1")
    cli.write("export.txt")
    ended = cli.push("export.txt")
    assert ended.status == 75
    assert "redis://127.0.0.1:1/0 cannot be reached" in ended.stderr
    assert not api.received()
    other = host("b", requests=100)
    with ExitStack() as stack:
        first = host("c", requests=2)
        first.write("export.txt", 2_000)
        running = first.start("push", "export.txt", "--cohort-id", "x", "--cohort-name", "X")
        stack.callback(running.kill)
        until(lambda: api.received() >= 1, "it sends")
        other.write("export.txt")
        ended = other.push("export.txt")
        assert ended.status == 2
        assert "share a ceiling of 2 in 2 s, and this one is configured with 100 in 2 s" in (
            ended.stderr
        )


@pytest.mark.slow
def test_a_ceiling_is_shared_for_five_minutes_of_disturbances(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server_program()
    command = [sys.executable, "benchmarks/shared_ceiling.py", "--seconds", "300"]
    command += ["--requests", "300", "--per-seconds", "60"]
    if os.geteuid() == 0 and shutil.which("ip"):
        command.append("--namespaces")
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    with capsys.disabled():
        print(f"\n{ended.stdout}")  # noqa: T201 - the proof's figures
    assert ended.returncode == 0, ended.stdout + ended.stderr
