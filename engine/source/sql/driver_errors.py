"""Turns what drivers say into errors for the user, without passwords and without data."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from engine.errors import SourceError, SourceUnavailableError, UsageError
from engine.model.foreign_text import printable

_LONGEST = 300
_AGAIN = "run the same command again: it runs the query again, as nothing was sent"

_AWAY = re.compile(
    r"terminat|server closed|closed the connection|connection (?:reset|refused|closed|timed|to)"
    r"|lost connection|gone away|could not (?:receive|send|connect|translate)|\bEOF\b|broken pipe"
    r"|network|timed? ?out|timeout|starting up|shutting down|too many (?:clients|connections)"
    r"|temporar|is locked|lock on file|canceling statement|no route|unreachable|SSL SYSCALL"
    r"|\b50[0234]\b",
    re.IGNORECASE,
)
"""Says that the database cannot be used now, and may be later."""
_DENIED = re.compile(
    r"authentication failed|no password supplied|incorrect username or password|access denied"
    r"|password (?:is )?(?:incorrect|required)|pg_hba\.conf|invalid (?:credentials|grant)"
    r"|could not find default credentials|\bunauthori[sz]ed\b|\b390100\b",
    re.IGNORECASE,
)
_WRITES = re.compile(
    r"read-?only|readonly|cannot execute \w+ in a|COPY query must have a RETURNING"
    r"|not authorized$|authorization denied$|data-modifying statement",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"multiple commands|one statement at a time|multiple statements|statement count|more than one"
    r" (?:statement|command)",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_FRAMES = re.compile(
    r"^(?:[A-Z_]+: )?(?:\[\w+\] )?(?:Execution error \[\w+\]: )?"
    r"(?:Failed to (?:prepare|execute) query(?: '[^\n]*')?: )?(?:could not begin COPY: )?"
    r"(?:Failed to connect: )?(?:(?:ERROR|FATAL): +)?"
)
"""What ADBC's driver puts before the words of PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Said:
    """What may be repeated of an error, and what may not."""

    name: str
    """The query as messages name it."""
    shown: tuple[str, ...]
    """Texts of the user's own: what they have may stand in quotes in a message."""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def line(self, error: Exception) -> str:
        """Return what an error says in one line, without secrets, and without values of rows."""
        text = _without_address(error)
        for secret in self.secrets:
            for form in (secret, quote(secret, safe=""), unquote(secret)):
                text = text.replace(form, "***") if form else text
        text = _FRAMES.sub("", text.strip()).split("\n\nQuery was:")[0]
        text = re.split(r"\n(?:LINE|DETAIL|CONTEXT|HINT|Candidate)|\(Background on|\[SQL:", text)[0]
        text = "; ".join(line.strip() for line in text.splitlines() if line.strip())
        text = _QUOTED.sub(self._quoted, re.sub(r"\.? SQLSTATE: \w+$", "", text))
        return printable(text)[:_LONGEST] or type(error).__name__

    def _quoted(self, found: re.Match[str]) -> str:
        value = found[1] if found[2] is None else found[2]
        return found[0] if any(value in each for each in self.shown) else "(a value)"


def error_of(error: Exception, said: Said, *, is_open: bool) -> SourceError:
    """Return the error for what a driver has raised; `is_open` says whether it was connected."""
    text, line = _without_address(error), said.line(error)
    state = getattr(error, "sqlstate", None) or ""
    if _DENIED.search(text) or state.startswith("28"):
        return SourceError(
            f"{said.name}: the database refuses the password or the user: {line}",
            hint="check `url` and where the password is from; docs/sources.md says which that are",
        )
    if state == "25006" or _WRITES.search(text):
        return SourceError(
            f"{said.name}: the query writes, and is run in a read-only transaction: {line}",
            hint="a query may only read: one SELECT",
        )
    if _SEVERAL.search(text):
        return SourceError(
            f"{said.name}: has several statements: {line}", hint="a query is one SELECT"
        )
    if state[:2] in {"08", "53", "57"} or _AWAY.search(text):
        what = "the query was ended" if is_open else "the database cannot be reached"
        return SourceUnavailableError(f"{said.name}: {what}: {line}", hint=_AGAIN)
    what = "the query failed" if is_open else "the database cannot be opened"
    return SourceError(f"{said.name}: {what}: {line}")


def _without_address(error: Exception) -> str:
    """Return what an error says, without the address of a server that has answered."""
    return re.sub(r"connection to server [^\n]* failed: (?=FATAL)", "", str(error))


@contextmanager
def translated(said: Said, kinds: tuple[type[Exception], ...], *, is_open: bool) -> Iterator[None]:
    """Raise `error_of` for the driver's errors in the block."""
    try:
        yield
    except kinds as error:
        raise error_of(error, said, is_open=is_open) from error


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Raise `UsageError` if the block, which imports a driver, lacks the package of an extra."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"{what} needs a package that is not installed: {error.name or extra}",
            hint=f"pip install 'cohortsync[{extra}]'",
        ) from error
