"""Messages on stderr: text on a terminal, otherwise one record per line: logfmt, or JSON."""

import json
import logging
import os
import sys
import traceback
import warnings
from datetime import UTC, datetime
from typing import TextIO

from engine.cli import log_format
from engine.cli.signs import shown_on
from engine.cli.text import json_safe, wrapped
from engine.cli.verbosity import Verbosity, verbosity
from engine.errors import CohortSyncError, ConfigError, ExitStatus
from engine.model.foreign_text import printable


def columns_of(stream: TextIO) -> int | None:
    """Return the number of columns of a stream's terminal; None if it is not a terminal."""
    if not stream.isatty():
        return None
    if (named := os.environ.get("COLUMNS", "")).isascii() and named.isdigit() and int(named):
        return int(named)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS


def print_columns(stream: TextIO) -> int:
    """Return into how many columns lines for people are wrapped on a stream.

    Off a terminal, as in a mail from cron, these are 80, and what is longer than a line is kept
    whole: the path or command may be pasted from there.
    """
    return columns_of(stream) or _USUAL_COLUMNS


_USUAL_COLUMNS = 80


def write_message(
    text: str, *, label: str | None = None, level: str = "info", event: str = "note"
) -> None:
    """Write one message: with its label on a terminal, else as a record with level and event."""
    width = columns_of(sys.stderr)
    if width is None:
        log(level, event, text=text)
        return
    line = shown_on(sys.stderr, f"{label}: {text}" if label else text)
    for piece in wrapped(line, width):
        sys.stderr.write(f"{piece}\n")


def write_error(error: CohortSyncError) -> None:
    """Write an error, and its hint if it has one.

    Without a terminal, this is one record, the last of the command. Each configuration problem is a
    separate record.
    """
    problems = error.message.split("\n") if isinstance(error, ConfigError) else [error.message]
    if sys.stderr.isatty():
        for problem in problems:
            write_message(problem, label="error")
        if error.hint:
            write_message(error.hint, label="hint")
        return
    for problem in problems[:-1]:
        log("error", "error", text=problem)
    hint = {"hint": error.hint} if error.hint else {}
    log("error", "error", text=problems[-1], exit_status=int(error.exit_status), **hint)


def write_traceback(error: BaseException) -> None:
    """Write the traceback of an exception: lines on a terminal, otherwise one record."""
    lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
    if sys.stderr.isatty():
        sys.stderr.writelines(f"{printable(line)}\n" for line in lines)
    else:
        log("error", "traceback", text="\n".join(lines))


def capture_library_messages() -> None:
    """Write log records of libraries, warnings and unraisable exceptions as messages."""
    logging.lastResort = _Libraries(logging.WARNING)
    warnings.showwarning = _show_warning
    if sys.unraisablehook is sys.__unraisablehook__:  # A test runner may have replaced it.
        sys.unraisablehook = lambda lost: _write_lost_error(lost.exc_value or lost.exc_type)


class _Libraries(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        write_message(
            f"{record.name}: {self.format(record)}", label=level, level=level, event="library"
        )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del filename, lineno, file, line  # Places in a library do not help the user.
    text = f"{category.__name__}: {message}"
    write_message(text, label="warning", level="warning", event="library")


def _write_lost_error(error: object) -> None:
    write_message(f"ignored: {error!r}", label="warning", level="warning", event="library")


def level_of(status: ExitStatus) -> str:
    """Return the level of the last record of a command."""
    match status:
        case ExitStatus.ACCEPTED:
            return "info"
        case ExitStatus.PARTIAL | ExitStatus.INCOMPLETE:
            return "warning"
        case _:
            return "error"


def log(level: str, event: str, **fields: object) -> None:
    """Write one record to stderr: a line of logfmt, or a JSON object.

    With `--quiet`, a record of level `info` is written only if it is the end of something.
    """
    if level == "info" and event != "ended" and verbosity() is Verbosity.QUIET:
        return
    time_text = datetime.now(UTC).isoformat(timespec="milliseconds")
    record = {"time": time_text, "level": level, "event": event, **fields}
    if log_format.is_json():
        line = json_safe(json.dumps(record, default=str))
    else:
        line = " ".join(f"{key}={_logfmt(value)}" for key, value in record.items())
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _logfmt(value: object) -> str:
    """Return a value in logfmt; it is quoted if it has blanks."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    plain = text and all(c > " " and c not in '="\\' for c in text) and text == printable(text)
    if plain:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'
