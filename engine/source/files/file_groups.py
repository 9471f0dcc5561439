"""Checks the kinds of files in one group: refuses a mixture and leaves out sidecar files.

A group holds the files of one folder or glob, or the files that are named one by one, as by a shell
that expands a glob.
"""

import glob
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from os.path import commonprefix

from engine.errors import SourceError
from engine.source.formats.compression import SUFFIXES as COMPRESSED
from engine.source.formats.format_detection import suffix, suffix_format

_ONE_KIND = "a folder or glob yields one kind of file"
_ALONE = "a file that is no export by its name or content is read only alone"
_SIDECAR = re.compile(
    r"(?i)(?P<file>.+?)(?:\.(?:md5|sha1|sha224|sha256|sha384|sha512|b2|b3)(?:sum)?"
    r"|\.(?:crc|crc32|sfv|asc|sig|sign|p7s|minisig)"
    r"|\.(?:bak|old|orig|swp)|~|\.~\d+~)|\#(?P<saved>.+)\#|(?P<rotated>.+)\.\d{1,3}"
)
"""Matches names of checksums, signatures and editor backups of the file named in them.

A number marks an earlier version, as by logrotate, only after a suffix of a known format.
"""
_UNFINISHED = re.compile(
    r"(?i).*\.(part|partial|filepart|tmp|temp|crdownload|download|inprogress|writing|_copying_)"
)
_TEMPORARY = re.compile(r"(?i)(?P<file>.+)\.(?:tmp|temp)[\w.-]+")
"""Matches the name of a file being written, if the suffix before is of a known format."""
_DOCUMENT = re.compile(
    r"(?i)_*(readme|read_me|licen[cs]e|copying|changelog|notice|authors)([-_. ].*)?"
)

UNKNOWN = "a file of unknown format"
GUESSED = "text by guess"


def sidecars(names: Sequence[str]) -> frozenset[str]:
    """Return the files that are checksums, signatures or backups of other files in `names`."""
    there = frozenset(names)
    return frozenset(name for name in names if _has_owner(name, there))


def _has_owner(name: str, there: frozenset[str]) -> bool:
    folder, slash, base = name.rpartition("/")
    if not (match := _SIDECAR.fullmatch(_uncompressed(base))):
        return False
    if match["rotated"] and not _has_format_suffix(match["rotated"]):
        return False
    owner = folder + slash + (match["file"] or match["saved"] or match["rotated"])
    return any(owner + compressed in there for compressed in ("", *COMPRESSED))


def kind_by_name(name: str) -> str | None:
    """Return the kind of a file by its name; None if only its content shows it."""
    base = name.rpartition("/")[2]
    plain = _uncompressed(base)
    temporary = _TEMPORARY.fullmatch(plain)
    if _UNFINISHED.fullmatch(plain) or (temporary and _has_format_suffix(temporary["file"])):
        return "a file that is still being written, by its name"
    format_ = suffix_format(name)
    if format_ in {"text", None} and _DOCUMENT.fullmatch(base):
        return "a document, by its name"
    return format_


def is_export_by_name(name: str) -> bool:
    """Return whether a file may be read with others: no document, and not being written."""
    kind = kind_by_name(name)
    return kind is None or _rank(kind) > 0


def _has_format_suffix(name: str) -> bool:
    return suffix_format(name) is not None or suffix(name) == ".json"


def refuse_mixture(kinds: Mapping[str, str], *, formats_may_differ: bool = False) -> None:
    """Raise `SourceError` for files of several kinds, or for a file and its compressed copy.

    `kinds` maps the name of each file of a group to its kind. With `formats_may_differ`, as for
    files that are named one by one, only a file in no known format is refused.
    """
    counts = Counter(kinds.values())
    if len(counts) > 1:
        main = max(counts, key=lambda kind: (_rank(kind), kind == GUESSED, counts[kind]))
        may_differ = formats_may_differ and _rank(main) > 0
        example = next(name for name, kind in kinds.items() if kind == main)
        for odd, kind in kinds.items():
            if kind == main or (may_differ and _rank(kind) > 0):
                continue
            reason = _ALONE if formats_may_differ else _ONE_KIND
            hint = _way_out(kinds, odd, main)
            raise SourceError(f"{odd}: is {kind}, and {example} is {main}; {reason}", hint=hint)
    plain: dict[str, str] = {}
    for name in kinds:
        first = plain.setdefault(_uncompressed(name), name)
        if first != name:
            hint = _globs(list(kinds))
            raise SourceError(f"{name}: is {first} once more, by its name", hint=hint)


def _way_out(kinds: Mapping[str, str], odd: str, main: str) -> str:
    """Return a hint about an odd file: globs that exclude it, if its suffix differs."""
    by_ending: dict[str, set[str]] = {}
    for name, kind in kinds.items():
        by_ending.setdefault(_ending(name), set()).add(kind)
    names = [name for name in kinds if len(by_ending[_ending(name)]) == 1 and _rank(kinds[name])]
    if names and main not in by_ending[_ending(odd)]:
        return _globs(names)
    if _rank(kinds[odd]):
        return "name the files one by one"
    return f"remove or rename {odd}, or name the others one by one"


def _rank(kind: str) -> int:
    """Return 2 for a format that a file's suffix or content shows, 1 for text, 0 for others."""
    return 0 if " " in kind else 1 if kind == "text" else 2


def _uncompressed(name: str) -> str:
    ending = next((ending for ending in COMPRESSED if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def _globs(names: Sequence[str]) -> str:
    """Return one glob for each kind of file, the most frequent first."""
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
    """Return a file's suffix as written, including the suffix of compression."""
    plain = _uncompressed(name)
    return plain[len(plain) - len(suffix(name)) :] + name[len(plain) :]
