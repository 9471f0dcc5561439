"""Recognizes, by their first bytes, files that are not lists of uids.

`unsupported_content` finds content that no list can have: binary content, the first bytes of an
archive or a document, another encoding. `likely_unsupported_content` finds content that a list
could have but rarely has; its result is ignored if `--format` is given.
"""

import re
import unicodedata
from base64 import b64decode
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.source.formats.compression import compression_of

SAMPLE_BYTES = 8000
"""Bytes at the start of a file that are searched for binary content; Git uses the same number."""


@dataclass(frozen=True, slots=True)
class UnsupportedContent:
    """A file's recognized content, and a hint about it."""

    fault: str
    """The clause that follows the file's name in the message."""
    hint: str | None = None


_ARCHIVE = "unpack it first, and push the list that is in it"
_COMPRESSED = "decompress it first; gz, zst and bz2 are read as they are"
_TABLES = "export the column as csv, Parquet or ndjson"
_SPREADSHEET = "save the sheet as csv (UTF-8)"
_SECRET = "nothing of it was sent; is it the wrong file?"  # noqa: S105 - words for people
SAVED_PAGE = "check it: an error or a sign-in page may have been saved in place of the export"
_DUMP = "export the column itself: \\copy (SELECT …) TO 'uids.csv' CSV HEADER, or mysql --batch"
_POINTER = "fetch the file that it points to: git lfs pull, git annex get, or dvc pull"

