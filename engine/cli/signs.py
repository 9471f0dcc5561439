"""The signs of a verdict, and text as a stream can show it."""

import os
from enum import Enum
from typing import TextIO

import typer

from engine.errors import ExitStatus
from engine.model.foreign_text import printable


class Sign(Enum):
    """The sign before a verdict: its character, its ASCII text and its color."""

    OK = ("\N{CHECK MARK}", "ok", typer.colors.GREEN)
    PARTIAL = ("!", "!", typer.colors.YELLOW)
    FAILED = ("\N{BALLOT X}", "x", typer.colors.RED)
    NOT_BEGUN = ("\N{WHITE CIRCLE}", "-", typer.colors.YELLOW)

    @property
    def character(self) -> str:
        """The character in front of a verdict."""
        return self.value[0]

    @property
    def color(self) -> str:
        """The color of the character."""
        return self.value[2]


def sign_of(exit_status: ExitStatus | None) -> Sign:
    """Return the sign of an exit status; None: the run goes on, or another replaced it."""
    match exit_status:
        case ExitStatus.ACCEPTED:
            return Sign.OK
        case ExitStatus.PARTIAL:
            return Sign.PARTIAL
        case None:
            return Sign.NOT_BEGUN
        case _:
            return Sign.FAILED


_ASCII = str.maketrans(
    {sign.character: sign.value[1] for sign in Sign} | {"·": "-", "…": "...", "—": "-"}
)


def shown_on(stream: TextIO, text: str) -> str:
    """Return a line as a stream can show it.

    Unsafe characters and those that the stream cannot encode become Python escapes. On a stream
    that is not in Unicode, the signs and the separators of this program become ASCII.
    """
    encoding = stream.encoding or "ascii"
    safe = printable(text)
    try:
        safe.encode(encoding)
    except UnicodeEncodeError:
        plain = safe.translate(_ASCII)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return safe


def has_colors(stream: TextIO) -> bool:
    """Return whether a stream is a terminal with colors, which the user has not refused."""
    is_refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not is_refused


def colored(stream: TextIO, line: str) -> str:
    """Return a line whose first sign has its color, if the stream is a terminal with colors."""
    if not has_colors(stream):
        return line
    for sign in Sign:
        mark, blank, rest = line.partition(" ")
        if blank and mark in sign.value[:2]:
            return f"{typer.style(mark, fg=sign.color)} {rest}"
    return line
