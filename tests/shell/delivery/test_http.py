"""What every request has in common, and the proxies that the environment names."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.delivery.http import (
    LONGEST_ANSWER,
    api_headers,
    open_http_session,
    read_bounded,
    secrets_of,
)
from engine.delivery.proxy import Proxy, proxy_for
from engine.errors import ConfigError
from engine.model.endpoint import Endpoint
from engine.model.workspace import ApiKey, Workspace

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
        (API, {"https_proxy": "http://u:p%40ss@proxy:3128"}, "http://proxy:3128"),
        (API, {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        (API, {"HTTP_PROXY": "http://proxy:3128"}, None),
        (API, {"HTTPS_PROXY": ""}, None),
        (API, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "moengage.com"}, None),
        (API, {"HTTPS_PROXY": "http://proxy", "no_proxy": "*"}, None),
        (API, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "other.com"}, "http://proxy:80"),
        (API, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "api-01.moengage.com:443"}, None),
        (API, {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "moengage.com:8443"}, "http://proxy:80"),
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
    found = proxy_for(endpoint)
    assert (found and found.url) == proxy


PROXIES: list[tuple[str, Proxy]] = [
    ("proxy", Proxy("http", "proxy", 80)),
    ("proxy:3128", Proxy("http", "proxy", 3128)),
    ("  proxy:3128\r\n", Proxy("http", "proxy", 3128)),
    ("PROXY.Corp:3128", Proxy("http", "proxy.corp", 3128)),
    ("10.0.0.1:3128", Proxy("http", "10.0.0.1", 3128)),
    ("[::1]:3128", Proxy("http", "::1", 3128)),
    ("http://proxy:3128/", Proxy("http", "proxy", 3128)),
    ("HTTP://proxy:3128", Proxy("http", "proxy", 3128)),
    ("https://proxy", Proxy("https", "proxy", 443)),
    ("ada:secret@proxy:3128", Proxy("http", "proxy", 3128, ("ada", "secret"))),
    ("http://ada:se%40cret@proxy", Proxy("http", "proxy", 80, ("ada", "se@cret"))),
    ("http://ada:se@cret@proxy", Proxy("http", "proxy", 80, ("ada", "se@cret"))),
    ("http://ada:se:cret@proxy", Proxy("http", "proxy", 80, ("ada", "se:cret"))),
    ("http://corp%5Cada:secret@proxy", Proxy("http", "proxy", 80, ("corp\\ada", "secret"))),
    (
        "http://ada:gehe\u00efm\u20ac@proxy",
        Proxy("http", "proxy", 80, ("ada", "gehe\u00efm\u20ac")),
    ),
    ("http://ada:%E2%82%AC@proxy", Proxy("http", "proxy", 80, ("ada", "\u20ac"))),
    ("http://ada:%FFsecret@proxy", Proxy("http", "proxy", 80, ("ada", "\udcffsecret"))),
    ("http://secret@proxy", Proxy("http", "proxy", 80, ("secret", ""))),
]


@pytest.mark.parametrize(("value", "proxy"), PROXIES)
def test_a_proxy_with_or_without_scheme_port_and_credentials(
    value: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    found = proxy_for(API)
    assert found == proxy
    assert "secret" not in f"{found} {found.url}"
    assert set(found.headers) == ({"Proxy-Authorization"} if proxy.credentials else set())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *[
            (f"{scheme}://secret:1080", "SOCKS")
            for scheme in ("socks", "socks4", "socks4a", "socks5", "socks5h", "SOCKS5")
        ],
        ("ftp://u:secret@proxy", "ftp:// is not"),
        ("file:///etc/secret.pac", "file:// is not"),
        ("http://", "http://host:port"),
        ("://secret", "http://host:port"),
        ("//secret:3128", "http://host:port"),
        ("http://u:secret@", "http://host:port"),
        ("http://secret:port", "http://host:port"),
        ("http://[", "http://host:port"),
        ("http://[::1", "http://host:port"),
        ("http://h:0", "ends after its port"),
        ("http://h:65536", "http://host:port"),
        ("http://h:3128:secret", "http://host:port"),
        ("http://se cret:3128", "http://host:port"),
        ("http://h..secret:3128", "http://host:port"),
        (f"http://{'s' * 64}.secret:3128", "http://host:port"),
        (f"http://{'secret.' * 40}com:3128", "http://host:port"),
        ("http://b\u00fccher.secret:3128", "http://host:port"),
        # A password that is not encoded: what stands before its # looks like host and port.
        ("http://u:12#secret@proxy:3128", "ends after its port"),
        ("http://u:12/secret@proxy:3128", "ends after its port"),
        ("http://u:12?secret@proxy:3128", "ends after its port"),
        ("http://u:pa#secret@proxy:3128", "http://host:port"),
        ("http://proxy:3128/secret.pac", "ends after its port"),
        ("DIRECT; secret", "http://host:port"),
    ],
)
def test_a_value_that_names_no_proxy_is_refused_and_not_repeated(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        proxy_for(API)
    assert said in caught.value.message
    assert "secret" not in f"{caught.value.message} {caught.value.hint}".lower()
    assert caught.value.hint


def test_headers_without_a_key_are_refused() -> None:
    with pytest.raises(ConfigError, match="no API key"):
        api_headers(Workspace("WS", None, API, "partner"))


async def test_a_session_has_no_headers_of_its_own_and_does_not_show_its_key() -> None:
    workspace = Workspace("WS", ApiKey("s3cr3t", "test"), API, "partner")
    assert api_headers(workspace)["Authorization"] == "Basic V1M6czNjcjN0"
    async with open_http_session(workspace, aiohttp.ClientTimeout()) as session:
        assert not session.headers
        assert "s3cr3t" not in f"{workspace!r} {session!r}"


def test_the_secrets_are_those_of_the_workspace_and_of_the_proxy() -> None:
    workspace = Workspace("WS", ApiKey("s3cr3t", "test"), API, "partner")
    secrets = secrets_of(workspace, Proxy("http", "proxy", 80, ("ada", "pr0xy-pass")))
    text = "WS said s3cr3t, V1M6czNjcjN0, WS:s3cr3t; ada said pr0xy-pass, ada:pr0xy-pass"
    assert secrets.mask(text) == "WS said ***, ***, ***; ada said ***, ***"
    assert "s3cr3t" not in repr(secrets)
    assert secrets_of(workspace, None).mask("pr0xy-pass") == "pr0xy-pass"


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
