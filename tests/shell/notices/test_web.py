"""Requests to other systems: bounded, without redirects, and without the URL in any message."""

import asyncio

import pytest
from receiver import Receiver, until

from engine.errors import ExitStatus
from engine.notices.pings import ping_end, ping_start
from engine.notices.web import UndeliveredError, WebAddress
from synced import ended, pushed, synced

SECRET = "S3CRET"


def monitor(receiver: Receiver, rest: str = f"/{SECRET}/nightly?create=1") -> WebAddress:
    return WebAddress.parse(receiver.url + rest)


async def test_pings_tell_the_start_and_the_exit_status(receiver: Receiver) -> None:
    guarded = ended(ExitStatus.GUARDED, key="lapsed", reason="removals: 85 %")
    await ping_start(monitor(receiver), 5)
    await ping_end(monitor(receiver), synced(pushed(5), guarded), 5)
    start, end = receiver.requests
    assert start == ("POST", f"/{SECRET}/nightly/start?create=1", "")
    assert end[:2] == ("POST", f"/{SECRET}/nightly/4?create=1")
    assert end[2].splitlines() == [
        "sync-1700000000000000000: exit status 4",
        "lapsed: guarded (4): removals: 85 %",
        "vip: finished (0)",
    ]


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (500, " answered 500"),
        (404, " answered 404"),
        (302, " answered with a redirect (302): it is not followed"),
    ],
)
async def test_an_answer_that_is_no_success_is_told(
    receiver: Receiver, status: int, says: str
) -> None:
    receiver.status = status
    with pytest.raises(UndeliveredError) as caught:
        await ping_start(monitor(receiver), 5)
    assert str(caught.value) == receiver.url + says
    assert len(receiver.requests) == 1


async def test_a_slow_answer_is_not_awaited(receiver: Receiver) -> None:
    receiver.seconds = 30
    with pytest.raises(UndeliveredError, match=r"did not answer within 0.05 s"):
        await ping_start(monitor(receiver), 0.05)


async def test_a_server_that_is_down_is_told_without_the_url(unused_tcp_port: int) -> None:
    address = WebAddress.parse(f"http://127.0.0.1:{unused_tcp_port}/{SECRET}")
    assert SECRET not in repr(address)
    with pytest.raises(UndeliveredError, match="connect") as caught:
        await ping_start(address, 5)
    assert SECRET not in str(caught.value)


async def test_user_and_password_go_into_the_header(receiver: Receiver) -> None:
    address = WebAddress.parse(f"http://us%40er:{SECRET}@{receiver.address}/x", is_secret=False)
    await ping_start(address, 5)
    [headers] = receiver.headers
    assert headers["Authorization"].startswith("Basic ")
    assert receiver.requests[0][1] == "/x/start"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"http://monitor.example/{SECRET}", "should begin with https://"),
        (f"ftp://monitor.example/{SECRET}", "should begin with https://"),
        (f"https://:99999/{SECRET}", "should be"),
        (f"https://[::1/{SECRET}", "should be a URL"),
        (f"https://monitor.example/{SECRET}#x", "should be a URL without"),
        (SECRET, "should begin with https://"),
    ],
)
def test_an_invalid_url_is_refused_and_not_repeated(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        WebAddress.parse(text)
    assert SECRET not in str(caught.value)


def test_http_is_valid_elsewhere_only_without_a_secret() -> None:
    assert WebAddress.parse("http://gateway:9091", is_secret=False).endpoint.port == 9091
    with pytest.raises(ValueError, match="https"):
        WebAddress.parse(f"http://user:{SECRET}@gateway:9091", is_secret=False)


async def test_a_cancellation_ends_a_request_at_once(receiver: Receiver) -> None:
    receiver.seconds = 30
    pinging = asyncio.create_task(ping_start(monitor(receiver), 60))
    await until(lambda: receiver.requests)
    pinging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pinging
