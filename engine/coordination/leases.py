"""Leases of cohorts: of all hosts, one process works on a cohort.

A lease ends by itself if it is not renewed. Each has a token, larger than that of every earlier
one, and the server checks it when the cohort's snapshot moves. It also keeps which ledger has moved
the snapshot last: another ledger does not know what that one has sent.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256

from engine.clock import Clock
from engine.coordination.server import Reply, Server, UnreachableError
from engine.errors import CohortSyncError, IncompleteError, LedgerError, LockHeldError
from engine.model.cohort import CohortKey

LEASE_SECONDS = 30.0
"""How long a lease lasts without a renewal."""
RENEW_SECONDS = LEASE_SECONDS / 3
_MOVE_SECONDS = 10.0
"""How long a move waits for a server that cannot be reached."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who works on cohorts: the process, its state folder and its ledger."""

    folder: str
    """Identifies the state folder on this boot of this machine: its lock excludes others."""
    ledger: str
    """Identifies the ledger, wherever its folder lies."""
    process: str
    """The process, for messages."""


@dataclass(frozen=True, slots=True)
class LastMove:
    """The last move of a cohort's snapshot that the server knows."""

    ledger: str
    generation: int
    process: str
    utc_us: int
    """When it was, by the server's clock, in microseconds since 1970."""


@dataclass(slots=True)
class Lease:
    """The right of this process to work on one cohort."""

    leases: "Leases"
    key: CohortKey
    lost: Callable[[CohortSyncError], None]
    """Is called once another process has taken the cohort over."""
    token: int = 0
    """0 while the server has not given one: it could not be reached, and need not be by setting."""
    last_move: LastMove | None = None
    renewed_at: float = 0.0
    """In seconds since the boot."""
    error: CohortSyncError | None = None
    _keeper: asyncio.Task[None] | None = field(default=None)

    def refuse_stale(self, known: int) -> None:
        """Raise `LedgerError` if another ledger has moved the snapshot last.

        `known` is the latest generation that the ledger here knows; a copy of it may know less.
        """
        last = self.last_move
        if last is None:
            return
        if last.ledger != self.leases.owner.ledger or last.generation > known:
            raise _elsewhere(self.key, last)

    async def confirm_move(self, generation: int, *, known: int, takes_over: bool) -> None:
        """Tell the server that the snapshot moves; the ledger's own entry follows.

        A move that `takes_over` replaces the snapshot as a whole, also that of another ledger.
        Raises `LedgerError` as `refuse_stale`, and `IncompleteError` if the lease is lost, or the
        server cannot be reached.
        """
        if not takes_over:
            self.refuse_stale(known)
        for remaining in range(int(_MOVE_SECONDS / _POLL_SECONDS), -1, -1):
            try:
                await self.leases.move(self, generation)
            except UnreachableError as error:
                if not remaining:
                    raise IncompleteError(
                        f"the snapshot of cohort {self.key.cohort_id} does not move while "
                        f"{error.message}",
                        hint="nothing is lost: run the same command again when the server is there",
                    ) from None
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return


