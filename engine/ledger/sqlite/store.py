"""The base of the stores: each method is a function on a connection, in its own transaction."""

import sqlite3
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from engine.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Store")


class Execute(Protocol):
    """Runs a function on a connection, in a transaction; see `LedgerWriter.write`."""

    async def __call__(
        self, function: Callable[[sqlite3.Connection], T], max_wait_seconds: float = 0.0
    ) -> T:
        """Return what the function returns, once that is durable."""


class Store:
    """A part of the ledger, by named methods."""

    def __init__(self, execute: Execute, clock: Clock, read: Execute | None = None) -> None:
        """Run read-only functions that may take long by `read`, if it is given."""
        self._execute = execute
        self._read = read or execute
        self._clock = clock


def in_transaction(
    function: Callable[Concatenate[sqlite3.Connection, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """Return a method of a store that runs `function` in a transaction of its own."""

    @wraps(function)
    async def method(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._execute(lambda connection: function(connection, *args, **kwargs))

    return method


def by_reader(
    function: Callable[Concatenate[sqlite3.Connection, P], T],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """Return a method of a store that runs `function`, a read that delays no write."""

    @wraps(function)
    async def method(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._read(lambda connection: function(connection, *args, **kwargs))

    return method
