"""Exports that cannot be opened or read on: one line, and 75 where it may pass, else 2."""

import errno
import ftplib
import gzip
import io
import socket
import ssl
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from engine.errors import (
    CohortSyncError,
    ExitStatus,
    MissingExportError,
    SourceError,
    SourceUnavailableError,
)
from engine.source.files.backend_errors import source_error
from engine.source.files.opening import open_source
from engine.source.options import ReadingOptions
from engine.source.protocol import Source
from export_server import ExportServer
from exports import parquet

COLUMN = ReadingOptions(column="uid")
UIDS = [f"user{number:020}" for number in range(250_000)]
CSV = "".join(f"{uid}\n" for uid in ["uid", *UIDS]).encode()


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def uids(source: Source) -> list[str]:
    return [uid for block in source.blocks() for uid in block.uids.to_pylist()]


def refused(url: str, options: ReadingOptions = COLUMN) -> CohortSyncError:
    """Return the error of an export that cannot be opened or read; no wait takes time."""
    with pytest.raises(CohortSyncError) as caught:
        uids(open_source([url], options, sleep=lambda _: None))
    assert caught.value.hint
    assert "\n" not in caught.value.message
    for text in (caught.value.message, caught.value.hint):
        assert "SECRET" not in text
    return caught.value


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("zipped") / "e.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "uid\na1\n")
        archive.writestr("d/b.csv", "uid\nb1\n")
        archive.writestr("d/_SUCCESS", "")
    return str(path)


# As it is opened

MISSING = ("no such file", "nothing there", "no file matches")
REFUSED = "the connection was refused"
OPENED = [
    ("ftp://127.0.0.1:9/e.csv", 2, REFUSED),
    ("ftp://joe:SECRET@127.0.0.1:9/e.csv", 2, REFUSED),
    ("http://127.0.0.1:9/e.csv", 75, REFUSED),
    ("http://joe:SECRET@127.0.0.1:9/e.csv?sig=SECRET", 75, REFUSED),
    ("https://127.0.0.1:9/e.csv#token=SECRET", 75, REFUSED),
    ("zip://a.csv::http://joe:SECRET@127.0.0.1:9/e.zip?X-Sig=SECRET", 75, REFUSED),
    ("simplecache::http://joe:SECRET@127.0.0.1:9/e.csv", 75, REFUSED),
    ("tar://a.csv::ftp://joe:SECRET@127.0.0.1:9/e.tar", 2, REFUSED),
    ("zip://a.csv::nothing.zip", 2, "no such file"),
    ("zip://nothing.csv::{zip}", 2, "nothing there"),
    ("zip://no*.csv::{zip}", 2, "no file matches"),
    ("zip://a.csv::bad.zip", 2, "the archive is damaged"),
    ("tar://a.csv::bad.zip", 2, "the archive is damaged"),
    ("zip://a.csv::cut.zip", 2, "the archive is damaged"),
    ("s3://[b]/x", 2, "not a valid URL"),
    ("http://[b/x", 2, "no such file"),
    ("http://", 2, ""),
    ("s3://", 2, ""),
    ("s3:///x", 2, ""),
    ("zip://", 2, ""),
    ("::http://x", 2, "no such file"),
    ("hdfs://127.0.0.1:9/x.csv", 2, "cannot be read"),
    ("gopher://x/y", 2, "gopher:// is not known"),
    ("zip://a.csv::gopher://joe:SECRET@x/y", 2, "gopher:// is not known"),
    ("gs://bucket/x", 2, "gs:// needs an extra package"),
    ("abfs://c@account/x", 2, "abfs:// needs an extra package"),
    ("sftp://joe:SECRET@127.0.0.1/x", 2, "sftp:// needs an extra package"),
    ("github://o:r@/x", 2, ""),
    ("data:text/csv,uid", 2, "no such file"),
    ("local:///nothing/here.csv", 2, "nothing there"),
    ("memory://nothing.csv", 2, "nothing there"),
]


