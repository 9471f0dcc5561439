"""What every request to the API has in common: the pool, the credentials, a bound on answers."""

import base64
import ssl
from collections.abc import Mapping, Sequence

import aiohttp

from engine import __version__
from engine.delivery.connection import WatchedConnector
from engine.delivery.proxy import Proxy, proxy_for
from engine.delivery.secrets import Secrets
from engine.model.endpoint import Endpoint
from engine.model.workspace import Workspace

LONGEST_ANSWER = 65_536
"""Bytes of an answer that are read; the API's own take a few hundred."""


def open_session(
    workspace: Workspace,
    timeout: aiohttp.ClientTimeout,
    *,
    connections: int = 1,
    traces: Sequence[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """Open a pool of connections to the workspace's endpoint.

    The session knows no credentials: whatever were its default would go to a proxy too, in clear,
    with the CONNECT that opens a tunnel. It takes none from elsewhere, such as ~/.netrc, and keeps
    no cookies.
    """
    return aiohttp.ClientSession(
        connector=WatchedConnector(limit=connections, ssl=_tls(workspace.endpoint)),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        trace_configs=list(traces),
        trust_env=False,
    )


def api_headers(workspace: Workspace) -> Mapping[str, str]:
    """Return the headers of the API's requests, which nothing else may carry.

    Raises `ConfigError` where the workspace was loaded without its key.
    """
    pair = f"{workspace.id}:{workspace.require_key().reveal()}"
    return {
        "Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}",
        "MOE-APPKEY": workspace.id,
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": f"cohortsync/{__version__}",
    }


def refuse_unfit(workspace: Workspace) -> None:
    """Raise `ConfigError` for what no request could be sent with, before a run is entered."""
    workspace.require_key()
    proxy_for(workspace.endpoint)


def secrets_of(workspace: Workspace, proxy: Proxy | None) -> Secrets:
    """Return what must never be kept of an answer that repeats it."""
    pairs = [(workspace.id, workspace.require_key().reveal())]
    if proxy is not None and proxy.credentials is not None:
        pairs.append(proxy.credentials)
    return Secrets.of(*pairs)


def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """Return what verifies certificates, made now: SSL_CERT_FILE may be newer than the import."""
    if endpoint.scheme == "http":
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


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
