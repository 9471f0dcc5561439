"""URLs: a real S3 server on loopback, a plain HTTP one, and the words for what is missing."""

import builtins
import functools
import gzip
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import MissingExportError, SourceError, UsageError
from engine.source.files.opening import open_source
from engine.source.files.picking import pick_newest
from engine.source.options import ReadingOptions
from engine.source.protocol import Source

PLAIN = ReadingOptions()


def uids(source: Source) -> list[str]:
    return [uid for block in source.blocks() for uid in block.uids.to_pylist()]


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"uid": ["p"]}), sink)
    return sink.getvalue()


@pytest.fixture(scope="module")
def s3(s3_endpoint: str) -> str:
    """Fill a bucket; return its server's endpoint."""
    s3fs = pytest.importorskip("s3fs")
    files = s3fs.S3FileSystem(
        key="test",
        secret="test",
        client_kwargs={"endpoint_url": s3_endpoint, "region_name": "eu-west-1"},
    )
    files.mkdir("exports")
    for name, data in {
        "2024/b.csv.gz": gzip.compress(b"uid\nb\n" + b"".join(b"u%d\n" % n for n in range(9))),
        "2024/a.txt": b"a\n",
        "2024/_SUCCESS": b"",
        "2024/p.parquet": parquet_bytes(),
        "big.txt": b"".join(b"%024d\n" % n for n in range(400_000)),
        "what?.txt": b"w\n",
    }.items():
        files.pipe_file(f"exports/{name}", data)
    return s3_endpoint


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # of other tests' credentials
    return "s3://exports"


U9 = [f"u{n}" for n in range(9)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/2024/a.txt", ["a"]),
        ("/2024/b.csv.gz", ["b", *U9]),
        ("/2024/p.parquet", ["p"]),
        ("/2024/*.txt", ["a"]),
        ("/what?.txt", ["w"]),
    ],
)
def test_s3_objects_globs_and_folders_are_read(bucket: str, path: str, expected: list[str]) -> None:
    assert uids(open_source([bucket + path], PLAIN)) == expected


def test_an_s3_object_larger_than_what_is_read_ahead_streams(bucket: str) -> None:
    source = open_source([f"{bucket}/big.txt"], PLAIN)
    assert [(each.name, each.bytes) for each in source.files] == [
        ("s3://exports/big.txt", 10_000_000)
    ]
    assert source.identity["files"] == [{"file": "s3://exports/big.txt", "format": "text"}]
    assert uids(source) == [f"{n:024}" for n in range(400_000)]


@pytest.mark.parametrize("path", ["/nothing.txt", "/no*.txt", "/nothing/"])
def test_what_is_not_in_the_bucket_is_named(bucket: str, path: str) -> None:
    with pytest.raises(
        MissingExportError, match=r"^s3://exports/no.*: (nothing there|no file matches)$"
    ):
        open_source([bucket + path], PLAIN)


def test_the_newest_of_a_bucket_is_picked(bucket: str) -> None:
    assert pick_newest(f"{bucket}/20*/") == "s3://exports/2024"
    assert pick_newest(f"{bucket}/20*/*.txt") == "s3://exports/2024/a.txt"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_http_file_is_read_and_its_credentials_are_not_shown(web: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("uid\na\nb\n")
    source = open_source([f"http://{web}/a.csv?signature=secret"], PLAIN)
    assert uids(source) == ["a", "b"]
    assert [each.name for each in source.files] == [f"http://{web}/a.csv"]
    assert "secret" not in repr((source.identity, source.files))
    signed_anew = open_source([f"http://{web}/a.csv?signature=other"], PLAIN)
    assert signed_anew.identity == source.identity
    other = open_source([f"http://{web}/a.csv?signature=secret&day=2"], PLAIN)
    assert other.identity != source.identity


def test_an_http_error_is_reported_without_the_credentials(web: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source([f"http://{web}/nothing.csv?signature=secret"], PLAIN)
    assert caught.value.message.endswith(": no such file")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://me:secret@host/a.csv", "ftp://host/a.csv"),
        ("https://me:secret@host/a.csv?b", "https://host/a.csv?3e23e8160039"),
        ("abfs://container@account/a.csv", "abfs://container@account/a.csv"),
        ("s3://bucket/a?b#c.csv", "s3://bucket/a?b#c.csv"),
    ],
)
@pytest.mark.parametrize("missing", ["fsspec", "backend"])
def test_a_missing_package_is_named_with_its_extra(
    url: str, shown: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ImportError

    def without_fsspec(name: str, *args: object, **kwargs: object) -> ModuleType:
        return absent() if name.startswith("fsspec") else real(name, *args, **kwargs)

    real = builtins.__import__
    if missing == "fsspec":
        monkeypatch.setattr(builtins, "__import__", without_fsspec)
    else:
        monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(UsageError) as caught:
        open_source([url], PLAIN)
    scheme = url.partition(":")[0]
    if (missing, scheme) == ("fsspec", "ftp"):  # nothing names the missing package
        assert caught.value.message == f"{shown}: ftp:// is not known"
        return
    package, extra = {
        "https": ("'fsspec[http]'", "http"),
        "abfs": ("adlfs", "abfs"),
        "s3": ("s3fs", "s3"),
        "ftp": (None, None),
    }[scheme]
    hint = f"pip install {package} (in the checkout: pip install '.[{extra}]')"
    assert caught.value.message == f"{shown}: {scheme}:// needs an extra package"
    assert caught.value.hint == (package and hint)


def test_what_a_backend_of_fsspec_lacks_is_reported_in_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ImportError("install paramiko")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    with pytest.raises(UsageError) as caught:
        open_source(["sftp://host/a.csv"], PLAIN)
    assert caught.value.hint == "install paramiko"


def test_whatever_fsspec_opens_is_read() -> None:
    fsspec.filesystem("memory").pipe({"/exports/a.csv": b"uid\na\n", "/exports/b.csv": b"uid\nb\n"})
    assert uids(open_source(["memory://exports"], PLAIN)) == ["a", "b"]


def test_a_file_url_is_the_path_in_it_and_needs_no_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.source.files.finding.find_remote", None)
    (tmp_path / "a b.txt").write_text("a\n")
    source = open_source([f"file://{tmp_path}/*.txt"], PLAIN)
    assert uids(source) == ["a"]
    assert source.identity == open_source([str(tmp_path / "a b.txt")], PLAIN).identity


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match=r"gopher://x/y: gopher:// is not known"):
        open_source(["gopher://x/y"], PLAIN)


def test_a_backend_that_breaks_off_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    source = open_source([f"local://{tmp_path}/a.txt"], PLAIN)

    def broken(*_: object) -> bytes:
        raise RuntimeError("key=secret")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileOpener.read", broken)
    with pytest.raises(SourceError) as caught:
        list(source.blocks())
    assert (
        caught.value.message
        == f"local://{tmp_path}/a.txt: cannot be read (the backend of local:// cannot open it)"
    )
