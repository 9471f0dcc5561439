"""Exports behind URLs, opened through fsspec and the backend of the URL's scheme."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from engine.errors import SourceError, UsageError
from engine.source.lines import OpenFile

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "abfs", "abfs": "abfs"}
_EXTRAS |= {"abfss": "abfs", "http": "http", "https": "http"}
_HTTP = ("http", "https")
_READ_AHEAD = 4 << 20
"""Bytes that are fetched at a time, whatever the backend's own default is."""


def is_url(export: str) -> bool:
    """Tell a URL from a path."""
    return _URL.match(export) is not None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that an fsspec file system opens."""

    name: str
    size: int | None
    path: str = field(repr=False)
    """What the file system calls it; a signed link is a credential."""
    files: Any = field(repr=False)
    written_utc_ns: None = None
    """Each file system tells it in another way, and some not at all."""

    @property
    def address(self) -> str:
        """The URL without credentials."""
        return self.name

    def open(self) -> OpenFile:
        """Open the file. Raises what the backend raises."""
        return _Translating(self.name, self.files, self.path)


class _Translating(io.RawIOBase):
    """A backend's file whose errors are `SourceError`s."""

    def __init__(self, name: str, files: Any, path: str) -> None:  # noqa: ANN401 - fsspec has no types
        super().__init__()
        self._name = name
        with self._translated():
            self._file = files.open(path, "rb", block_size=_READ_AHEAD, cache_type="readahead")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - each backend raises its own
            raise _fault(self._name, error) from None

    def readable(self) -> bool:
        """Say yes, for PyArrow."""
        return True

    def seekable(self) -> bool:
        """Tell whether the backend can jump."""
        return bool(self._file.seekable())

    def read(self, size: int = -1, /) -> bytes:
        """Read from where the last read or seek ended."""
        with self._translated():
            chunk: bytes = self._file.read(size)
            return chunk

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place in the file."""
        with self._translated():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the place in the file."""
        return int(self._file.tell())

    def close(self) -> None:
        """Close the backend's file."""
        if not self.closed:
            self._file.close()
        super().close()


def find_remote(url: str) -> Iterator[RemoteFile]:
    """Yield the file that a URL names, or the files that its glob or folder stands for.

    As on this machine, names in a folder that begin with `.` or `_` are passed over. Over http a
    URL names one file. Raises `UsageError` where its backend is not installed, `SourceError`
    where nothing is there.
    """
    scheme = url.partition("://")[0].lower()
    shown = _without_credentials(url)
    files, path = _file_system(url, scheme, shown)
    if scheme in _HTTP:
        yield RemoteFile(shown, _size(files, path, shown), path, files)
        return
    paths = _expand(files, path, shown)
    if not paths:
        raise SourceError(f"{shown}: nothing there")
    root = f"{scheme}://" if scheme in _EXTRAS else shown[: -len(urlsplit(shown).path)]
    for found in paths:
        name = shown if found == path else root + found
        yield RemoteFile(name, _size(files, found, name), found, files)


def _file_system(url: str, scheme: str, shown: str) -> tuple[Any, str]:
    hint = "s3://, gs://, abfs:// and https:// are extras; others need fsspec and its backend"
    unknown = UsageError(f"{shown}: {scheme}:// is not known", hint=hint)
    extra = f"pip install 'cohortsync[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else None
    lacking = UsageError(f"{shown}: {scheme}:// needs an extra package", hint=extra)
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra, and only URLs need it
    except ImportError:
        raise (lacking if extra else unknown) from None
    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        # fsspec names the package of a backend that is no extra of ours.
        lacking.hint = lacking.hint or str(error) or None
        raise lacking from None
    except ValueError:
        raise unknown from None
    return files, path


def _expand(files: Any, path: str, shown: str) -> list[str]:  # noqa: ANN401 - fsspec has no types
    try:
        if files.isfile(path):
            return [path]
        if re.search(r"[*?[]", path):
            return sorted(found for found in files.glob(path) if files.isfile(found))
        inside = {found: found.removeprefix(path).split("/") for found in files.find(path)}
    except Exception as error:  # noqa: BLE001 - each backend raises its own
        raise _fault(shown, error) from None
    return sorted(
        found
        for found, parts in inside.items()
        if parts[-1] and not any(part.startswith((".", "_")) for part in parts)
    )


def _size(files: Any, path: str, shown: str) -> int | None:  # noqa: ANN401 - fsspec has no types
    try:
        size = files.info(path).get("size")
    except Exception as error:  # noqa: BLE001 - each backend raises its own
        raise _fault(shown, error) from None
    return int(size) if size is not None else None


def _fault(name: str, error: Exception) -> SourceError:
    """Say that a file cannot be read, without a backend's words, which may quote a credential."""
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{name}: no such file")
    return SourceError(f"{name}: cannot be read ({type(error).__name__})")


def _without_credentials(url: str) -> str:
    """Return the URL without user and password, and with a digest in the place of its query."""
    parts = urlsplit(url, allow_fragments=False)
    user, _, host = parts.netloc.rpartition("@")
    if user and ":" not in user:  # a container, as in abfs://container@account
        host = parts.netloc
    query = parts.query
    if query and parts.scheme in _HTTP:  # elsewhere a question mark is part of the name
        query = sha256(query.encode()).hexdigest()[:12]
    return f"{parts.scheme}://{host}{parts.path}{'?' if query else ''}{query}"
