"""What every request has in common, and the proxies that the environment names."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.endpoint import Endpoint
from engine.errors import ConfigError
from engine.session import LONGEST_ANSWER, open_session, proxy_for, read_bounded
from engine.workspace import ApiKey, Workspace

API = Endpoint.parse("https://api-01.moengage.com")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    ("endpoint", "environment", "proxy"),
    [
        (API, {}, None),
        (API, {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        (API, {"https_proxy": "http://u:p%40ss@proxy:3128"}, "http://u:p%40ss@proxy:3128"),
        (API, {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        (API, {"HTTP_PROXY": "http://proxy:3128"}, None),
        (API, {"HTTPS_PROXY": ""}, None),
        (API, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "moengage.com"}, None),
        (API, {"HTTPS_PROXY": "http://proxy", "no_proxy": "*"}, None),
        (API, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "other.com"}, "http://proxy"),
        (Endpoint.parse("http://127.0.0.1:1"), {"HTTP_PROXY": "http://proxy"}, None),
        (Endpoint.parse("https://localhost:1"), {"HTTPS_PROXY": "http://proxy"}, None),
    ],
)
def test_the_environment_names_the_proxy(
    endpoint: Endpoint,
    environment: dict[str, str],
    proxy: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(endpoint) == proxy


@pytest.mark.parametrize(
    "value", ["http://", "http://u:secret@", "http://secret:port", "http://[", "http://h:0"]
)
def test_a_proxy_that_is_no_url_is_refused_and_not_repeated(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        proxy_for(API)
    assert "secret" not in caught.value.message


async def test_a_session_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="no API key"):
        open_session(Workspace("WS", None, API, "partner"), aiohttp.ClientTimeout())


async def test_a_session_does_not_show_its_key() -> None:
    workspace = Workspace("WS", ApiKey("s3cr3t", "test"), API, "partner")
    async with open_session(workspace, aiohttp.ClientTimeout()) as session:
        assert session.headers["Authorization"] == "Basic V1M6czNjcjN0"
        assert "s3cr3t" not in f"{workspace!r} {session!r}"


@pytest.mark.parametrize("length", [0, 1_000, LONGEST_ANSWER, 40 * LONGEST_ANSWER])
async def test_a_body_is_read_to_its_end_or_to_the_bound(length: int) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(0, length, 500):
                await response.write(b"x" * min(500, length))
        except ConnectionError:
            pass
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as session,
        session.get(server.make_url("/")) as response,
    ):
        body = await read_bounded(response)
    if length <= LONGEST_ANSWER:
        assert len(body) == -(-length // 500) * 500
    else:
        assert LONGEST_ANSWER < len(body) < length