class Leases:
    """The leases of one workspace's cohorts."""

    def __init__(self, server: Server, prefix: str, owner: Owner, clock: Clock) -> None:
        """`prefix` begins the names of the keys."""
        self.owner = owner
        self._server = server
        self._prefix = prefix
        self._clock = clock
        self._held: list[Lease] = []

    async def acquire(
        self,
        lease: Lease,
        seconds: float,
        stop_reason: Callable[[], str | None],
        waiting: Callable[[str], None],
        *,
        is_needed: bool,
    ) -> None:
        """Wait up to `seconds` for a cohort; the lease is renewed until `release`.

        Raises `LockHeldError`, which names the holder, `IncompleteError` if the wait is stopped,
        and, if a lease `is_needed`, `UnreachableError`.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        is_announced = False
        while (holder := await self._try(lease, is_needed=is_needed)) is not None:
            if (reason := stop_reason()) is not None:
                raise IncompleteError(reason, hint="run the same command again to go on")
            if loop.time() - begun >= seconds:
                raise LockHeldError(
                    f"cohort {lease.key.cohort_id} is in use by {holder}",
                    hint="pass --wait SECONDS to wait for it, or run the command again later",
                )
            if not is_announced:
                waiting(holder)
                is_announced = True
            await asyncio.sleep(_POLL_SECONDS)
        self._held.append(lease)
        lease._keeper = asyncio.create_task(self._keep(lease))  # noqa: SLF001 - made here

    async def _try(self, lease: Lease, *, is_needed: bool) -> str | None:
        """Take the lease if it is free; return who holds it otherwise."""
        try:
            reply = await self._step("acquire", lease)
        except UnreachableError:
            if is_needed:
                raise
            return None
        if reply[0] == b"held":
            return str(reply[2].decode())
        lease.token, lease.last_move = reply[1], _last_move(reply[2:])
        return None

    async def release(self, lease: Lease) -> None:
        """Give a lease back; raises nothing."""
        if lease in self._held:
            self._held.remove(lease)
        if lease._keeper is not None:  # noqa: SLF001 - made here
            lease._keeper.cancel()  # noqa: SLF001 - made here
        if lease.token and lease.error is None:
            with suppress(Exception):
                await self._step("release", lease)

    async def move(self, lease: Lease, generation: int) -> None:
        """Enter a move of the snapshot; raises `IncompleteError`, and `UnreachableError`."""
        await self._renew(lease)
        if lease.error is None:
            self._check(lease, await self._step("move", lease, generation))
        if lease.error is not None:
            raise lease.error
        lease.last_move = LastMove(self.owner.ledger, generation, self.owner.process, 0)

    async def renew_overdue(self) -> None:
        """Renew each lease that may have ended; raises `UnreachableError`."""
        now = self._now()
        for lease in tuple(self._held):
            if lease.error is None and now - lease.renewed_at >= LEASE_SECONDS - RENEW_SECONDS / 2:
                await self._renew(lease)

    async def renew_all(self) -> None:
        """Renew each lease; those that others have taken over are lost."""
        for lease in tuple(self._held):
            await self._renew(lease)

    async def _renew(self, lease: Lease) -> None:
        """Renew a lease; one without a token is acquired, or is lost."""
        if lease.error is not None:
            return
        if lease.token:
            self._check(lease, await self._step("renew", lease))
            return
        reply = await self._step("acquire", lease)
        if reply[0] == b"held":
            self._lose(lease, reply[2].decode())
            return
        lease.token, lease.last_move = reply[1], _last_move(reply[2:])
        last = lease.last_move
        if last is not None and last.ledger != self.owner.ledger:
            lease.error = _elsewhere(lease.key, last)
            lease.lost(lease.error)

    async def _keep(self, lease: Lease) -> None:
        while lease.error is None:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(CohortSyncError):  # The ceiling tells of a server that is away.
                await self._renew(lease)

    def _check(self, lease: Lease, reply: Reply) -> None:
        if reply[0] == b"lost":
            self._lose(lease, reply[2].decode())

    def _lose(self, lease: Lease, holder: str) -> None:
        lease.error = IncompleteError(
            f"cohort {lease.key.cohort_id} was taken over by {holder}",
            hint="the snapshot has not moved, and nothing is lost; run the command again when that "
            "process has ended",
        )
        lease.lost(lease.error)

    async def _step(self, operation: str, lease: Lease, *arguments: object) -> Reply:
        began = self._now()
        owner = self.owner
        values = [owner.ledger, *arguments] if arguments else []
        reply = await self._server.run(
            "lease",
            [f"{self._prefix}cohort:{_digest(lease.key)}"],
            [
                *(operation, owner.folder, owner.process),
                *(round(LEASE_SECONDS * 1e6), lease.token, *values),
            ],
        )
        if reply[0] == b"yours":
            lease.renewed_at = began
        return reply

    def _now(self) -> float:
        return self._clock.stamp().boot_ns / 1e9


def _last_move(values: Reply) -> LastMove | None:
    ledger, generation, process, moved_us = values
    if not ledger:
        return None
    return LastMove(ledger.decode(), generation, process.decode(), moved_us)


def _digest(key: CohortKey) -> str:
    return sha256(f"{key.partner}\n{key.cohort_id}".encode()).hexdigest()[:32]


def _elsewhere(key: CohortKey, last: LastMove) -> LedgerError:
    return LedgerError(
        f"the snapshot of cohort {key.cohort_id} was last moved from another state folder, by "
        f"{last.process}: the one here does not have what that one has sent",
        hint="run it there; or bring that snapshot here: `cohortsync snapshot export` there, then "
        "`cohortsync snapshot import` here; if it is lost, `cohortsync snapshot reconcile` here "
        "takes over (docs/hosts.md)",
    )
