"""Turns what drivers say into errors for the user, without passwords and without data."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from engine.errors import SourceError, SourceUnavailableError, UsageError
from engine.model.foreign_text import printable
from engine.source.sql.error_kinds import kind_of

_LONGEST = 300
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
    # ADBC says UNAUTHORIZED of a permission that is missing, too.
    text = _without_address(error).removeprefix("UNAUTHORIZED: ")
    text, line = _QUOTED.sub("''", text), said.line(error)
    kind = kind_of(_sql_state(error), text)
    if kind is not None and kind.is_temporary:
        what = "the query was ended" if is_open else "the database cannot be reached"
        return SourceUnavailableError(f"{said.name}: {what}: {line}", hint=kind.hint)
    what = "the query failed" if is_open else "the database cannot be opened"
    if kind is None:
        return SourceError(f"{said.name}: {what}: {line}")
    return SourceError(f"{said.name}: {kind.what or what}: {line}", hint=kind.hint)


def _sql_state(error: Exception) -> str:
    """Return an error's SQLSTATE; "" if it has none."""
    return str(getattr(_cause(error), "sqlstate", None) or "")


def _without_address(error: Exception) -> str:
    """Return what an error says, without the address of a server that has answered."""
    match _cause(error).args:
        case (int(), str(said)):  # MySQL's drivers: the error's number and its sentence.
            return said
        case _:
            return re.sub(r"connection to server [^\n]* failed: (?=FATAL)", "", str(error))


def _cause(error: Exception) -> Exception:
    """Return the driver's own error if SQLAlchemy has wrapped it."""
    cause = getattr(error, "orig", None)
    return cause if isinstance(cause, Exception) else error


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
