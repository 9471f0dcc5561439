"""Hosts share a ceiling through a real server: also while some die, and while it is away."""

import asyncio
import time
from dataclasses import replace

import pytest
from shared_host import PREFIX, Hosts, most_in_window, together

from engine.clock import Stamp, SystemClock
from engine.errors import IncompleteError
from engine.pacing.settings import PacingSettings
from valkey_server import ValkeyServer

PACING = PacingSettings(20, 0.4)


@pytest.fixture
def server(valkey_server: ValkeyServer) -> ValkeyServer:
    """Return a server on which nothing is known, and no window has to pass."""
    with valkey_server.client() as client:
        client.flushall()
        client.hset(f"{PREFIX}state", mapping={"epoch": "test", "resumes_at": 0})
    return valkey_server


@pytest.fixture
def hosts(server: ValkeyServer) -> Hosts:
    return Hosts(server.url, PACING)


async def test_hosts_stay_within_the_ceiling_by_their_weights(hosts: Hosts) -> None:
    async with hosts.host("a", weight=3) as a, hosts.host("b") as b:

        async def busy(host: object, until: float) -> None:
            while asyncio.get_running_loop().time() < until:
                await host.exchange()  # type: ignore[attr-defined]

        end = asyncio.get_running_loop().time() + 1.0
        await together(*(busy(host, end) for host in (a, a, b, b)))
        sent = sorted([*a.sent, *b.sent])
        # A pause of this process between a slot and its send may be longer than the margin.
        assert most_in_window(sent, 0.8 * PACING.per_seconds) <= PACING.requests
        assert len(a.sent) > 1.2 * len(b.sent)


async def test_a_429_of_one_host_holds_all_and_one_of_them_probes(hosts: Hosts) -> None:
    async with hosts.host("a") as a, hosts.host("b") as b:
        turn = await a.send()
        a.pacer.throttled(turn, 0.3)
        await asyncio.sleep(0.05)
        probe, _ = await asyncio.gather(b.send(), asyncio.sleep(0))
        assert probe.is_probe
        assert probe.sent_at - turn.sent_at >= 0.3
        waiting = asyncio.create_task(a.send())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        b.pacer.answered(probe, accepted=True)
        assert not (await waiting).is_probe


async def test_a_reservation_of_a_dead_process_is_given_back(
    hosts: Hosts, server: ValkeyServer
) -> None:
    async with hosts.host("a") as a:
        await a.exchange(3)
        keeper = a.coordination.ceiling._keeper
        assert keeper is not None
        keeper.cancel()
        await a.coordination.ceiling._reserve(PACING.requests)
        with server.client() as client:
            assert client.zcard(f"{PREFIX}reserved") >= 1
            async with hosts.host("b") as b:
                await b.exchange()
                client.zadd(f"{PREFIX}reserved", {"dead/1": 1})
                await b.exchange()
            assert client.zscore(f"{PREFIX}reserved", "dead/1") is None


async def test_nothing_is_sent_without_the_server_and_a_run_gives_up(
    hosts: Hosts, server: ValkeyServer
) -> None:
    async with hosts.host("a") as a:
        await a.exchange()
        server.kill()
        try:
            with pytest.raises(IncompleteError, match=r"could not be reached for 0\.5 s"):
                await a.exchange()
            assert len(a.sent) == 1
            [note] = a.notes
            assert "nothing is sent until it is there again" in note
        finally:
            server.start()


async def test_a_share_is_sent_without_the_server_a_window_later_until_it_is_there_again(
    hosts: Hosts, server: ValkeyServer
) -> None:
    async with hosts.host("a", shared_down=0.25) as a:
        await a.exchange(2)
        lost = a.sent[-1]
        server.kill()
        try:
            await a.exchange(8)
            alone = a.sent[2:]
            assert alone[0] - lost >= PACING.per_seconds
            assert most_in_window(alone, 0.8 * PACING.per_seconds) <= PACING.requests // 4
        finally:
            server.start()
        # It has lost its record, too: a window passes.
        await together(_returned(a.notes))
        last = a.sent[-1]
        await a.exchange()
        assert a.sent[-1] - last >= PACING.per_seconds * 0.9


async def test_a_server_that_has_lost_the_last_sends_is_told_of_them(server: ValkeyServer) -> None:
    async with Hosts(server.url, PacingSettings(20, 10.0)).host("a") as a:
        await a.exchange(2)
        open_turn = await a.send()
        await asyncio.sleep(0.05)
        with server.client() as client:
            known = client.zcard(f"{PREFIX}sends")
            client.delete(*(f"{PREFIX}{name}" for name in ("sends", "ends", "open", "reserved")))
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            a.pacer.answered(open_turn, accepted=True)
            async with asyncio.timeout(5):
                while client.zcard(f"{PREFIX}ends") < 3:  # noqa: ASYNC110 - of a server
                    await asyncio.sleep(0.02)
            assert 3 <= client.zcard(f"{PREFIX}sends") <= known
            assert client.zcard(f"{PREFIX}open") == 0


async def _returned(notes: list[str]) -> None:
    while not any("is there again" in note for note in notes):  # noqa: ASYNC110 - a list
        await asyncio.sleep(0.02)


async def test_hours_go_by_the_clock_of_the_server(server: ValkeyServer) -> None:
    class LateClock(SystemClock):
        def stamp(self) -> Stamp:
            found = super().stamp()
            return replace(found, utc_ns=found.utc_ns - 5_000_000_000)

    hosts = Hosts(server.url, PACING, clock=LateClock())
    async with hosts.host("a") as a:
        await a.exchange()
        assert abs(a.pacer._utc_ns() - time.time_ns()) < 1_000_000_000
