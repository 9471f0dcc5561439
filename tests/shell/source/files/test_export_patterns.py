"""What files, folders and patterns stand for: the same on this machine's disk and in a store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import ExitStatus, SourceError
from engine.source.files.finding import find_locations
from engine.source.files.opening import open_source
from engine.source.options import ReadingOptions

FILES = (
    "x/2026-11.csv",
    "x/2026-12/part-0.csv",
    "x/2026-12/part-1.csv",
    "x/2026-12/_SUCCESS",
    "x/2026-12/.part-0.csv.crc",
    "x/.2026-10.csv",
    "x/_2026-09.csv",
    "x/.2026-08/a.csv",
    "deep/1.csv",
    "deep/y/2.csv",
    "deep/y/z/3.csv",
    "deep/y/z/3.txt",
    "deep/_temporary/4.csv",
    "t/dt=2026-11-25/h=1/a.parquet",
    "t/dt=2026-11-25/h=2/b.parquet",
    "t/dt=2026-11-26/h=1/c.parquet",
    "t/dt=2026-11-26/_SUCCESS",
    "br/a[1].csv",
    "br/a1.csv",
    "br/[2026]/b.csv",
    "br/2/c.csv",
    "br/a*.csv",
    "br/q?.csv",
    "br/qq.csv",
    "two words/ü 1.csv",
    "m/real.csv",
    "m/old_$folder$",
    "Case/A.csv",
    "Case/a.csv",
)
MARKERS = ("m/", "m/empty/", "x/2026-12/", "deep/y/")
"""Zero-byte objects by which stores' consoles mark folders; on a disk the folders themselves."""


@dataclass(frozen=True)
class Case:
    """A pattern, and what it stands for; None where it stands for nothing."""

    pattern: str
    files: tuple[str, ...] | None
    passed_over: int = 0


