"""Leases of cohorts: one holder, tokens that grow, and a snapshot that moves by the latest one."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from shared_host import Hosts, SharedHost

from engine.coordination import leases as module
from engine.coordination.leases import Lease
from engine.errors import CohortSyncError, IncompleteError, LedgerError, LockHeldError
from engine.model.cohort import CohortKey
from engine.pacing.settings import PacingSettings
from valkey_server import ValkeyServer

KEY = CohortKey("partner", "vip")


@pytest.fixture
def hosts(valkey_server: ValkeyServer) -> Hosts:
    with valkey_server.client() as client:
        client.flushall()
    return Hosts(valkey_server.url, PacingSettings(20, 0.5))


def ignore(_: object) -> None:
    """Hear nothing."""


def leased(
    host: SharedHost, lost: Callable[[CohortSyncError], None] = ignore
) -> AbstractAsyncContextManager[Lease]:
    return host.coordination.leased(KEY, 0.0, lambda: None, ignore, lost)


async def test_a_cohort_has_one_holder(hosts: Hosts) -> None:
    async with hosts.host("a") as a, hosts.host("b") as b:
        async with leased(a) as first:
            with pytest.raises(LockHeldError, match="cohort vip is in use by process of a"):
                async with leased(b):
                    pass
        async with leased(b) as second:
            assert second.token > first.token


async def test_the_next_process_of_a_state_folder_takes_its_lease_over(hosts: Hosts) -> None:
    lost: list[CohortSyncError] = []
    async with (
        hosts.host("a") as dead,
        hosts.host("a") as alive,
        leased(dead, lost.append) as first,
        leased(alive),
    ):
        await dead.coordination.leases.renew_all()
        assert "was taken over by process of a" in lost[0].message
        with pytest.raises(IncompleteError, match="taken over"):
            await first.confirm_move(1, known=0, takes_over=False)


async def test_a_late_holder_moves_nothing(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.2)
    lost: list[CohortSyncError] = []
    async with hosts.host("a") as a, hosts.host("b") as b, leased(a, lost.append) as late:
        await asyncio.sleep(0.25)
        async with leased(b) as new:
            # Before each request, a lease that may have ended is renewed, or is lost.
            await a.coordination.ceiling.before_turn()
            assert len(lost) == 1
            await new.confirm_move(1, known=0, takes_over=False)
            with pytest.raises(IncompleteError, match="taken over by process of b"):
                await late.confirm_move(1, known=0, takes_over=False)


async def test_a_snapshot_that_moved_elsewhere_is_not_gone_by(hosts: Hosts) -> None:
    async with hosts.host("a") as a, hosts.host("b") as b:
        async with leased(a) as lease:
            lease.refuse_stale(0)
            await lease.confirm_move(1, known=0, takes_over=False)
            await lease.confirm_move(2, known=1, takes_over=False)
        async with leased(b) as lease:
            with pytest.raises(LedgerError, match="last moved from another state folder"):
                lease.refuse_stale(5)
            with pytest.raises(LedgerError, match="last moved from another state folder"):
                await lease.confirm_move(6, known=5, takes_over=False)
        async with leased(a) as lease:
            lease.refuse_stale(2)
            with pytest.raises(LedgerError):  # An old copy of the ledger.
                lease.refuse_stale(1)
        async with leased(b) as lease:
            await lease.confirm_move(6, known=5, takes_over=True)
            lease.refuse_stale(6)


async def test_a_server_that_has_lost_the_leases_gives_larger_tokens(
    hosts: Hosts, valkey_server: ValkeyServer
) -> None:
    lost: list[CohortSyncError] = []
    async with hosts.host("a") as a, hosts.host("b") as b, leased(a, lost.append) as old:
        with valkey_server.client() as client:
            client.flushall()
        await a.coordination.leases.renew_all()
        assert not lost
        with valkey_server.client() as client:
            client.flushall()
        async with leased(b) as new:
            assert isinstance(new, Lease)
            assert new.token > old.token
            await a.coordination.leases.renew_all()
            assert lost
