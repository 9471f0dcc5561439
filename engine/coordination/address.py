"""The address of a server: its URL, checked, without a password."""

import ipaddress
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from engine.model.endpoint import host_of

DEFAULT_PORT = 6379
_SCHEMES = ("redis", "rediss", "unix")
_LARGEST_DATABASE = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and as whom to log in."""

    scheme: str
    """`redis`, `rediss` (TLS) or `unix`."""
    host: str
    """A name or an IP address; for `unix`, the path of the socket."""
    port: int
    database: int
    user: str | None

    @classmethod
    def parse(cls, text: str) -> "tuple[Self, str | None]":
        """Return the address, and the password if the URL has one.

        Raises `ValueError` with a clause that never repeats `text`.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("should have a port from 1 to 65535") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError("should begin with redis://, rediss:// or unix://")
        if parts.query or parts.fragment:
            raise ValueError("should end after the database's number")
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        if parts.scheme == "unix":
            if parts.hostname or not parts.path.startswith("/"):
                raise ValueError("should be unix:// and an absolute path")
            return cls("unix", unquote(parts.path), 0, 0, user), password
        number = parts.path.removeprefix("/") or "0"
        if not (number.isascii() and number.isdigit() and int(number) <= _LARGEST_DATABASE):
            raise ValueError("should end with the number of a database, as /0")
        return cls(parts.scheme, host_of(parts), port or DEFAULT_PORT, int(number), user), password

    @property
    def label(self) -> str:
        """The address as shown to the user, without user and password."""
        if self.scheme == "unix":
            return f"unix://{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}"

    @property
    def is_private(self) -> bool:
        """Whether nobody on the way can read what is sent: TLS, or this machine."""
        if self.scheme != "redis" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
