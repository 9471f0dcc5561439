"""A configured connection to a database; it is not open."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from engine.source.urls import display_url
from engine.storage.settings import PlanningSettings

_FILE_SCHEMES = ("sqlite", "duckdb")
"""Schemes whose URL names a file."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a database is, and how to get its password."""

    name: str
    """The name of its table in the configuration."""
    url: str = field(repr=False)
    """The URL, without the password of `password`. It may have secrets of its own."""
    folder: Path
    """The folder that a relative path of a database file starts at."""
    password: Callable[[], str | None] = field(default=lambda: None, repr=False, compare=False)
    """Reads the password; None if there is none. Raises `ConfigError`."""
    spool_megabytes: int = 20_000
    """The largest spool of a query, in MB."""
    plans: PlanningSettings | None = field(default=None, compare=False)
    """Those of the plans that this process makes in a DuckDB file, which it can open in one way
    only; None if it only reads the file."""

    @property
    def scheme(self) -> str:
        """The scheme of the URL, in lower case: the kind of the database."""
        return self.url.partition(":")[0].lower()

    @property
    def shown(self) -> str:
        """The URL without user and credentials, for messages."""
        return self.url if self.path is not None else display_url(self.url)

    @property
    def spark_master(self) -> str:
        """The master of a Spark cluster, as Spark writes it."""
        return self.url if self.url.startswith("spark://") else self.url.partition(":")[2]

    @property
    def path(self) -> Path | None:
        """The absolute path of a database file; None for a server."""
        if self.scheme not in _FILE_SCHEMES:
            return None
        text = self.url.partition(":")[2]
        return self.folder / (text.removeprefix("//") if text.startswith("///") else text)

    def url_with(self, password: str | None) -> str:
        """Return the URL with a password, in place of any that it has."""
        scheme, _, rest = self.url.partition("://")
        end = min((place for each in "/?#" if (place := rest.find(each)) >= 0), default=len(rest))
        user, at, host = rest[:end].rpartition("@")
        if password is None or not at:
            return self.url
        name = user.partition(":")[0]
        return f"{scheme}://{name}:{quote(password, safe='')}@{host}{rest[end:]}"


def url_problem(url: str) -> str | None:
    """Return why a URL cannot be that of a database, as a clause that does not repeat it."""
    scheme, found, rest = url.partition(":")
    if not found or not scheme.replace("+", "").replace("-", "").isalnum():
        return "should be a URL, as postgresql://reader@host/database or sqlite:FILE"
    if scheme.lower() in _FILE_SCHEMES:
        return None if rest.strip("/") else f"should name a file, as {scheme.lower()}:FILE"
    if scheme.lower() == "spark" and rest.strip("/"):
        return None  # Masters have forms of their own, such as local[*] and yarn.
    return None if rest.startswith("//") else "should have :// after the name of the database"
