"""The script of someone who has read the API's limits twice.

Even spacing, payloads packed to the byte, a few requests at once, and every one tried again until
it is accepted, for as long as the process lives.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import api
import orjson
from aiolimiter import AsyncLimiter

PAYLOAD_BYTES = 128_000
MAX_IN_FLIGHT = 16
LONGEST_WAIT = 60.0


def payloads(export: Path) -> Iterator[bytes]:
    """Pack uids into bodies that are as full as they can be."""
    empty = orjson.dumps(api.request([]))
    head, tail = empty[:-3], empty[-3:]
    members: list[bytes] = []
    size = len(empty)
    for uid in api.read_uids(export):
        member = orjson.dumps({"uid": uid})
        if size + len(member) > PAYLOAD_BYTES:
            yield head + b",".join(members) + tail
            members, size = [], len(empty)
        members.append(member)
        size += len(member) + 1
    if members:
        yield head + b",".join(members) + tail


async def push(export: Path, url: str, limiter: AsyncLimiter) -> None:
    """Send everything."""
    free = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def deliver(session: aiohttp.ClientSession, payload: bytes) -> None:
        longest = 1.0
        while True:
            await limiter.acquire()
            try:
                async with session.post(url, data=payload) as response:
                    body = await response.read()
                    if response.status == 200 and orjson.loads(body)["status"] == "success":
                        free.release()
                        return
                    wait = float(response.headers.get("Retry-After", 0))
            except (aiohttp.ClientError, TimeoutError):
                wait = 0.0
            await asyncio.sleep(wait or random.uniform(0, longest))
            longest = min(2 * longest, LONGEST_WAIT)

    async with (
        aiohttp.ClientSession(
            auth=aiohttp.BasicAuth(api.WORKSPACE, api.API_KEY), headers=api.HEADERS
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for payload in payloads(export):
            await free.acquire()
            group.create_task(deliver(session, payload))


if __name__ == "__main__":
    given = api.arguments().parse_args()
    pace = AsyncLimiter(1, given.per_seconds / given.requests)
    asyncio.run(push(given.export, given.url, pace))
