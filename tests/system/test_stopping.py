"""Every stop is a drain; a second one cancels."""

import signal
from collections.abc import Callable
from subprocess import PIPE

import pytest
from clean_room import is_waiting, until
from emulated_api import Emulator
from nightly import TARGET, CommandLine, assert_balanced

UIDS = 1_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_the_next_command_finishes(
    cli: CommandLine, emulate: Callable[..., Emulator], number: signal.Signals
) -> None:
    api = emulate("--latency-ms", "300")
    cli.url = api.url
    cli.configure()
    planned = cli.write("export.txt", UIDS)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 3, "several requests are under way")
    running.process.send_signal(number)
    ended = running.wait()
    accounts = ended.document
    assert ended.status == 75
    assert accounts["status"] == "incomplete"
    assert f"{number.name} received" in accounts["reason"]
    assert accounts["uids"]["unconfirmed"] == 0, "what was under way was waited for"
    assert accounts["requests"]["sent"] == accounts["requests"]["accepted"] == api.received()
    assert_balanced(accounts)
    assert "hint: run the same command again" in ended.stderr
    last = cli.push("export.txt")
    assert (last.status, last.document["run"]) == (0, accounts["run"])
    assert api.members() == planned
    assert last.document["requests"]["retried"] == 0


def test_a_second_signal_cancels_what_is_under_way(
    cli: CommandLine, emulate: Callable[..., Emulator]
) -> None:
    api = emulate("--fault-at", "hang=2-3")
    cli.url = api.url
    cli.configure()
    planned = cli.write("export.txt", UIDS)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 3, "two requests hang")
    running.process.send_signal(signal.SIGTERM)
    until(lambda: "event=stopping" in running.stderr, "it drains")
    running.process.send_signal(signal.SIGTERM)
    ended = running.wait()
    accounts = ended.document
    assert ended.status == 75
    assert accounts["batches"]["unconfirmed"] >= 2
    assert_balanced(accounts)
    last = cli.push("export.txt")
    assert last.status == 0
    assert last.document["requests"]["retried"] == accounts["batches"]["unconfirmed"]
    assert api.members() == planned


def test_a_drain_ends_at_its_deadline(cli: CommandLine, emulate: Callable[..., Emulator]) -> None:
    api = emulate("--fault-at", "hang=2")
    cli.url = api.url
    cli.configure(delivery={"drain_seconds": 0.2})
    cli.write("export.txt", UIDS)
    running = cli.start_push("export.txt")
    until(lambda: api.received() >= 2, "a request hangs")
    running.process.send_signal(signal.SIGTERM)
    ended = running.wait()
    assert ended.status == 75
    assert ended.document["batches"]["unconfirmed"] >= 1
    assert_balanced(ended.document)


@pytest.mark.parametrize("sent", [b"", b"a-uid\nanother\n" * 500])
def test_a_signal_ends_the_wait_for_a_pipe_that_says_nothing_more(
    cli: CommandLine, api: Emulator, sent: bytes
) -> None:
    running = cli.start("push", "-", *TARGET, "--format", "text", "--json", stdin=PIPE)
    pipe = running.process.stdin
    assert pipe is not None
    with pipe:
        pipe.write(sent)
        pipe.flush()
        if sent:
            until(lambda: api.received() >= 1, "what was piped so far is on its way")
        else:
            until(lambda: is_waiting(running.process.pid), "it waits for the pipe")
        running.process.send_signal(signal.SIGTERM)
        ended = running.wait()
    assert ended.status == 75
    assert "SIGTERM received" in ended.document["reason"]
