"""Common parts of all requests to the API: connection pool, credentials, answer size limit."""

import base64
import ssl
from collections.abc import Mapping

import aiohttp

from engine import __version__
from engine.delivery.connection import WatchedConnector
from engine.delivery.proxy import Proxy, proxy_for
from engine.delivery.secrets import Secrets
from engine.model.endpoint import Endpoint
from engine.model.workspace import Workspace

NO_LIMIT = 0
"""The number of connections that stands for any number."""
LONGEST_ANSWER = 65_536
"""Maximum bytes read of an answer; the API's own answers take a few hundred."""


def open_http_session(
    workspace: Workspace,
    timeout: aiohttp.ClientTimeout,
    *,
    connections: int = 1,
    request_class: type[aiohttp.ClientRequest] = aiohttp.ClientRequest,
) -> aiohttp.ClientSession:
    """Open a pool of connections to the workspace's endpoint.

    The session has no default credentials: aiohttp would also send them to a proxy, unencrypted,
    in the CONNECT request. It reads none from other places, such as ~/.netrc, and keeps no cookies.
    """
    return aiohttp.ClientSession(
        connector=WatchedConnector(limit=connections, ssl=_tls(workspace.endpoint)),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        request_class=request_class,
        trust_env=False,
    )


def api_headers(workspace: Workspace) -> Mapping[str, str]:
    """Return the headers for requests to the API; no other request may carry them.

    Raises `ConfigError` if the workspace was loaded without its key.
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
    """Raise `ConfigError` if the key or the proxy is unusable, before a run is recorded."""
    workspace.require_key()
    proxy_for(workspace.endpoint)


def secrets_of(workspace: Workspace, proxy: Proxy | None) -> Secrets:
    """Return the credentials to mask in stored answers: the API key and the proxy password."""
    pairs = [(workspace.id, workspace.require_key().reveal())]
    if proxy is not None and proxy.credentials is not None:
        pairs.append(proxy.credentials)
    return Secrets.of(*pairs)


def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """Return a new TLS context, which reads SSL_CERT_FILE now; True for an http endpoint."""
    if endpoint.scheme == "http":
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return an answer's body; if it is too long, close its connection and return the part read.

    Exceptions from reading are passed on.
    """
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > LONGEST_ANSWER:
            response.close()
            break
    return bytes(body)
