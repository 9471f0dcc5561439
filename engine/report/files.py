"""The files that a run read, formatted for people and for programs."""

from collections.abc import Iterator, Sequence
from typing import Any

from engine.report.accounts import timestamp
from engine.source.source_file import SourceFile, describe_file, describe_files

MOST_LISTED = 1000
"""The number of files that a run's document lists; `cohortsync show --json` lists all."""


def files_document(
    files: Sequence[SourceFile], most_listed: int | None = MOST_LISTED
) -> dict[str, Any]:
    """Return the keys `files_total` and `files` of a JSON document; None lists every file."""
    written = [file.written_utc_ns for file in files if file.written_utc_ns is not None]
    sizes = [file.bytes for file in files if file.bytes is not None]
    return {
        "files_total": {
            "count": len(files),
            "bytes": sum(sizes) if len(sizes) == len(files) else None,
            "first_written_at": timestamp(min(written)) if written else None,
            "last_written_at": timestamp(max(written)) if written else None,
        },
        "files": [
            {
                "name": file.name,
                "bytes": file.bytes,
                "written_at": file.written_utc_ns and timestamp(file.written_utc_ns),
                "uids": file.uids,
            }
            for file in files[:most_listed]
        ],
    }


FILE_COLUMNS = ("file", "bytes", "written", "uids")
_MOST_SHOWN = 20


def files_line(files: Sequence[SourceFile]) -> str:
    """Return the line of a summary that describes the files."""
    return f"files     {describe_files(files)}"


_MOST_NAMED = 5


def files_lines(files: Sequence[SourceFile]) -> list[str]:
    """Return the lines of a run's summary that name its files; of many, the first and a count."""
    if len(files) == 1:
        return [f"files     {describe_file(files[0])}"]
    lines = [f"          {describe_file(file)}" for file in files[:_MOST_NAMED]]
    if len(files) > _MOST_NAMED:
        lines.append(
            f"          and {len(files) - _MOST_NAMED:,} more: `cohortsync show` lists them"
        )
    return [files_line(files), *lines] if files else []


def file_rows(files: Sequence[SourceFile]) -> Iterator[tuple[str, ...]]:
    """Yield a row of `FILE_COLUMNS` for each file; of many files, the first and the total."""
    for file in files[:_MOST_SHOWN]:
        written = file.written_utc_ns and timestamp(file.written_utc_ns)
        yield (
            file.name,
            "" if file.bytes is None else f"{file.bytes:,}",
            (written or "").partition(".")[0].replace("T", " "),
            "" if file.uids is None else f"{file.uids:,}",
        )
    if len(files) > _MOST_SHOWN:
        yield (f"and {len(files) - _MOST_SHOWN:,} more: --json lists them", "", "", "")
