"""Pings a monitor at the start and at the end of a sync, by the convention of healthchecks."""

from engine.notices.web import WebAddress, request
from engine.report.sync_result import SyncResult

_MOST_BYTES = 10_000
"""Bytes of a ping's body that common services keep."""


async def ping_start(address: WebAddress, seconds: float) -> None:
    """Tell the monitor that a sync begins; raises `UndeliveredError`."""
    await request("POST", address, address.below("start"), seconds=seconds)


async def ping_end(address: WebAddress, result: SyncResult, seconds: float) -> None:
    """Tell the monitor the exit status, with a line for each cohort; raises `UndeliveredError`."""
    url = address.below(str(int(result.exit_status)))
    body = ping_text(result).encode()[:_MOST_BYTES]
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    await request("POST", address, url, body=body, headers=headers, seconds=seconds)


def ping_text(result: SyncResult) -> str:
    """Return the exit status and each cohort's, those that are not 0 first."""
    lines = [f"{result.sync}: exit status {int(result.exit_status)}"]
    for each in sorted(result.cohorts, key=lambda each: each.exit_status == 0):
        reason = f": {each.reason}" if each.exit_status and each.reason else ""
        lines.append(f"{each.cohort}: {each.status.value} ({int(each.exit_status)}){reason}")
    return "\n".join(lines)
