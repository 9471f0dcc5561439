"""The proxy between this machine and the API, read from the environment."""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit
from urllib.request import getproxies, proxy_bypass

from engine.errors import ConfigError
from engine.model.endpoint import Endpoint, host_of

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXY_HINT = "name an HTTP proxy, as in http://proxy:3128, or unset it if none is needed"
_ENCODING_HINT = "in user and password write %40 for @, %23 for #, %2F for / and %3A for :"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that supports CONNECT, over http or https; `repr` shows no credentials."""

    scheme: str
    host: str
    port: int
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """User and password, decoded."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `http://user:password@host:port`; scheme, credentials and port are optional.

        Raises `ValueError` with a clause that describes the problem. The clause never repeats
        `text`, which may contain a password.
        """
        named = _SCHEME.match(text)
        url = text if named else f"http://{text}"
        scheme = named[1].lower() if named else "http"
        if scheme not in _DEFAULT_PORTS:
            kind = "SOCKS proxies are" if scheme.startswith("socks") else f"{scheme}:// is"
            raise ValueError(f"should begin with http:// or https://: {kind} not supported")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("should be a URL: http://host:port") from None
        if parts.path not in {"", "/"} or parts.query or parts.fragment or port == 0:
            raise ValueError("should be a URL that ends after its port: http://host:port")
        try:
            host = host_of(parts)
        except ValueError:
            raise ValueError("should be a URL: http://host:port") from None
        return cls(scheme, host, port or _DEFAULT_PORTS[scheme], _credentials(parts))

    @property
    def url(self) -> str:
        """Return the proxy's URL, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers of a CONNECT request: the credentials for the proxy, if any."""
        if self.credentials is None:
            return {}
        pair = ":".join(self.credentials).encode("utf-8", "surrogateescape")
        return {"Proxy-Authorization": f"Basic {b64encode(pair).decode()}"}


def proxy_for(endpoint: Endpoint) -> Proxy | None:
    """Return the proxy that the environment sets for an endpoint, or None.

    Reads HTTPS_PROXY and NO_PROXY, also in lower case. A loopback endpoint never has a proxy: the
    proxy would see the credentials, which are sent there over plain http. Raises `ConfigError` for
    a value that is not a valid proxy.
    """
    value = (getproxies().get(endpoint.scheme) or "").strip()
    if not value or endpoint.is_loopback or _is_bypassed(endpoint):
        return None
    try:
        return Proxy.parse(value)
    except ValueError as problem:
        name = f"{endpoint.scheme.upper()}_PROXY"
        user = value.partition("://")[2].rpartition("@")[0]
        hint = _ENCODING_HINT if set(user) & set("@#/?") else _PROXY_HINT
        raise ConfigError(f"environment: `{name}` {problem}", hint=hint) from None


def _is_bypassed(endpoint: Endpoint) -> bool:
    # An entry of NO_PROXY may include a port.
    return bool(proxy_bypass(f"{endpoint.host}:{endpoint.port}"))


def _credentials(parts: SplitResult) -> tuple[str, str] | None:
    if "@" not in parts.netloc:
        return None
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return _decoded(user), _decoded(password)


def _decoded(text: str) -> str:
    raw = unquote_to_bytes(text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")
