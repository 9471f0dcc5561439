"""What lies in one folder, or under one glob: files of one kind, and what belongs to them."""

import glob
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from os.path import commonprefix

from engine.errors import SourceError
from engine.source.compression import SUFFIXES as COMPRESSED
from engine.source.formats import suffix, suffix_format

_ONE_KIND = "a folder or glob yields one kind of file"
_BELONGS = re.compile(
    r"(?i)(?P<file>.+?)(?:\.(?:md5|sha1|sha224|sha256|sha384|sha512|b2|b3)(?:sum)?"
    r"|\.(?:crc|crc32|sfv|asc|sig|sign|p7s|minisig)"
    r"|\.(?:bak|old|orig|swp)|~|\.~\d+~)|\#(?P<saved>.+)\#"
)
"""Names of checksums and signatures, and of backups that editors make, of the file named inside."""
_UNFINISHED = re.compile(
    r"(?i).*\.(part|partial|filepart|tmp|temp|crdownload|download|inprogress|writing|_copying_)"
)
_DOCUMENT = re.compile(
    r"(?i)_*(readme|read_me|licen[cs]e|copying|changelog|notice|authors)([-_. ].*)?"
)

UNKNOWN = "a file of unknown format"
GUESSED = "text by guess"
_SECOND_RATE = ("text", GUESSED, UNKNOWN)
"""What is named as the odd one, from the last on, where the numbers do not tell."""


def belongings(names: Sequence[str]) -> frozenset[str]:
    """Return which of some files are checksums, signatures or backups of others of them."""
    there = frozenset(names)
    return frozenset(name for name in names if _owner(name, there))


def _owner(name: str, there: frozenset[str]) -> bool:
    folder, slash, base = name.rpartition("/")
    if not (match := _BELONGS.fullmatch(base)):
        return False
    owner = folder + slash + (match["file"] or match["saved"])
    return any(owner + compressed in there for compressed in ("", *COMPRESSED))


def kind_by_name(name: str) -> str | None:
    """Return what a file's name says that it is; None where only its content can tell."""
    base = name.rpartition("/")[2]
    if _UNFINISHED.fullmatch(base):
        return "a file that is still being written, by its name"
    format_ = suffix_format(name)
    if format_ in {"text", None} and _DOCUMENT.fullmatch(base):
        return "a document, by its name"
    return format_


def refuse_mixture(kinds: Mapping[str, str]) -> None:
    """Raise `SourceError` for files of several kinds, or one that is there twice.

    `kinds` has the kind of each file of one folder or glob by its name.
    """
    counts = Counter(kinds.values())
    if len(counts) > 1:
        main = max(counts, key=lambda kind: (_rank(kind), counts[kind]))
        odd = next(name for name, kind in kinds.items() if kind != main)
        example = next(name for name, kind in kinds.items() if kind == main)
        raise SourceError(
            f"{odd}: is {kinds[odd]}, beside {main} ({example}); {_ONE_KIND}",
            hint=_globs([name for name in kinds if _rank(kinds[name]) > 0]),
        )
    plain: dict[str, str] = {}
    for name in kinds:
        first = plain.setdefault(_uncompressed(name), name)
        if first != name:
            hint = _globs(list(kinds))
            raise SourceError(f"{name}: is {first} once more, by its name", hint=hint)


def _rank(kind: str) -> int:
    """Return 2 for a format that a file's suffix or content shows, 1 for text, 0 for others."""
    return 0 if " " in kind else 1 if kind == "text" else 2


def _uncompressed(name: str) -> str:
    ending = next((ending for ending in COMPRESSED if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def _globs(names: Sequence[str]) -> str:
    """Return globs that stand for one kind of file each, the most frequent first."""
    folders = [name[: name.rfind("/") + 1] for name in names]
    prefix = commonprefix(folders)  # noqa: RUF071 - cut at a slash below; keeps s3:// as it is
    base = prefix[: prefix.rfind("/") + 1]
    below = "**/" if any(folder != base for folder in folders) else ""
    endings = Counter(_ending(name) for name in names)
    globs = [
        f"'{glob.escape(base)}{below}*{ending}'" for ending, _ in endings.most_common(3) if ending
    ]
    if not globs:
        return "name the files one by one"
    return f"name one kind: {' or '.join(globs)}"


def _ending(name: str) -> str:
    """Return a file's suffix as it is written, with that of compression."""
    plain = _uncompressed(name)
    return plain[len(plain) - len(suffix(name)) :] + name[len(plain) :]
