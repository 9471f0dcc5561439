"""What tests of notices share: a receiver on loopback, and limits on time that a test ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from receiver import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
def time_limit(monkeypatch: pytest.MonkeyPatch) -> asyncio.Timeout:
    """Return the limit on time that the code uses next: it is over when a test says so."""
    limit = asyncio.Timeout(None)
    own = asyncio.timeout

    def timeout(seconds: float | None) -> asyncio.Timeout:
        monkeypatch.setattr(asyncio, "timeout", own)
        del seconds
        return limit

    monkeypatch.setattr(asyncio, "timeout", timeout)
    return limit
