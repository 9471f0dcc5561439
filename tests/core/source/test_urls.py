"""Credentials in URLs are never shown and never kept, and times of writing are read in any form."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from engine.source.files.file_state import FileState, written_utc_ns
from engine.source.urls import display_url, is_redacted, is_url, path_of, redacted

CREDENTIALS = [
    ("https://joe:SECRET@host/a.csv", "https://host/a.csv"),
    ("https://SECRET@host/a.csv", "https://host/a.csv"),
    ("https://joe:S%45CRET%40@host:8443/a.csv", "https://host:8443/a.csv"),
    ("https://joe:SE/CRET@host/a.csv", "https://host/a.csv"),
    ("https://joe:SECRET?x@host/a.csv", "https://host/a.csv"),
    ("https://joe:SECRET#x@host/a.csv", "https://host/a.csv"),
    ("HTTPS://joe:SECRET@host/a.csv", "https://host/a.csv"),
    ("https://host/a.csv?X-Amz-Signature=SECRET&X-Amz-Date=20261124", "https://host/a.csv"),
    ("https://host/a.csv?sv=2&se=3&sp=r&sig=SECRET", "https://host/a.csv"),
    ("https://host/a.csv?X%2DSig=SECRET", "https://host/a.csv"),
    ("https://host/a.csv?GoogleAccessId=a&Expires=1&Signature=SECRET", "https://host/a.csv"),
    ("https://host/a.csv?access_token=SECRET", "https://host/a.csv"),
    ("https://host/a.csv?SECRET", "https://host/a.csv"),
    ("https://host/a.csv?day=2&x=SECRET", "https://host/a.csv?96bef9aa6a13"),
    ("https://host/a.csv?key=SECRET", "https://host/a.csv?5925e16a25d1"),
    ("https://host/a.csv#access_token=SECRET", "https://host/a.csv"),
    ("https://host/a.csv;token=SECRET", "https://host/a.csv;token=REDACTED"),
    ("ftp://joe:SECRET@host/a@b.csv", "ftp://host/a@b.csv"),
    ("sftp://SECRET@host/a.csv", "sftp://host/a.csv"),
    ("s3://KEY:SECRET@bucket/a.csv", "s3://bucket/a.csv"),
    ("s3://bucket/a.csv?X-Amz-Signature=SECRET", "s3://bucket/a.csv?X-Amz-Signature=REDACTED"),
    ("abfs://c@account/a.csv?sv=1&sig=SECRET", "abfs://c@account/a.csv?sv=1&sig=REDACTED"),
    ("abfs://joe:SECRET@account/a.csv", "abfs://account/a.csv"),
    ("smb://host/a.csv#password=SECRET", "smb://host/a.csv#password=REDACTED"),
    ("zip://a.csv::http://joe:SECRET@host/e.zip?X-Sig=SECRET", "zip://a.csv::http://host/e.zip"),
    ("zip://a.csv::HTTP://joe:SECRET@host/e.zip", "zip://a.csv::http://host/e.zip"),
    ("simplecache::https://joe:SECRET@host/a.csv", "simplecache://::https://host/a.csv"),
    ("tar://x/a.csv::zip://b.tar::ftp://joe:SECRET@h/c", "tar://x/a.csv::zip://b.tar::ftp://h/c"),
]


@pytest.mark.parametrize(("url", "expected"), CREDENTIALS)
def test_credentials_in_urls_are_neither_shown_nor_kept(url: str, expected: str) -> None:
    assert is_url(url)
    assert display_url(url) == expected
    assert "SECRET" not in redacted(url)
    assert is_redacted(redacted(url))
    assert redacted(redacted(url)) == redacted(url)


@pytest.mark.parametrize(
    "export",
    [
        "a.csv",
        "-",
        "/srv/exports/*.csv",
        "s3://bucket/x/2026-*/part-?.csv",
        "s3://bucket/a@b?c#d.csv",
        "abfs://container@account.dfs/a.csv",
        "gs://bucket/a=1/b=2.csv",
        "https://host:8443/a@b.csv",
        "zip://a.csv::s3://bucket/a.zip",
        "ftp://host:2121/a/b.csv",
        "s3://bucket/design=2/sight=3.csv",
    ],
)
def test_what_holds_no_credential_is_kept_as_it_is(export: str) -> None:
    assert display_url(export) == redacted(export) == export
    assert not is_redacted(redacted(export))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("?X-Amz-Signature=1&X-Amz-Expires=60", "?X-Amz-Signature=2&X-Amz-Expires=90", True),
        ("?sig=1&se=2026", "?sig=2&se=2027", True),
        ("?day=1&token=1", "?day=1&token=2", True),
        ("?day=1&token=1", "?day=2&token=1", False),
        ("?expires=1", "?expires=2", False),
        ("?key=a.csv", "?key=b.csv", False),
    ],
)
def test_a_new_signature_does_not_make_another_file(
    one: str,
    other: str,
    same: bool,  # noqa: FBT001 - a table's column
) -> None:
    base = "https://host/a.csv"
    assert (display_url(base + one) == display_url(base + other)) is same


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("dir/a.csv.gz", "dir/a.csv.gz"),
        ("https://host/x/a.csv?3e23e8160039", "host/x/a.csv"),
        ("s3://bucket/a?b.csv", "bucket/a?b.csv"),
        ("zip://a.csv::https://host/e.zip", "a.csv"),
        ("simplecache://::https://host/e.csv?3e23", "host/e.csv"),
    ],
)
def test_the_path_of_a_url_shows_the_format(name: str, path: str) -> None:
    assert path_of(name) == path


WRITTEN = datetime(2026, 11, 24, 2, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "info",
    [
        {"LastModified": WRITTEN},  # S3
        {"LastModified": WRITTEN.astimezone(timezone(timedelta(hours=5)))},
        {"updated": "2026-11-24T02:10:30.000Z"},  # GCS
        {"last_modified": WRITTEN},  # Azure
        {"Last-Modified": "Tue, 24 Nov 2026 02:10:30 GMT"},  # HTTP
        {"mtime": WRITTEN.timestamp()},  # a disk
        {"mtime": WRITTEN},  # SFTP, HDFS
        {"modify": "20261124021030"},  # FTP
        {"modify": "20261124021030.500"},
        {"modificationTime": WRITTEN.timestamp() * 1000},  # WebHDFS
        {"created": WRITTEN.replace(tzinfo=None)},  # memory; no zone is UTC
        {"LastModified": "", "last_modified": WRITTEN},
    ],
)
def test_when_a_file_was_written_is_read_in_any_form(info: dict[str, Any]) -> None:
    assert written_utc_ns(info) == int(WRITTEN.timestamp()) * 10**9
    assert FileState.of_info(info).written_utc_ns == written_utc_ns(info)


@pytest.mark.parametrize("info", [{}, {"mtime": None}, {"updated": "soon"}, {"mtime": 0}])
def test_when_a_file_was_written_may_be_unknown(info: dict[str, Any]) -> None:
    assert written_utc_ns(info) is None


def state(size: int | None = 1, written: int | None = 5, tag: str | None = None) -> FileState:
    return FileState(size, written, tag)


@pytest.mark.parametrize(
    ("one", "other", "changed"),
    [
        (state(), state(), False),
        (state(1), state(2), True),
        (state(None), state(2), False),
        (state(tag="a"), state(tag="b"), True),
        (state(tag="a", written=10**9), state(tag="a", written=2 * 10**9), False),
        (state(tag="inode 1"), state(tag="inode 1", written=6), True),
        (state(written=5 * 10**9), state(written=5 * 10**9 + 7), False),  # a listing's milliseconds
        (state(written=5 * 10**9 + 1), state(written=5 * 10**9 + 7), True),
        (state(written=None), state(written=None), False),
    ],
)
def test_another_state_means_a_change(
    one: FileState,
    other: FileState,
    changed: bool,  # noqa: FBT001 - a table's column
) -> None:
    assert (one.change(other) is not None) is changed


def test_tags_are_compared_without_their_quotes() -> None:
    listed, asked = FileState.of_info({"etag": "0x8D"}), FileState.of_info({"ETag": 'W/"0x8D"'})
    assert listed.change(asked) is None