@pytest.mark.parametrize(("url", "status", "shown"), OPENED, ids=[url for url, *_ in OPENED])
def test_what_a_backend_raises_as_it_is_opened_is_one_line(
    url: str, status: int, shown: str, zipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    Path("bad.zip").write_bytes(b"no archive")
    Path("cut.zip").write_bytes(Path(zipped).read_bytes()[:-30])
    error = refused(url.format(zip=zipped))
    assert (error.exit_status, shown in error.message) == (status, True), error.message
    assert isinstance(error, MissingExportError) is (shown in MISSING)


def test_files_in_archives_are_read(zipped: str) -> None:
    assert uids(open_source([f"zip://a.csv::{zipped}"], COLUMN)) == ["a1"]
    assert uids(open_source([f"zip://d/b.csv::file://{zipped}"], COLUMN)) == ["b1"]
    source = open_source([f"zip://::{zipped}"], COLUMN)
    assert uids(source) == ["a1", "b1"]
    assert [each.name for each in source.files] == [
        f"zip://a.csv::{zipped}",
        f"zip://d/b.csv::{zipped}",
    ]
    assert abs((source.files[0].written_utc_ns or 0) - Path(zipped).stat().st_mtime_ns) < 2000


# Over http


@pytest.fixture
def server() -> Iterator[ExportServer]:
    server = ExportServer(CSV)
    with server.serving() as host:
        server.url = f"http://joe:SECRET@{host}/e.csv?X-Sig=SECRET"
        yield server


PASSING = (408, 421, 425, 429, 499, 500, 502, 503, 504, 507, 520, 599)
FINAL = (400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 414, 416, 418, 451, 501, 505, 511)


@pytest.mark.parametrize("status", [*PASSING, *FINAL])
def test_the_status_of_an_http_source_is_reported(server: ExportServer, status: int) -> None:
    server.answer = status
    error = refused(server.url)
    assert error.exit_status == (75 if status in PASSING else 2)
    shown = error.hint if status in {404, 410} else error.message
    assert str(status) in shown
    assert ("no such file" in error.message) is (status in {404, 410})
    assert isinstance(error, MissingExportError) is (status in {404, 410})


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("status", [503, 429])
def test_a_read_that_is_answered_with_an_error_is_tried_again(
    server: ExportServer,
    status: int,
    ranges: bool,  # noqa: FBT001 - a table's column
) -> None:
    server.knows_ranges = ranges
    source = open_source([server.url], COLUMN, sleep=lambda _: None)
    server.answers = {server.gets + 1: status, server.gets + 3: status}
    assert uids(source) == UIDS


@pytest.mark.parametrize(
    ("status", "exit_status"), [(503, 75), (403, 2), (404, 2), (500, 75), (401, 2)]
)
def test_an_http_source_that_fails_midway_is_reported(
    server: ExportServer, status: int, exit_status: int
) -> None:
    waits: list[float] = []
    source = open_source([server.url], COLUMN, sleep=waits.append)
    blocks = source.blocks()
    next(blocks)
    server.answers = dict.fromkeys(range(server.gets + 1, 99), status)
    with pytest.raises(SourceError) as caught:
        list(blocks)
    assert caught.value.exit_status == exit_status
    assert str(status) in f"{caught.value.message} {caught.value.hint}"
    assert "SECRET" not in caught.value.message
    assert waits == ([0.5, 1.0, 2.0, 4.0] if exit_status == 75 else [])


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("kept", [0, 3_000_001])
def test_a_read_that_breaks_off_goes_on_at_its_offset(
    server: ExportServer,
    kept: int,
    ranges: bool,  # noqa: FBT001 - a table's column
) -> None:
    server.knows_ranges = ranges
    source = open_source([server.url], COLUMN, sleep=lambda _: None)
    server.breaks = {server.gets + 1: kept, server.gets + 2: kept}
    assert uids(source) == UIDS


def test_a_read_that_breaks_off_ends_where_the_file_has_changed(server: ExportServer) -> None:
    server.knows_ranges = False
    source = open_source([server.url], COLUMN, sleep=lambda _: setattr(server, "etag", '"v2"'))
    server.breaks = dict.fromkeys(range(1, 9), 3_000_000)
    with pytest.raises(SourceError, match="changed while it was read"):
        uids(source)


@pytest.mark.parametrize(
    ("head", "ranges", "gzipped"),
    [(True, True, False), (False, False, False), (True, False, True)],
)
def test_parquet_is_read_from_any_http_server(
    server: ExportServer,
    head: bool,  # noqa: FBT001 - a table's column
    ranges: bool,  # noqa: FBT001 - a table's column
    gzipped: bool,  # noqa: FBT001 - a table's column
) -> None:
    whole = parquet(UIDS)
    server.content = gzip.compress(whole, 1) if gzipped else whole
    server.knows_ranges, server.knows_head = ranges, head
    source = open_source([server.url.replace(".csv", ".parquet")], COLUMN)
    assert uids(source) == UIDS
    assert source.files[0].written_utc_ns == 1_795_486_200 * 10**9


# Whatever else is raised


def ftp(code: str) -> Exception:
    return {"4": ftplib.error_temp, "5": ftplib.error_perm}[code[0]](f"{code} SECRET")


class Answered(Exception):  # noqa: N818 - as the backends call them
    """An error as the backends' clients have them."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__("SECRET")
        vars(self).update(kwargs)


def boto(status: int) -> Exception:
    return Answered(response={"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {}})


def named(name: str, base: type[Exception] = Exception) -> Exception:
    return type(name, (base,), {})("SECRET")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


CERTIFICATE = ssl.SSLCertVerificationError("SECRET")
RAISED: list[tuple[Exception, int, str]] = [
    (FileNotFoundError("SECRET"), 2, "no such file"),
    (PermissionError("SECRET"), 2, "permission denied"),
    (socket.gaierror(socket.EAI_AGAIN, "SECRET"), 75, "at the moment"),
    (socket.gaierror(socket.EAI_NONAME, "SECRET"), 2, "name is not known"),
    (TimeoutError("SECRET"), 75, "in time"),
    (named("ReadTimeoutError"), 75, "in time"),
    (ConnectionResetError(errno.ECONNRESET, "SECRET"), 75, "broke off"),
    (BrokenPipeError("SECRET"), 75, "broke off"),
    (EOFError("SECRET"), 75, "broke off"),
    (aiohttp.ServerDisconnectedError("SECRET"), 75, "broke off"),
    (aiohttp.ClientPayloadError("SECRET"), 75, "broke off"),
    (OSError(errno.ENETUNREACH, "SECRET"), 75, "cannot be reached"),
    (OSError(errno.EHOSTUNREACH, "SECRET"), 75, "cannot be reached"),
    (named("EndpointConnectionError"), 75, "cannot be reached"),
    (caused(FileNotFoundError("SECRET"), boto(503)), 75, "503"),
    (caused(FileNotFoundError("SECRET"), ConnectionRefusedError("SECRET")), 75, "refused"),
    (caused(PermissionError("SECRET"), boto(403)), 2, "403"),
    (boto(404), 2, "no such file"),
    (boto(412), 2, "changed while it was read"),
    (named("FileExpired", OSError), 2, "changed while it was read"),
    (Answered(status=429), 75, "429"),
    (Answered(status_code=500), 75, "500"),
    (Answered(code=403), 2, "403"),
    (Answered(code=7), 2, "the backend of"),
    (named("NoCredentialsError"), 2, "no credentials"),
    (named("DefaultCredentialsError"), 2, "no credentials"),
    (CERTIFICATE, 2, "certificate is not trusted"),
    (caused(OSError("SECRET"), CERTIFICATE), 2, "certificate is not trusted"),
    (ssl.SSLError("SECRET"), 2, "no TLS"),
    (ftp("421"), 75, "421"),
    (ftp("450"), 75, "450"),
    (ftp("530"), 2, "530"),
    (ftp("550"), 2, "no such file"),
    (ftp("500"), 2, "500"),
    (zipfile.BadZipFile("SECRET"), 2, "archive"),
    (OSError(errno.ENOSPC, "SECRET"), 75, "TMPDIR"),
    (OSError(errno.EDQUOT, "SECRET"), 75, "TMPDIR"),
    (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in"), 75, "TMPDIR"),
    (OSError(errno.EIO, "SECRET"), 2, "Input/output error"),
    (OSError("SECRET"), 2, "the backend of"),
    (RuntimeError("SECRET"), 2, "the backend of"),
    (KeyError("SECRET"), 2, "the backend of"),
    (RuntimeError("File SECRET is encrypted"), 2, "encrypted"),
    (zlib.error("SECRET"), 2, "the archive is damaged"),
    (caused(FileNotFoundError("SECRET"), named("InvalidURL")), 2, "not a valid URL"),
    (caused(FileNotFoundError("SECRET"), named("TooManyRedirects")), 2, "redirects"),
]


@pytest.mark.parametrize(("error", "status", "shown"), RAISED, ids=[repr(e) for e, *_ in RAISED])
def test_whatever_a_backend_raises_is_reported_in_our_words(
    error: Exception, status: int, shown: str
) -> None:
    found = source_error("s3://bucket/a.csv", error, ["s3"])
    assert (found.exit_status, shown in found.message) == (status, True), found.message
    assert isinstance(found, SourceUnavailableError) is (status == 75)
    assert isinstance(found, MissingExportError) is (shown in MISSING)
    assert "SECRET" not in f"{found.message} {found.hint}"


# Our own temporary copies

COPIED = {
    "Parquet from a pipe": parquet(UIDS[:60_000]),
    "Parquet compressed": gzip.compress(parquet(UIDS[:60_000])),
    "a pipe that is kept": CSV * 2,
}


@contextmanager
def piped(path: Path) -> Iterator[str]:
    """Feed a pipe with a file by a process that can be stopped; yield the pipe's path."""
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as feeder:
        assert feeder.stdout is not None
        yield f"/dev/fd/{feeder.stdout.fileno()}"
        feeder.kill()


class FullDisk(io.RawIOBase):
    """A file for which there is no room."""

    def writable(self) -> bool:
        return True

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("copied", COPIED)
@pytest.mark.parametrize("fault", ["full", "missing", "a file"])
def test_a_temporary_copy_that_fails_names_tmpdir(
    copied: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    if fault == "full":
        folder.mkdir()
        monkeypatch.setattr(
            tempfile, "TemporaryFile", lambda *_, **__: io.BufferedWriter(FullDisk())
        )
    elif fault == "a file":
        folder.touch()
    monkeypatch.setenv("TMPDIR", str(folder))
    path = Path("e.parquet.gz")
    path.write_bytes(COPIED[copied])
    with piped(path) as pipe:
        export = str(path) if copied == "Parquet compressed" else pipe
        with pytest.raises(SourceUnavailableError) as caught:
            uids(open_source([export], COLUMN, keep_pipes="kept" in copied))
    assert caught.value.exit_status is ExitStatus.INCOMPLETE
    assert f"TMPDIR={folder}" in caught.value.message
    assert caught.value.hint
