"""What every request to the API has in common: the session that knows the key, and the proxy."""

import base64
from collections.abc import Sequence
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from engine import __version__
from engine.endpoint import Endpoint
from engine.errors import ConfigError
from engine.workspace import Workspace

LONGEST_ANSWER = 65_536
"""Bytes of an answer that are read; the API's own take a few hundred."""


def open_session(
    workspace: Workspace,
    timeout: aiohttp.ClientTimeout,
    *,
    connections: int = 1,
    traces: Sequence[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """Open a pool of connections whose requests carry the workspace's credentials.

    The session takes no credentials from elsewhere, such as ~/.netrc, and keeps no cookies. Raises
    `ConfigError` where the workspace was loaded without its key.
    """
    pair = f"{workspace.id}:{workspace.require_key().reveal()}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        headers={
            "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
            "MOE-APPKEY": workspace.id,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": f"cohortsync/{__version__}",
        },
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        trace_configs=list(traces),
        trust_env=False,
    )


async def read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer's body; one that is too long is cut off, and its connection closed.

    Raises what reading it raises.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > LONGEST_ANSWER:
            response.close()
            break
    return bytes(body)


def proxy_for(endpoint: Endpoint) -> str | None:
    """Return the URL of the proxy that the environment names for an endpoint, if any.

    HTTPS_PROXY, NO_PROXY and so on are read. Loopback never has one: a proxy on the way there would
    see the credentials over plain http. Raises `ConfigError` for a value that is no URL.
    """
    proxy = getproxies().get(endpoint.scheme)
    if endpoint.is_loopback or not proxy or proxy_bypass(endpoint.host):
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        # The value is not repeated: a proxy's URL may hold a password.
        raise ConfigError(f"environment: `{endpoint.scheme.upper()}_PROXY` should be a URL")
    return url
