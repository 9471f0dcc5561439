"""A query, and the result of one that was spooled, as values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Self

from engine.source.dates import expand_dates, has_dates

_SHOWN = 70
"""Characters of a query that its name has."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query on a connection; its text may have dates, see `engine.source.dates`."""

    connection: str
    """The name of the connection."""
    text: str
    cohort_column: str | None = None
    """The column that says which cohort a row is of; None if all rows are of one."""
    value: str | None = None
    """What that column has in the rows that are meant."""
    action_column: str | None = None
    """The column that says whether a row's uid is to be added or removed; None: each is added."""
    order_column: str | None = None
    """The column by which of several rows of a uid the last one counts; there is one if there is an
    `action_column`."""

    @property
    def name(self) -> str:
        """The query as messages name it: the connection, and the start of the text."""
        text = " ".join(self.text.split())
        text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
        part = "" if self.value is None else f" ({self.cohort_column} = {self.value})"
        return f"{self.connection}: {text}{part}"

    def to_dict(self) -> dict[str, str]:
        """Return JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def statement(self) -> str:
        """The text without what ends a statement, so that it can be a part of another one."""
        return self.text.strip().rstrip(";").rstrip()

    @property
    def lists_changes(self) -> bool:
        """Whether its rows say what changes, and not who all members are."""
        return self.action_column is not None

    @property
    def has_dates(self) -> bool:
        """Whether the text depends on the date."""
        return has_dates(self.text)

    def of(self, value: str | None) -> Self:
        """Return the query with one of the values of `cohort_column`."""
        return replace(self, value=value)

    def on(self, day: date) -> Self:
        """Return the query of a day; raises `ValueError` for a `date_problem`.

        A date is put into the text: its format has nothing but digits and what the file says.
        """
        return replace(self, text=expand_dates(self.text, day))


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The result of a query: in a spool, or left to the database that makes the plan."""

    query: Query
    """The query that was run, without dates."""
    digest: str | None
    """The SHA-256 of the rows: equal if and only if these are equal, in the same order. None if
    they are not read here."""
    spool: Path | None = field(compare=False)
    """The absolute path of the spool; None if the rows are not read here."""
    read_utc_ns: int = field(compare=False)
    """When it was read, in ns since 1970; if it is not read here, when that was decided."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "query": self.query.to_dict(),
            "digest": self.digest,
            "spool": None if self.spool is None else str(self.spool),
            "read_utc_ns": self.read_utc_ns,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """Return the result from `to_dict`."""
        spool = None if kept["spool"] is None else Path(kept["spool"])
        return cls(**{**kept, "query": Query(**kept["query"]), "spool": spool})


def text_problem(text: str) -> str | None:
    """Return why a text cannot be a query that is only read, as a clause; None if it can.

    The database itself refuses one that writes, or several: this finds most of them earlier.
    """
    word = _first_word(text)
    if word in _READS:
        return None
    return f"should be one query that reads, as SELECT …, and begins with {word[:20] or 'nothing'}"


_READS = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "FROM"})


def _first_word(text: str) -> str:
    """Return the first word of a query in upper case, after comments and parentheses."""
    while text := text.lstrip(" \t\r\n("):
        if text.startswith("--"):
            text = text.partition("\n")[2]
        elif text.startswith("/*"):
            text = text.partition("*/")[2]
        else:
            break
    word = text[: next((at for at, each in enumerate(text) if not each.isalpha()), len(text))]
    return word.upper()
