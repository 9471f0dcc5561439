"""What is no list of uids is refused, saying what it is; whatever could be a list is read."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
import zlib
from base64 import b64encode, encodebytes
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.orc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ExitStatus, SourceError, UsageError
from engine.source.files.opening import open_source
from engine.source.formats.unsupported_content import (
    likely_unsupported_content,
    unsupported_content,
)
from engine.source.options import Format, ReadingOptions

IDS = b"".join(b"%024x\n" % (number * 2_654_435_761 % (1 << 96)) for number in range(40))
TABLE = pa.table({"user_id": ["a1", "a2"]})
FEW = b"a1\na2\n"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(name: str, data: bytes, options: ReadingOptions) -> str:
    Path(name).write_bytes(data)
    with pytest.raises((SourceError, UsageError)) as caught:
        list(open_source([name], options).blocks())
    assert caught.value.exit_status is ExitStatus.USAGE
    assert caught.value.message.startswith(f"{name}: ")
    return caught.value.message


def read(name: str, data: bytes, options: ReadingOptions) -> list[str]:
    Path(name).write_bytes(data)
    return [u for block in open_source([name], options).blocks() for u in block.uids.to_pylist()]


def tar(format_: int) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=format_) as archive:
        member = tarfile.TarInfo("ids.txt")
        member.size = len(FEW)
        archive.addfile(member, io.BytesIO(FEW))
    return written.getvalue()


def old_tar() -> bytes:
    """Return an archive of the time before POSIX, which has no magic."""
    header = bytearray(tar(tarfile.USTAR_FORMAT)[:512])
    header[257:] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + FEW.ljust(512, b"\0") + bytes(1024)


def zip_archive() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("ids.txt", FEW)
    return written.getvalue()


def sqlite() -> bytes:
    with sqlite3.connect("made.db") as made:
        made.execute("CREATE TABLE users (id TEXT)")
    made.close()
    return Path("made.db").read_bytes()


def written_by(write: Callable[[io.BytesIO], object]) -> bytes:
    written = io.BytesIO()
    write(written)
    return written.getvalue()


def arrow_stream(file: io.BytesIO) -> None:
    with pyarrow.ipc.new_stream(file, TABLE.schema) as writer:
        writer.write_table(TABLE)


def cpio(magic: bytes) -> bytes:
    return magic + b"0" * 86 + b"00000008" + b"0" * 10 + b"ids.txt\0\0\0" + FEW


BINARY: Mapping[str, Callable[[], bytes]] = {
    "a tar archive": lambda: tar(tarfile.USTAR_FORMAT),
    "a tar archive ": lambda: tar(tarfile.GNU_FORMAT),
    "a tar archive  ": lambda: tar(tarfile.PAX_FORMAT),
    "a tar archive   ": old_tar,
    "a zip archive": zip_archive,
    "an empty zip archive": lambda: b"PK\x05\x06" + bytes(18),
    "a 7z archive": lambda: b"7z\xbc\xaf\x27\x1c\0\x04" + IDS,
    "a rar archive": lambda: b"Rar!\x1a\x07\x01\0" + IDS,
    "a cpio archive": lambda: cpio(b"070701"),
    "a cpio archive ": lambda: cpio(b"070707"),
    "an ar archive": lambda: (
        b"!<arch>\nids.txt/        0           0     0     644     6         `\n" + FEW
    ),
    "a cab archive": lambda: b"MSCF\0\0\0\0" + IDS,
    "compressed with xz": lambda: lzma.compress(IDS),
    "compressed with lzma": lambda: lzma.compress(IDS, lzma.FORMAT_ALONE),
    "compressed with lz4": lambda: pa.compress(IDS, codec="lz4", asbytes=True),
    "compressed with snappy": lambda: b"\xff\x06\0\0sNaPpY" + IDS,
    "compressed with compress": lambda: b"\x1f\x9d\x90" + IDS,
    "compressed with zlib": lambda: zlib.compress(IDS),
    "compressed with lzip": lambda: b"LZIP\x01\x0c" + lzma.compress(IDS)[12:],
    "compressed twice": lambda: gzip.compress(gzip.compress(FEW)),
    "compressed twice ": lambda: bz2.compress(gzip.compress(FEW)),
    "an ORC file": lambda: written_by(lambda file: pyarrow.orc.write_table(TABLE, file)),
    "an Avro file": lambda: b"Obj\x01\x04\x16avro.schema" + IDS,
    "an Arrow or Feather file": lambda: written_by(
        lambda file: pyarrow.feather.write_feather(TABLE, file)
    ),
    "an Arrow stream": lambda: written_by(arrow_stream),
    "a Python pickle": lambda: pickle.dumps(["a1", "a2"] * 20, protocol=4),
    "a Python pickle ": lambda: pickle.dumps({"uids": ["a1"]}),
    "an HDF5 file": lambda: b"\x89HDF\r\n\x1a\n" + bytes(40),
    "a NumPy array": lambda: b"\x93NUMPY\x01\0v\0{'descr': '<U2'}\n" + bytes(9),
    "an SQLite database": sqlite,
    "a BSON dump": lambda: b"\x16\0\0\0\x07_id\0" + b"abcdefghijkl\0",
    "a PostgreSQL dump": lambda: b"PGDMP\x01\x0e\0\x04\x08" + IDS,
    "an old Excel": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40),
    "a PDF document": lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "a PNG image": lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "a JPEG image": lambda: b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "a GIF image": lambda: b"GIF89a\x01\0\x01\0\x80\0",
    "a program": lambda: b"\x7fELF\x02\x01\x01\0" + bytes(8),
    "a Hadoop sequence file": lambda: b"SEQ\x06\x19org.apache.hadoop.io.Text\0",
    "encrypted by PGP": lambda: b"\x85\x01\x0c\x03" + lzma.compress(IDS)[12:60],
    "encrypted by OpenSSL": lambda: b"Salted__" + lzma.compress(IDS)[12:90],
    "UTF-16, not UTF-8": lambda: "user_id\nжщю\n".encode("utf-16"),
    "UTF-16, not UTF-8 ": lambda: b"\xfe\xff" + "中文".encode("utf-16-be"),
    "UTF-16LE, not UTF-8": lambda: "ж\nщ\n".encode("utf-16-le"),
    "UTF-16LE, not UTF-8 ": lambda: "жщю\r\nядэ\r\n".encode("utf-16-le"),
    "UTF-16LE, not UTF-8    ": lambda: "жщ".encode("utf-16-le"),
    "UTF-16LE, not UTF-8  ": lambda: "中文\n用户\n".encode("utf-16-le"),
    "UTF-16LE, not UTF-8   ": lambda: "user_id\na1\n😀\n".encode("utf-16-le"),
    "UTF-16BE, not UTF-8": lambda: "ж\nщ\n".encode("utf-16-be"),
    "UTF-16BE, not UTF-8 ": lambda: "مرحبا\n".encode("utf-16-be"),
    "UTF-32, not UTF-8": lambda: "a1\n".encode("utf-32"),
    "UTF-32LE, not UTF-8": lambda: "ж1\n".encode("utf-32-le"),
    "UTF-32BE, not UTF-8": lambda: "a1\n".encode("utf-32-be"),
    "nothing but zero bytes": lambda: bytes(5000),
    "is binary": lambda: b"a1\na2\0\0\0\0",
    "is binary ": lambda: b"a1\n" * 1000 + b"\0" * 500,
    "is binary    ": lambda: b"a1\0\na2\n",
    "is binary        ": lambda: b"a\0",
    "is binary     ": lambda: b"\xc3\xa9\0\na2\n",
    "is binary      ": lambda: b"a1\na\0b\n",
    "is binary  ": lambda: b"\x01\x02\x03\xff\xfe\x80abc\xff",
    "NUL between its lines": lambda: b"a1\0a2\0a3\0",
    "control characters": lambda: b"a1\x01IN\x012024\na2\x01GB\x012025\n",
    "control characters ": lambda: b"\x1b[32ma1\x1b[0m\n\x1b[32ma2\x1b[0m\n",
}

TEXT: Mapping[str, bytes] = {
    "an XML document": b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>\n',
    "an XML document ": b"<Error><Code>AccessDenied</Code><Message>x</Message></Error>",
    "an XML document  ": b'\xef\xbb\xbf\n<?xml version="1.0"?><users><id>a1</id></users>\n',
    "an XML document   ": b"<!DOCTYPE plist PUBLIC>\n<plist></plist>",
    "an HTML page": b"<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>\n",
    "an HTML page ": b"\n\n  <html>\n<head><title>502</title></head></html>\n",
    "an HTML page  ": b"\xef\xbb\xbf<!doctype HTML><p>no\n",
    "an HTML page   ": b"<!-- sign in -->\n<!-- again --><html lang=en>\n<p>x",
    "a web page's source": b"<?php echo 1; ?>\n",
    "a key": b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n",
    "a key ": b"-----BEGIN PGP MESSAGE-----\r\n\r\nhQ\r\n-----END PGP MESSAGE-----\r\n",
    "a key  ": b"Bag Attributes\n    localKeyID: 01\n-----BEGIN CERTIFICATE-----\nMII\n",
    "an SSH key": b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ joe@host\n",
    "an SSH key ": b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI joe@host\n",
    "an SSH key   ": b"# joe\n\n# again\nssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ joe@host\n",
    "an SSH key    ": b'command="x y",no-pty ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ joe\n',
    "an SSH key     ": b"host.invalid ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI\n",
    "an SSH key  ": b"PuTTY-User-Key-File-3: ssh-rsa\n",
    "an age key": b"# created: 2024\n# public key: age1x\nAGE-SECRET-KEY-1ABC\n",
    "an encrypted file of Ansible": b"$ANSIBLE_VAULT;1.1;AES256\n3132\n",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
    "a git-annex pointer": b"/annex/objects/SHA256E-s12--4d7a.csv\n",
    "a git-annex pointer ": b"../.git/annex/objects/Gq/1x/SHA256E-s12--4d/SHA256E-s12--4d",
    "a DVC pointer": b"outs:\n- md5: a304afb96060aad90176268345e10355\n  path: e.csv\n",
    "a file with a Git merge conflict": b"a1\n<<<<<<< HEAD\na2\n=======\na3\n>>>>>>> night\n",
    "a patch": b"diff --git a/ids.txt b/ids.txt\n",
    "a script": b"#!/bin/sh\npsql -c 'select 1'\n",
    "a script ": b"#!/usr/bin/env python3\n",
    "an HTTP response": b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\na1\r\n",
    "an SQL dump": b"--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n",
    "an SQL dump ": b"-- MySQL dump 10.13  Distrib 8.0\n",
    "an SQL dump  ": b"/*!40101 SET NAMES utf8 */;\n",
    "an SQL script": b"COPY public.users (id) FROM stdin;\na1\na2\n\\.\n",
    "an SQL script ": b"INSERT INTO users VALUES ('a1');\nINSERT INTO users VALUES ('a2');\n",
    "an SQL script  ": b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n",
    "an SQL script   ": b"-- users\nCREATE TABLE users (id text);\n",
    "what psql says": b"COPY 42\n",
    "an error message of Python": b"Traceback (most recent call last):\n  File x\n",
    "an error message": b'ERROR:  relation "users" does not exist\nLINE 1: select\n',
    "an error message ": b"Access Denied\n",
    "an error message  ": b"404 Not Found\r\n",
    "an error message   ": b"bash: line 1: psql: command not found\n",
    "an error message    ": b"curl: (22) The requested URL returned error: 404\n",
    "an error message     ": b"\nAn error occurred (AccessDenied) when calling the GetObject "
    b"operation: Access Denied\n",
    "an error message      ": b"fatal error: An error occurred (404) when calling the HeadObject "
    b"operation: Not Found\n",
    "an error message       ": b"fatal: could not read Username for 'https://host.invalid'\n",
    "an error message        ": b"ssh: connect to host x.invalid port 22: Connection refused\n",
    "a key   ": b"# of joe\n\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n",
    "an error message in JSON": b'{"error": {"code": 403, "message": "denied"}}',
    "an error message in JSON ": b'{\n  "error": "access denied"\n}\n',
    "an error message in JSON  ": b'{"message":"Forbidden","status":403}\n',
    "an error message in JSON    ": b'{"message":"Forbidden"}',
    "an error message in JSON     ": b'{"detail":"Not Found"}\n',
    "an error message in JSON   ": b'{"errors":[{"message":"no"}],"data":null}\n',
}

LIKELY: Mapping[str, bytes] = {
    "markup": b"<div><p>Please sign in</p>\n<p>or not",
    "JSON": b'{"user_id": "a1"}\n{"user_id": "a2"}\n',
    "JSON ": b'["a1", "a2"]\n',
    "JSON  ": b'[\n  {"user_id": "a1"}\n]\n',
    "a table drawn with lines": b" user_id | n \n---------+---\n a1      | 1\n(1 row)\n",
    "a table drawn with lines ": b" user_id \n---------\n a1\n(1 row)\n",
    "a table drawn with lines  ": b"+----+\n| id |\n+----+\n| a1 |\n+----+\n",
    "a table drawn with lines   ": b"| user_id | n |\n|---------|--:|\n| a1 | 1 |\n",
    "a table drawn with lines    ": "┌─────┐\n│ id  │\n├─────┤\n│ a1  │\n└─────┘\n".encode(),
    "markup ": b"<Error/>\n",
    "markup  ": b'<Error code="AccessDenied" />',
    "an SQL script": b"-- users\nuse it;\nselect 1;\n",
    "uuencoded": b"begin 644 i.txt\n&83$*83(*\n`\nend\n",
    "uuencoded  ": b"begin 644 i.txt",
    "uuencoded ": b"begin-base64 644 x\nYTEKYTIK\n====\n",
    "base64": b64encode(gzip.compress(FEW)) + b"\n",
    "base64 ": encodebytes(gzip.compress(IDS)),
    "base64  ": b64encode(gzip.compress(IDS)),
    "base64   ": encodebytes(zip_archive()),
    "base64    ": encodebytes(tar(tarfile.USTAR_FORMAT)),
    "base64     ": encodebytes(bz2.compress(IDS)),
    "base64      ": encodebytes(old_tar()).replace(b"\n", b"\r\n"),
    "a Python pickle": pickle.dumps(["a1", "a2"], protocol=0),
    "a Python pickle ": pickle.dumps({"a1": 1}, protocol=0),
    "a Python pickle  ": pickle.dumps({"a1"}, protocol=0),
    "a Python pickle   ": pickle.dumps(("a1", "a2"), protocol=0),
    "a log": b"2024-01-01 00:00:00,123 INFO started\n2024-01-01 00:00:01,5 WARN slow\n",
    "a log ": b"[2024-01-01T00:00:00Z] [x] ERROR no\n" * 3 + b"  at x\n",
    "a log  ": b"2024-01-01T00:00:00Z FATAL no",
    "an error message": b"AccessDeniedException: 403 joe does not have access\n",
    "an error message ": b"error: the table is not there\n",
    "a key": b"Certificate:\n    Data:\n-----BEGIN CERTIFICATE-----\nMII\n",
    "an SQL query": b"SELECT user_id FROM users WHERE x;\n",
    "a list of checksums": b"d41d8cd98f00b204e9800998ecf8427e  e.csv\n",
    "a list of checksums ": b"SHA256 (e.csv) = " + b"0" * 64 + b"\n",
    "an e-mail": b"From: joe@host\nTo: ann@host\nSubject: the list\n\na1\n",
    "an e-mail ": b"From joe@host Thu Nov 26 10:00:00 2026\nReceived: x\n",
}

LISTS: Mapping[str, bytes] = {
    "angle brackets": b"<joe@mail.example>\n<ann@mail.example>\n",
    "angle brackets of one word": b"<a1>\n<a2>\n",
    "less than": b"<\n<3\n",
    "magics in letters": b"PK\nORC\nBM1\nMZ\nII*\nGIF89a\nSEQ1\nxar!\nDUCK\nREDIS0009\n",
    "magic first": b"MZ90\nMZ91\n",
    "ORC first": b"ORC\nelf\n",
    "PAR1": b"PAR1\nPAR2\n",
    "tar numbers": b"070701\n070707\n",
    "long octal numbers": b"0707010000000000000000000000\n" * 30,
    "hashes": b"#1\n#2\n#!x\n",
    "dashes": b"--\n---\n-----\n",
    "a row of dashes": b"-----BEGIN-----\n",
    "braces": b"{a1}\n{a2}\n",
    "brackets": b"(1)\n[\n",
    "words of SQL": b"select\ninsert into\ncopy that\n",
    "digests": b"d41d8cd98f00b204e9800998ecf8427e\n" * 3,
    "base64": b"H4sIAAAAAAAA\nU2FsdGVkX1+abc\n/9j/4AAQSkZJRg\n",
    "from": b"From me\nTo you\n",
    "version": b"version 1\nversion 2\n",
    "status": b"404\n403\nForbidden\n",
    "not found among others": b"Not Found\na1\n",
    "a percent": b"%PDF\n%1\n",
    "Latin-1 beside UTF-8": "a1\nJürgen\n".encode() + "José\n".encode("latin-1"),
    "Windows quotes": b"a1\n\x84quoted\x93 and \x85\n",
    "a control character among many": b"a1\n" * 100 + b"a\x01b\n",
    "emoji": "😀\n👩‍👩‍👧\n".encode(),
    "words of errors": b"error: one two\na1\nfatal: x\n",
    "one error": b"error:x\n",
    "an element and more": b"<a1/>\n<a2/>\n",
    "begin": b"begin\nbegin 644 x\nend\n",
    "times": b"2024-01-01 00:00:00\n2024-01-01T00:00:01 a1\n",
    "a log line in the middle": b"2024-01-01 00:00:00 INFO\na1\na2\na3\n",
    "base64 of one width": b"H4sIAAAAAAAAA0vUNuQCAA==\n" * 4,
    "the start of base64": b"H4sI\n",
    "one token": b"q83vEjRWeJCrze8SNFZ4kA==\n",
    "parentheses": b"(lp\n(dpx\nV1\np0x\n",
    "keys in words": b"ssh-rsa\nssh-rsa BBBB\n# ssh-rsa\n",
    "use": b"use it\nset x\n",
    "sep": b"sep=x\nSEP=,\n",
    "a NUL behind the start": b"a1\n" * 4000 + b"a\0b\n",
}

TEXT_FORMATS: tuple[Format, ...] = ("text", "csv", "tsv", "ndjson")


@pytest.mark.parametrize("words", BINARY)
def test_binary_content_is_named(words: str) -> None:
    data = BINARY[words]()
    for name in ("ids.txt", "ids.csv", "ids"):
        assert words.strip() in refused(name, data, ReadingOptions())
    assert words.strip() in refused("ids.txt", data, ReadingOptions(format="text"))
    assert words.strip() in refused("ids.txt", data, ReadingOptions(column="user_id"))
    if "twice" not in words:
        assert words.strip() in refused("ids.txt.gz", gzip.compress(data), ReadingOptions())


@pytest.mark.parametrize("words", ["a zip archive", "an ORC file", "an XML document", "a script"])
def test_what_is_no_parquet_either_is_named(words: str) -> None:
    data = BINARY[words]() if words in BINARY else TEXT[words]
    assert words in refused("ids.parquet", data, ReadingOptions())


@pytest.mark.parametrize("words", TEXT)
def test_documents_keys_pointers_and_error_pages_are_named(words: str) -> None:
    for name in ("ids.txt", "ids.csv", "ids.tsv", "ids"):
        assert words.strip() in refused(name, TEXT[words], ReadingOptions())
        assert words.strip() in refused(name, TEXT[words], ReadingOptions(column="user_id"))
    for format_ in TEXT_FORMATS:
        options = ReadingOptions(format=format_)
        assert words.strip() in refused("ids.txt", TEXT[words], options)


@pytest.mark.parametrize("words", LIKELY)
def test_what_is_hardly_a_list_is_read_only_where_the_format_is_given(words: str) -> None:
    data = LIKELY[words]
    assert words.strip() in refused("ids.txt", data, ReadingOptions())
    assert words.strip() in refused("ids.csv", data, ReadingOptions())
    assert words.strip() in refused("ids.csv", data, ReadingOptions(header=False))
    lines = [line for line in data.decode().splitlines() if line]
    assert read("ids.txt", data, ReadingOptions(format="text")) == lines


@pytest.mark.parametrize("what", LISTS)
def test_a_list_of_anything_printable_is_read(what: str) -> None:
    lines = []
    for line in LISTS[what].splitlines():
        try:
            lines.append(line.decode())
        except UnicodeDecodeError:
            continue  # An invalid row.
    assert read("ids.txt", LISTS[what], ReadingOptions()) == lines


PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)


@given(st.lists(PRINTABLE, min_size=1, max_size=20))
def test_printable_lines_are_no_sign_of_anything(lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    assert unsupported_content(data) is None
    assert likely_unsupported_content(data) is None or data.startswith((b"{", b"[", b"<"))


@pytest.mark.parametrize("name", ["e.ndjson", "e.json", "e"])
def test_a_record_that_has_a_field_named_error_is_no_error_message(name: str) -> None:
    data = json.dumps({"user_id": "a1", "error": "none"}).encode()
    assert read(name, data, ReadingOptions(column="user_id")) == ["a1"]
    two = b'{"error":"x"}\n{"error":"y"}\n'
    assert read(name, two, ReadingOptions()) == ["x", "y"]


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


def test_a_key_in_a_column_beside_the_uids_is_no_key() -> None:
    data = f'user_id,cert\na1,"line\n{CERTIFICATE}"\na2,"{CERTIFICATE}"\n'.encode()
    named = ReadingOptions(column="user_id")
    for name in ("e.csv", "e.txt", "e"):
        assert read(name, data, named) == ["a1", "a2"]
    assert "a key" in refused("e.csv", data, ReadingOptions())
    beside = b"a1,my ssh-rsa AAAA\n"
    assert read("e.csv", beside, ReadingOptions(column="1", header=False)) == ["a1"]
    given = ReadingOptions(column="2", header=False, format="csv")
    assert read("e.csv", data, given)[0] == "cert"


@pytest.mark.parametrize("data", [b'{"reason":"forbidden"}', b'{"msg":"no","code":1}\n'])
def test_a_reason_alone_is_an_error_message_where_nothing_shows_of_ndjson(data: bytes) -> None:
    field = next(iter(json.loads(data)))
    for name in ("e", "e.json", "e.dat"):
        assert "an error message in JSON" in refused(name, data, ReadingOptions())
        assert read(name, data, ReadingOptions(column=field))
        assert read(name, data, ReadingOptions(format="text")) == [data.decode().strip()]
    assert read("e.ndjson", data, ReadingOptions(column=field))
