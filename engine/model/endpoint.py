"""The target of requests: scheme, host and port of the API, or of an emulator on loopback."""

import ipaddress
import re
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Literal, Self, get_args
from urllib.parse import SplitResult, urlsplit

COHORT_SYNC_PATH = "/v1/integrations/cohortsync"
"""The path of the API."""
DataCenter = Literal["01", "02", "03", "04", "05", "06", "101"]
DATA_CENTERS: tuple[DataCenter, ...] = get_args(DataCenter)
"""The vendor's data centers; a workspace belongs to one of them."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
"""Spellings of the address of a server on this machine; the first one is the identity."""
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
"""Matches a name that the resolver accepts; it raises its own error for empty or long labels."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A scheme, host and port, without path, query and credentials.

    Use `parse` or `of_data_center` to make one. Equal endpoints have equal `url`s.
    """

    scheme: str
    """`http` or `https`."""
    host: str
    """A name in lower case or an IP address in its canonical form, without brackets."""
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `scheme://host:port`; the port may be left out if it is the scheme's default.

        Raises `ValueError` with a clause that describes the problem. The clause never repeats
        `text`, which may contain credentials.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("should be scheme://host:port with a port from 1 to 65535") from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError("should begin with https:// (or http:// on loopback)")
        if "@" in parts.netloc:
            raise ValueError("may not hold a user or password")
        if parts.path not in {"", "/"} or "?" in text or "#" in text:
            raise ValueError("should end after the port: the path is appended to it")
        if port == 0:
            raise ValueError("should be scheme://host:port with a port from 1 to 65535")
        endpoint = cls(parts.scheme, host_of(parts), port or _DEFAULT_PORTS[parts.scheme])
        if endpoint.scheme == "http" and not endpoint.is_loopback:
            raise ValueError(
                "should begin with https://: over http, anyone on the way could read the key"
            )
        return endpoint

    @classmethod
    def of_data_center(cls, data_center: str) -> Self:
        """Return the endpoint of one of `DATA_CENTERS`; raises `ValueError` for another name."""
        if data_center not in DATA_CENTERS:
            found = shortened(data_center)
            raise ValueError(f"should be one of {', '.join(DATA_CENTERS)}, not {found}")
        return cls("https", f"api-{data_center}.moengage.com", _DEFAULT_PORTS["https"])

    @property
    def url(self) -> str:
        """`scheme://host:port` without a trailing slash and without a default port."""
        return f"{self.scheme}://{self._authority}"

    @property
    def identity(self) -> str:
        """`url`, the same for each spelling of one address; it names the endpoint's ledger."""
        host = _THIS_MACHINE[0] if self.host in _THIS_MACHINE else self.host
        return Endpoint(self.scheme, host, self.port).url

    @property
    def other_spellings(self) -> tuple[str, ...]:
        """The `url`s of other endpoints of the same `identity`."""
        if self.host not in _THIS_MACHINE:
            return ()
        urls = (Endpoint(self.scheme, host, self.port).url for host in _THIS_MACHINE)
        return tuple(url for url in urls if url != self.url)

    @property
    def label(self) -> str:
        """The target as shown to the user; loopback is marked as an emulator."""
        if self.is_loopback:
            return f"EMULATOR {self._bracketed}:{self.port}"
        return self._authority

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an IP address; None if it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        """Whether requests stay on this machine: 127.0.0.0/8, ::1 or localhost."""
        return self.host == "localhost" or (self.address is not None and self.address.is_loopback)

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def _authority(self) -> str:
        if self.port == _DEFAULT_PORTS[self.scheme]:
            return self._bracketed
        return f"{self._bracketed}:{self.port}"


def host_of(parts: SplitResult) -> str:
    """Return a URL's host: a name in ASCII and lower case, or an address in canonical form.

    Raises `ValueError` with a clause that describes the problem.
    """
    # A trailing period does not change the name.
    host = (parts.hostname or "").removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise ValueError("should name a host, in ASCII") from None
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise ValueError("may not hold a zone")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
