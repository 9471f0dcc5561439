"""The lines of a summary that name the files read."""

from engine.report.files import files_lines
from engine.source.source_file import SourceFile


def test_each_of_a_few_files_is_named_with_its_time_and_size() -> None:
    files = [SourceFile(f"{n}.csv", 1_500_000, 1_795_750_020_000_000_000) for n in range(2)]
    assert files_lines(files) == [
        "files     2 files, 27 Nov 03:27 UTC, 3.0 MB",
        "          0.csv, 27 Nov 03:27 UTC, 1.5 MB",
        "          1.csv, 27 Nov 03:27 UTC, 1.5 MB",
    ]
    assert files_lines(files[1:]) == ["files     1.csv, 27 Nov 03:27 UTC, 1.5 MB"]


def test_of_many_files_the_first_are_named() -> None:
    lines = files_lines([SourceFile(f"{n}.csv", None, None) for n in range(1007)])
    assert lines[5:] == [
        "          4.csv, time of writing unknown, size unknown",
        "          and 1,002 more: `cohortsync show` lists them",
    ]
    assert not files_lines([])