_MAGIC: Sequence[tuple[int, tuple[bytes, ...], str, str | None]] = (
    (0, (b"PK\x03\x04",), "a zip archive or an Excel workbook", _ARCHIVE),
    (0, (b"PK\x05\x06",), "an empty zip archive", _ARCHIVE),
    (0, (b"PK\x07\x08",), "a part of a zip archive", _ARCHIVE),
    (257, (b"ustar",), "a tar archive", _ARCHIVE),
    (0, (b"7z\xbc\xaf\x27\x1c",), "a 7z archive", _ARCHIVE),
    (0, (b"Rar!\x1a\x07",), "a rar archive", _ARCHIVE),
    (0, (b"070701", b"070702", b"070707"), "a cpio archive", _ARCHIVE),
    (0, (b"MSCF",), "a cab archive", _ARCHIVE),
    (0, (b"xar!",), "a xar archive", _ARCHIVE),
    (2, (b"-lh",), "an lha archive", _ARCHIVE),
    (0, (b"\x60\xea",), "an arj archive", _ARCHIVE),
    (0, (b"\xed\xab\xee\xdb",), "an rpm package", _ARCHIVE),
    (0, (b"\xfd7zXZ\x00",), "compressed with xz", _COMPRESSED),
    (0, (b"\x5d\x00\x00",), "compressed with lzma", _COMPRESSED),
    (0, (b"LZIP",), "compressed with lzip", _COMPRESSED),
    (0, (b"\x89LZO",), "compressed with lzop", _COMPRESSED),
    (0, (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"), "compressed with lz4", _COMPRESSED),
    (0, (b"\xff\x06\x00\x00sNaPpY",), "compressed with snappy", _COMPRESSED),
    (0, (b"\x1f\x9d", b"\x1f\xa0"), "compressed with compress (.Z)", _COMPRESSED),
    (0, (b"\x1f\x1e",), "compressed with pack (.z)", _COMPRESSED),
    (0, (b"x\x01", b"x\x9c", b"x\xda"), "compressed with zlib", _COMPRESSED),
    (0, (b"PARE",), "an encrypted Parquet file", _TABLES),
    (0, (b"ORC",), "an ORC file", _TABLES),
    (0, (b"Obj\x01",), "an Avro file", _TABLES),
    (0, (b"ARROW1",), "an Arrow or Feather file", _TABLES),
    (0, (b"FEA1",), "a Feather file", _TABLES),
    (0, (b"\xff\xff\xff\xff",), "an Arrow stream", _TABLES),
    (0, (b"\x89HDF",), "an HDF5 file", _TABLES),
    (0, (b"\x93NUMPY",), "a NumPy array", _TABLES),
    (0, (b"SEQ",), "a Hadoop sequence file", _TABLES),
    (0, (b"RCF",), "an RC file", _TABLES),
    (0, (b"SQLite format 3",), "an SQLite database", _TABLES),
    (8, (b"DUCK",), "a DuckDB database", _TABLES),
    (4, (b"Standard Jet", b"Standard ACE"), "an Access database", _TABLES),
    (4, (b"\x07_id\x00", b"\x02_id\x00"), "a BSON dump", "export it with mongoexport"),
    (0, (b"REDIS",), "a Redis dump", _TABLES),
    (0, (b"PGDMP",), "a PostgreSQL dump", _DUMP),
    (0, (b"PGCOPY\n\xff\r\n",), "binary output of COPY", _DUMP),
    (0, (b"$FL2@(#)",), "an SPSS file", _TABLES),
    (0, (b"RDX",), "an R data file", _TABLES),
    (0, (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"), "a Python pickle", _TABLES),
    (0, (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",), "an old Excel or Office file", _SPREADSHEET),
    (0, (b"\x89PNG",), "a PNG image", None),
    (0, (b"\xff\xd8\xff",), "a JPEG image", None),
    (0, (b"GIF8",), "a GIF image", None),
    (8, (b"WEBP",), "a WebP image", None),
    (0, (b"II*", b"MM\x00*"), "a TIFF image", None),
    (0, (b"BM",), "a bitmap image", None),
    (0, (b"\x7fELF", b"MZ", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe"), "a program", None),
    (0, (b"Salted__",), "encrypted by OpenSSL", "decrypt it first"),
    (0, (b"\x85\x01", b"\x85\x02", b"\x8c\x0d"), "encrypted by PGP", "decrypt it first"),
)
"""First bytes at an offset. Those without a control character count in binary content only."""

_XML = ("an XML document", SAVED_PAGE)
_KEY = ("a key, a certificate or PGP text", _SECRET)
_SSH_KEY = ("an SSH key", _SECRET)
_AGE = ("an age key or an encrypted file", _SECRET)
_CONFLICT = ("a file with a Git merge conflict", "resolve it first")
_SQL_DUMP = ("an SQL dump", _DUMP)
_SQL_SCRIPT = ("an SQL script", _DUMP)
_ERROR = ("an error message", SAVED_PAGE)
_CHECKSUMS = ("a list of checksums", None)
_E_MAIL = ("an e-mail", "save its attachment")
_PSQL_TABLE = ("a table drawn with lines", "use psql --csv")
_CERTAIN: Mapping[bytes, tuple[str, str | None]] = {
    rb"!<arch>\n": ("an ar archive or a Debian package", _ARCHIVE),
    rb"%PDF-\d": ("a PDF document", None),
    rb"%!PS-Adobe": ("a PostScript document", None),
    rb"\{\\rtf\d": ("an RTF document", None),
    rb"<\?xml[\s?]": _XML,
    rb"(?i:<!doctype\s+(?!html)\w)": _XML,
    rb"(?i:<!doctype\s+html|<(html|head|body)[\s>])": ("an HTML page", SAVED_PAGE),
    rb"<(\?php|script[\s>]|%@)": ("a web page's source", SAVED_PAGE),
    rb"(?s:<([\w.:-]+)(\s[^<>]*)?>(?=\s*<)(?!.*</\1>.*</\1>).*</\1>\s*\Z)": _XML,
    rb"(#[^\n]*\n\s*)*+(?ms:Bag Attributes\s.*?^)?-----BEGIN [A-Z0-9 ]+-----[ \r]*(\n|\Z)": _KEY,
    rb"---- BEGIN SSH2 PUBLIC KEY": _SSH_KEY,
    rb"PuTTY-User-Key-File-\d": _SSH_KEY,
    rb"(#[^\n]*\n\s*)*+(((no-[\w-]+|restrict|cert-authority|[\w-]+=\"[^\"\n]*\"),?)++ |[^\s\",]+ )?"
    rb"(ssh-(rsa|dss|ed25519)|ecdsa-sha2-nistp\d+|sk-[\w-]+@openssh\.com) AAAA": _SSH_KEY,
    rb"(?s:(#[^\n]*\n\s*)*AGE-SECRET-KEY-1|age-encryption\.org/v1\s)": _AGE,
    rb"\$ANSIBLE_VAULT;": ("an encrypted file of Ansible", _SECRET),
    rb"version https?://\S+/spec/v\d+\s*\n(ext-|oid |size )": ("a Git LFS pointer", _POINTER),
    rb"(?s:(\S*/)?(\.git/)?annex/objects/\S+\s*\Z)": ("a git-annex pointer", _POINTER),
    rb"(outs|deps):\s*\n\s*- (md5|etag|path|size|hash):": ("a DVC pointer", _POINTER),
    rb"(?ms:(?>.*?^<{7} )(?>.*?^={7}[ \r]*$)(?>.*?^>{7} ))": _CONFLICT,
    rb"diff --git a/|(?m:--- \S.*\n\+\+\+ \S)": ("a patch", None),
    rb"#![ \t]*/": ("a script", None),
    rb"HTTP/\d(\.\d)? \d{3}[ \r\n]": ("an HTTP response with its headers", SAVED_PAGE),
    rb"(?s:(--[^\n]*\n\s*)*-- ?(PostgreSQL|MySQL|MariaDB|SQLite|phpMyAdmin|Dump\b|Host:))"
    rb"|/\*(!\d{5}|M!)": _SQL_DUMP,
    rb"(?si:(--[^\n]*\n\s*)*(INSERT\s+INTO\s+\S+\s*(\(|VALUES|SELECT)|CREATE\s+(TABLE|DATABASE|SCHEMA)\s|"
    rb"DROP\s+TABLE\s|COPY\s+\S+\s*(\([^)]*+\)\s*)?FROM\s+stdin|PRAGMA\s+\w+\s*=|"
    rb"BEGIN\s+TRANSACTION;|SET\s+\w+\s*=\s*[^\n]*;|LOCK\s+TABLES\s))": _SQL_SCRIPT,
    rb"COPY \d+\s*\Z": ("what psql says after COPY", _DUMP),
    rb"Traceback \(most recent call last\):": ("an error message of Python", SAVED_PAGE),
    rb"curl: \(\d+\) |psql: (error|FATAL)|(ERROR|FATAL):  \w|ERROR \d{4} \(": _ERROR,
    rb"(?i:error:? |http[/\d.]* )?(\d{3}:? )?(?i:access denied|forbidden|"
    rb"unauthorized|not found|bad request|bad gateway|"
    rb"internal server error|service unavailable|gateway time-?out|too many requests|"
    rb"no healthy upstream|upstream connect error[^\n]*)[.!]?\s*\Z": _ERROR,
    rb"[^\n]{0,300}An error occurred \([\w.]+\) when calling the \w+ operation|"
    rb"fatal: (could not|unable to|cannot|not a|repository|remote|[Aa]uthentication) ": _ERROR,
    rb"[^\n]{1,300}: (command not found|No such file or directory|Permission denied|"
    rb"Connection (refused|reset by peer|timed out)|Name or service not known|"
    rb"Temporary failure in name resolution|No space left on device)\s*\Z": _ERROR,
}
"""Patterns at the start of text that is not a list of uids."""

_LOG_LINE = (
    rb"(?>\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^\n]*? "
    rb"\[?(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b[^\n]*+)"
)
_LIKELY: Mapping[bytes, tuple[str, str | None]] = {
    rb"(?s:<!--|<[A-Za-z][\w.:-]*(\s[^<>]*)?/?>.*</[A-Za-z][\w.:-]*\s*>|"
    rb"<[A-Za-z][\w.:-]*(\s[^<>]*)?/>\s*\Z)": ("markup", SAVED_PAGE),
    rb"\{\s*[\"}]|\[\s*[\[{\"]": ("JSON", "--format ndjson reads a JSON object a line"),
    rb"\+(-+\+)+\s*\n": ("a table drawn with lines", "use mysql --batch, or export as csv"),
    rb"(?=[^\n]*\w)[^\n]*+\n(-{3,}|-+([ +]-+)+)[ ]*\r?\n": _PSQL_TABLE,
    rb"\|[^\n]*\|\s*\n\|[ :|-]+\|\s*\n": ("a table drawn with lines", _TABLES),
    "[┌┏╔╭][─━═]".encode(): ("a table drawn with lines", "export it as csv"),
    rb"(--[^\n]*\n\s*)*+(?i:USE\s+\S+;\s)": _SQL_SCRIPT,
    rb"(?i:SELECT\s[^\n]*\sFROM\s)": ("an SQL query", "run it, and push what it returns"),
    rb"([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}) [ *]\S": _CHECKSUMS,
    rb"\w+ ?\([^)\n]+\) = [0-9a-f]{32,}\s*$": _CHECKSUMS,
    rb"(?:From \S+ +\w{3} \w{3} +\d|(?i:(return-path|received|delivered-to|mime-version|"
    rb"message-id|from|to|subject|date|content-type): [^\n]*\n([ \t][^\n]*\n)*){2})": _E_MAIL,
    rb"begin(-base64)? [0-7]{3,4} \S[^\n]*(\n|\Z)": ("uuencoded", "decode it: uudecode FILE"),
    rb"\([dlt]p\d+\r?\n|\(?V[^\n]*\np0\n|c[\w.]+\n\w+\np\d+\n\(": ("a Python pickle", _TABLES),
    rb"(%(line)s\n\s*){3}|(%(line)s\s*){1,2}\Z" % {b"line": _LOG_LINE}: ("a log", None),
    rb"(?i:fatal|panic|([a-z_.]*(error|exception))): \S+ [^\n]*+\s*\Z": _ERROR,
}
"""Patterns at the start of text that is probably not a list; its lines could still be uids."""

_ANYWHERE = {rb"(?ms:.*?^-----BEGIN [A-Z0-9 ]+-----[ \r]*$)": _KEY}
"""Patterns anywhere in text that is probably not a list, unless another column has them."""

_ENCODED = (b"\x1f\x8b\x08", b"PK\x03\x04", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"PAR1")
"""First bytes of base64-encoded content."""
_SMALLEST = 18
"""Bytes of an empty gzip file."""
_BASE64_WIDTHS = {60, 64, 72, 76}
_TWO_PAIRS = 4
_CODECS = {"utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE", "utf-16-le": "UTF-16LE"}
_CODECS |= {"utf-16-be": "UTF-16BE"}
_BOMS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32"}
_BOMS |= {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r"))
_NUL_SEPARATED = re.compile(rb"[ -~]{2,}+(\0[ -~]{2,}+)*+\0[ -~]*+")
_ALPHABETS_END = "\u0800"
"""Limit of characters in UTF-16 without zero bytes: above it, separators may be misread."""
_MANY_CONTROLS = 0.05
_SOME_CONTROLS = 0.01


def is_binary(data: bytes) -> bool:
    """Return whether the start of a file is binary content, which no list of uids has.

    Binary content has a NUL, or many control characters: 5 % of its bytes, or 1 % if it is not
    UTF-8 either. Rows in Latin-1 have none.
    """
    data = data[:SAMPLE_BYTES]
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if not controls:
        return False
    if 0 in data or controls > len(data) * _MANY_CONTROLS:
        return True
    return controls > len(data) * _SOME_CONTROLS and _decoded(data, "utf-8") is None


def unsupported_content(data: bytes) -> UnsupportedContent | None:
    """Return the content of a decompressed file by its start; None if it may be a list of uids."""
    data = data[:SAMPLE_BYTES]
    if compression_of(data):
        return UnsupportedContent("is compressed twice", "decompress it once")
    if bom := next((bom for bom in _BOMS if data.startswith(bom)), None):
        return _encoded(_BOMS[bom])
    binary = is_binary(data)
    for offset, magics, what, hint in _MAGIC:
        signs = tuple(magic for magic in magics if binary or _has_controls(magic))
        if data.startswith(signs, offset):
            return UnsupportedContent(f"is {what}, which cannot be read", hint)
    return _first(_CERTAIN, data) or (_binary(data) if binary else None)


def _binary(data: bytes) -> UnsupportedContent:
    """Return the kind of binary content that is not recognized by its first bytes."""
    if _is_tar(data):
        return UnsupportedContent("is a tar archive, which cannot be read", _ARCHIVE)
    if b"\n" not in data and _NUL_SEPARATED.fullmatch(data):
        return UnsupportedContent("has NUL between its lines", "convert it: tr '\\0' '\\n' < FILE")
    for codec, name in _CODECS.items() if not _is_text_with_nul(data) else ():
        text = _decoded(data, codec)
        if text and _is_readable(text) and (0 in data or max(text) < _ALPHABETS_END):
            return _encoded(name)
    if not data.strip(b"\0"):
        return UnsupportedContent("holds nothing but zero bytes", "write the export again")
    if 0 in data or _decoded(data, "utf-8") is None:
        return UnsupportedContent(
            "is binary, not a list of uids", "a list of uids is text in UTF-8, or Parquet"
        )
    return UnsupportedContent("is full of control characters", "export the column as csv")


def likely_unsupported_content(data: bytes, *, anywhere: bool = True) -> UnsupportedContent | None:
    """Return a file's probable content by its start; None if it is likely a list of uids.

    With `anywhere`, patterns after the first line count too.
    """
    data = data[:SAMPLE_BYTES]
    if _is_base64(data):
        return UnsupportedContent("is base64, not a list of uids", "decode it: base64 -d FILE")
    return _first(_LIKELY, data) or (_first(_ANYWHERE, data) if anywhere else None)


def _is_base64(data: bytes) -> bool:
    """Return whether data is base64 of compressed or archived content, in lines of one width."""
    *lines, last = data.split() or [b""]
    if lines and (
        len(lines[0]) not in _BASE64_WIDTHS or any(len(line) != len(lines[0]) for line in lines)
    ):
        return False
    text = b"".join(lines) + last
    try:
        content = b64decode(text[: len(text) // 4 * 4], validate=True)
    except ValueError:
        return False
    return len(content) >= _SMALLEST and (content.startswith(_ENCODED) or _is_tar(content))


def _first(signs: Mapping[bytes, tuple[str, str | None]], data: bytes) -> UnsupportedContent | None:
    before = _BEFORE.match(data)
    start = data[before.end() :] if before else data
    for sign, (what, hint) in signs.items():
        if re.match(sign, start):
            return UnsupportedContent(f"is {what}, not a list of uids", hint)
    return None


_BEFORE = re.compile(rb"(?s:(?:\xef\xbb\xbf|\s|<!--.*?-->\s*(?=<))*)")
"""Matches what may precede the content: a byte order mark, blank lines, markup comments."""


def _has_controls(data: bytes) -> bool:
    return len(data.translate(None, _CONTROLS)) < len(data)


def _is_text_with_nul(data: bytes) -> bool:
    """Return whether data is UTF-8 with a few NULs; if short, it resembles UTF-16."""
    text = data.replace(b"\0", b"")
    few = 0 < len(data) - len(text) <= len(data) / 3 or len(data) < _TWO_PAIRS
    return few and not _has_controls(text) and _decoded(text, "utf-8") is not None


def _is_tar(data: bytes) -> bool:
    """Return whether data is a tar archive, by the checksum in its first header."""
    header = data[:512]
    try:
        checksum = int(header[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return sum(header) - sum(header[148:156]) + 8 * ord(" ") == checksum


def _encoded(encoding: str) -> UnsupportedContent:
    return UnsupportedContent(
        f"is {encoding}, not UTF-8", f"convert it: iconv -f {encoding} -t UTF-8"
    )


def _decoded(data: bytes, codec: str) -> str | None:
    """Decode data whose last character may be cut off; return None if that fails."""
    try:
        return getincrementaldecoder(codec)().decode(data)
    except UnicodeDecodeError:
        return None


def _is_readable(text: str) -> bool:
    """Return whether text has only assigned characters, and no controls except white space."""
    kinds = {unicodedata.category(char) for char in set(text) if not char.isspace()}
    return not kinds & {"Cc", "Cn", "Co", "Cs"}