X12 = ("x/2026-12/part-0.csv", "x/2026-12/part-1.csv")
DEEP = ("deep/1.csv", "deep/y/2.csv", "deep/y/z/3.csv")
CASES = [
    # a file, a folder
    Case("x/2026-11.csv", ("x/2026-11.csv",)),
    Case("x", ("x/2026-11.csv", *X12), passed_over=5),
    Case("x/", ("x/2026-11.csv", *X12), passed_over=5),
    Case("x/2026-12", X12, passed_over=2),
    Case("deep/y", ("deep/y/2.csv", "deep/y/z/3.csv", "deep/y/z/3.txt")),
    Case("m", ("m/real.csv",), passed_over=1),
    Case("two words", ("two words/ü 1.csv",)),
    # a file and a folder under one pattern
    Case("x/2026-*", ("x/2026-11.csv", *X12), passed_over=2),
    Case("x/*", ("x/2026-11.csv", *X12), passed_over=5),
    Case("x/*.csv", ("x/2026-11.csv",), passed_over=2),
    Case("x/2026-*/", X12, passed_over=2),
    Case("x/2026-*/*", X12, passed_over=2),
    Case("*/2026-1?*", ("x/2026-11.csv", *X12), passed_over=2),
    # any number of folders
    Case("deep/**", (*DEEP, "deep/y/z/3.txt"), passed_over=1),
    Case("deep/**/", (*DEEP, "deep/y/z/3.txt"), passed_over=1),
    Case("deep/**/*.csv", DEEP, passed_over=1),
    Case("deep/**/*", (*DEEP, "deep/y/z/3.txt"), passed_over=1),
    Case("deep/**/z/*.csv", ("deep/y/z/3.csv",), passed_over=1),
    Case("**/3.csv", ("deep/y/z/3.csv",), passed_over=8),
    Case("deep/*/*.csv", ("deep/y/2.csv",), passed_over=1),
    Case("deep/*.csv", ("deep/1.csv",)),
    # hidden names, asked for or not
    Case("x/.2026-10.csv", ("x/.2026-10.csv",)),
    Case("x/.*.csv", ("x/.2026-10.csv",)),
    Case("x/_*", ("x/_2026-09.csv",)),
    Case("x/.2026-08", ("x/.2026-08/a.csv",)),
    Case("deep/_temporary/*.csv", ("deep/_temporary/4.csv",)),
    Case("deep/**/_temporary/*.csv", ("deep/_temporary/4.csv",), passed_over=1),
    Case("x/*-10.csv", None, passed_over=1),
    # partitions
    Case(
        "t/dt=*",
        (
            "t/dt=2026-11-25/h=1/a.parquet",
            "t/dt=2026-11-25/h=2/b.parquet",
            "t/dt=2026-11-26/h=1/c.parquet",
        ),
        passed_over=1,
    ),
    Case("t/dt=2026-11-26", ("t/dt=2026-11-26/h=1/c.parquet",), passed_over=1),
    Case(
        "t/dt=*/h=1",
        ("t/dt=2026-11-25/h=1/a.parquet", "t/dt=2026-11-26/h=1/c.parquet"),
    ),
    Case("t/dt=2026-11-2[56]/h=2/*", ("t/dt=2026-11-25/h=2/b.parquet",)),
    Case("t/**/*.parquet", tuple(sorted(f for f in FILES if f.endswith(".parquet"))), 1),
    # brackets, and names that hold them
    Case("br/a[1].csv", ("br/a[1].csv",)),
    Case("br/a[[]1].csv", ("br/a[1].csv",)),
    Case("br/a[12].csv", ("br/a1.csv",)),
    Case("br/a[!2].csv", ("br/a*.csv", "br/a1.csv")),
    Case("br/[2026]", ("br/[2026]/b.csv",)),
    Case("br/[2026]/*.csv", ("br/[2026]/b.csv",)),
    Case("br/[[]2026]/*", ("br/[2026]/b.csv",)),
    Case("br/a*.csv", ("br/a*.csv",)),
    Case("br/q?.csv", ("br/q?.csv",)),
    Case("br/q[?].csv", ("br/q?.csv",)),
    Case("br/q*.csv", ("br/q?.csv", "br/qq.csv")),
    # letters
    Case("Case/[a-z].csv", ("Case/a.csv",)),
    Case("case/*.csv", None),
    # nothing
    Case("nothing*", None),
    Case("nothing", None),
    Case("x/2026-11.csv/*", None),
    Case("m/empty", None),
    Case("m/empty/*", None),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("exports")
    for folder in MARKERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n")
    return str(root)


@pytest.fixture(scope="module")
def s3(s3_endpoint: str) -> Iterator[str]:
    s3fs = pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        files.mkdir("patterns")
        for name in (*MARKERS, *FILES):
            body = b"" if name.endswith(("/", "$")) else f"{name}\n".encode()
            files.call_s3("put_object", Bucket="patterns", Key=name, Body=body)
        yield "s3://patterns"
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("where", ["disk", "s3"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.pattern)
def test_what_a_pattern_stands_for(case: Case, where: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(where)
    export = f"{root}/{case.pattern}"
    if case.files is None:
        with pytest.raises(SourceError) as caught:
            find_locations([export])
        assert caught.value.exit_status is ExitStatus.USAGE
        assert caught.value.hint
        return
    locations, notes, _ = find_locations([export])
    assert [location.name for location in locations] == [f"{root}/{file}" for file in case.files]
    assert [f"passed over {case.passed_over} names" in note for note in notes] == (
        [True] if case.passed_over else []
    )


def test_what_a_pattern_stands_for_in_a_store_is_read_with_its_sizes_and_times(s3: str) -> None:
    source = open_source([f"{s3}/x/2026-*"], ReadingOptions(format="text"))
    names = [f"{s3}/{file}" for file in ("x/2026-11.csv", *X12)]
    read = [uid for block in source.blocks() for uid in block.uids.to_pylist()]
    assert [f"{s3}/{uid}" for uid in read] == names
    assert {each.name: each.bytes for each in source.files} == {
        f"{s3}/{uid}": len(uid) + 1 for uid in read
    }
    assert all(file.written_utc_ns is not None for file in source.files)


def test_patterns_of_this_machine_follow_links_that_they_match(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.csv").write_text("a\n")
    (tmp_path / "by").mkdir()
    (tmp_path / "by" / "link").symlink_to("../real")
    (tmp_path / "by" / "loop").symlink_to(".")

    def found(pattern: str) -> list[str]:
        return [location.name for location in find_locations([f"{tmp_path}/{pattern}"]).locations]

    assert found("by/link") == found("by/l*k") == [f"{tmp_path}/by/link/a.csv"]
    assert found("by/*/a.csv") == [f"{tmp_path}/by/link/a.csv"]
    with pytest.raises(SourceError, match="no file matches"):
        found("by/**")


def test_two_slashes_in_a_key_are_a_folder_without_a_name(s3: str) -> None:
    s3fs = pytest.importorskip("s3fs")
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir("slashes")
    for name in ("a.csv", "d//e.csv", "d/f.csv"):
        files.call_s3("put_object", Bucket="slashes", Key=name, Body=b"x\n")
    root = s3.replace("patterns", "slashes")
    names = [f"{root}/{name}" for name in ("a.csv", "d//e.csv", "d/f.csv")]
    for pattern in (root, f"{root}/", f"{root}/**", f"{root}/**/*.csv"):
        assert sorted(location.name for location in find_locations([pattern]).locations) == names
