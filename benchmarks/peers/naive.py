"""The script that is written in an hour: aiohttp, a limiter as its README shows it, 1,000 uids.

`--tries 3` is the same after its first failed run.
"""

import asyncio
import sys
from pathlib import Path

import aiohttp
import api
from aiolimiter import AsyncLimiter

UIDS_A_REQUEST = 1_000


async def push(export: Path, url: str, limiter: AsyncLimiter, tries: int) -> int:
    """Send everything; return how many requests failed."""
    async with aiohttp.ClientSession(
        auth=aiohttp.BasicAuth(api.WORKSPACE, api.API_KEY), headers=api.HEADERS
    ) as session:

        async def send(uids: list[str]) -> bool:
            for attempt in range(tries):
                if attempt:
                    await asyncio.sleep(2 ** (attempt - 1))
                async with limiter:
                    try:
                        async with session.post(url, json=api.request(uids)) as response:
                            response.raise_for_status()
                    except (aiohttp.ClientError, TimeoutError) as error:
                        print(f"failed: {error}", file=sys.stderr)
                    else:
                        return True
            return False

        uids = list(api.read_uids(export))
        parts = [uids[i : i + UIDS_A_REQUEST] for i in range(0, len(uids), UIDS_A_REQUEST)]
        sent = await asyncio.gather(*(send(part) for part in parts))
        return sent.count(False)


if __name__ == "__main__":
    parser = api.arguments()
    parser.add_argument("--tries", type=int, default=1)
    given = parser.parse_args()
    pace = AsyncLimiter(given.requests, given.per_seconds)
    failed = asyncio.run(push(given.export, given.url, pace, given.tries))
    print(f"{failed} requests failed")
    sys.exit(failed > 0)
