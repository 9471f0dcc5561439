"""Short HTTP requests to other systems, bounded in time and without redirects."""

import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
from yarl import URL

from engine import __version__
from engine.delivery.proxy import proxy_for
from engine.errors import ConfigError
from engine.model.endpoint import Endpoint
from engine.notices.secret_texts import read_urls

_REDIRECTS = range(300, 400)
_FIRST_FAILURE = 300
_HTTP_PORT = 80


class UndeliveredError(Exception):
    """A request failed; the text names the server, never the path, which may be a secret."""


@dataclass(frozen=True, slots=True)
class WebAddress:
    """The URL of another system; `repr` shows its server only."""

    endpoint: Endpoint
    url: URL = field(repr=False)
    """Without user and password."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those of user and password, if the URL has any."""

    @classmethod
    def parse(cls, text: str, *, is_secret: bool = True) -> Self:
        """Parse a URL with https, or with http on loopback.

        Unless `is_secret`, http is valid for any server if there is no password. Raises
        `ValueError` with a clause that does not repeat the text.
        """
        try:
            parts = urlsplit(text)
            url, user, password = URL(text), parts.username, parts.password
        except ValueError:
            raise ValueError("should be a URL: https://host/path") from None
        if parts.fragment:
            raise ValueError("should be a URL without `#`")
        endpoint = _endpoint(parts, may_be_plain=not is_secret and password is None)
        headers = {}
        if user is not None or password is not None:
            pair = f"{unquote(user or '')}:{unquote(password or '')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return cls(endpoint, url.with_user(None), headers)

    def below(self, *names: str) -> URL:
        """Return the URL with further parts of the path, before the query if there is one."""
        path = "/".join([self.url.raw_path.rstrip("/"), *names])
        return self.url.with_path(path, encoded=True).with_query(self.url.query)


def _endpoint(parts: SplitResult, *, may_be_plain: bool) -> Endpoint:
    server = parts.netloc.rpartition("@")[2]
    if parts.scheme != "http":
        return Endpoint.parse(f"{parts.scheme}://{server}")
    found = Endpoint.parse(f"https://{server}")
    endpoint = Endpoint("http", found.host, parts.port or _HTTP_PORT)
    if not (may_be_plain or endpoint.is_loopback):
        raise ValueError("should begin with https://: http:// is for this machine only")
    return endpoint


async def request(  # noqa: PLR0913 - one parameter a part of the request
    method: str,
    address: WebAddress,
    url: URL,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    seconds: float,
) -> None:
    """Send a request to an address; raises `UndeliveredError` unless it is answered by 2xx."""
    server = address.endpoint.url
    try:
        proxy = proxy_for(address.endpoint)
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"cohortsync/{__version__}"},
            ) as session,
            session.request(
                method,
                url,
                data=body,
                headers={**address.headers, **(headers or {})},
                allow_redirects=False,
                proxy=proxy.url if proxy else None,
                proxy_headers=proxy.headers if proxy else None,
            ) as response,
        ):
            status = response.status
    except ConfigError as error:
        raise UndeliveredError(error.message) from None
    except TimeoutError:
        raise UndeliveredError(f"{server} did not answer within {seconds:g} s") from None
    except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
        raise UndeliveredError(f"{server}: {_reason(error)}") from None
    if status in _REDIRECTS:
        raise UndeliveredError(f"{server} answered with a redirect ({status}): it is not followed")
    if status >= _FIRST_FAILURE:
        raise UndeliveredError(f"{server} answered {status}")


def _reason(error: Exception) -> str:
    """Return the reason of a failure; the library's own text may repeat the URL."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not trusted"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "the connection failed"


def read_address(
    label: str, key: str, url: str | None, *, is_secret: bool = True
) -> WebAddress | None:
    """Return the address in a key of the file `label`, see `WebAddress.parse`; None without one.

    Raises `ConfigError` with one line that does not repeat the URL.
    """
    if url is None:
        return None
    place = f"{label}: `{key}`"
    [text, *more] = read_urls(place, [url])
    if more:
        raise ConfigError(f"{place} names a file with more than one URL")
    try:
        return WebAddress.parse(text, is_secret=is_secret)
    except ValueError as error:
        raise ConfigError(f"{place} {error}") from None
