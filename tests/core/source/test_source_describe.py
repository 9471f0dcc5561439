"""How the files of an export are described: how many, from when to when, with how many bytes."""

from datetime import UTC, datetime

import pytest

from engine.source.source_file import SourceFile, describe_files


def at(text: str | None) -> int | None:
    if text is None:
        return None
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("files", "output"),
    [
        (
            [("2026-11-25T02:10", 6_100_000), ("2026-11-26T02:11", 6_200_000)],
            "2 files, 25 Nov 02:10 to 26 Nov 02:11 UTC, 12.3 MB",
        ),
        ([("2026-11-26T02:11", 999)], "1 file, 26 Nov 02:11 UTC, 999 bytes"),
        (
            [("2026-11-26T02:11:01", 0), ("2026-11-26T02:11:09", 9)],
            "2 files, 26 Nov 02:11 UTC, 9 bytes",
        ),
        (
            [("2025-12-31T23:59", 999_949), ("2026-01-01T00:00", 1)],
            "2 files, 31 Dec 2025 23:59 to 1 Jan 2026 00:00 UTC, 1.0 MB",
        ),
        ([(None, None)], "1 file, time of writing unknown, size unknown"),
        (
            [("2026-11-26T02:11", None), (None, 2_500), (None, 10**15)],
            "3 files, 26 Nov 02:11 UTC (that of 2 unknown), at least 1,000.0 TB",
        ),
    ],
)
def test_files_are_described(files: list[tuple[str | None, int | None]], output: str) -> None:
    read = [SourceFile(f"{n}.csv", size, at(time)) for n, (time, size) in enumerate(files)]
    assert describe_files(read) == output
