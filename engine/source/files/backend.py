"""The fsspec file system for a URL, as a tree of folders and files."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.errors import SourceError, SourceUnavailableError, UsageError
from engine.source import urls
from engine.source.files.backend_errors import source_error
from engine.source.files.file_state import FileState
from engine.source.files.patterns import Entry, Kind

_BACKENDS = {
    **dict.fromkeys(("s3", "s3a"), ("s3fs", "s3")),
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "gs")),
    **dict.fromkeys(("az", "abfs", "abfss"), ("adlfs", "abfs")),
    **dict.fromkeys(("http", "https"), ("'fsspec[http]'", "http")),
}
"""For each scheme, the package that opens it and the extra of this project that installs it."""
_CONNECT_SECONDS, _SILENCE_SECONDS = 10, 30


class Backend:
    """One fsspec file system; `translated` turns its errors into `SourceError`."""

    def __init__(self, url: str) -> None:
        """Open the file system. Raises `UsageError` for an unknown scheme or a missing package."""
        self.display_name = urls.display_url(url)
        self.schemes = [urls.scheme_of(link) for link in urls.links(url)]
        self.is_http = self.schemes[0] in urls.HTTP
        self._deep: dict[str, list[Entry]] = {}
        """The entries of each folder that was listed recursively."""
        with self.translated(self.display_name):
            self.filesystem, self.path = self._opened(url)
            self.drop_listings()
        rest = "::".join(urls.links(url)[1:])
        is_archive = bool(rest) and self.schemes[0] not in urls.CACHES
        self.archive = Backend(rest) if is_archive else None
        """The file system of the archive that this one reads from; None if it reads no archive."""

    def _opened(self, url: str) -> tuple[Any, str]:
        scheme = next((each for each in self.schemes if each in _BACKENDS), self.schemes[0])
        package, extra = _BACKENDS.get(scheme, (None, None))
        hint = "s3://, gs://, abfs:// and https:// are extras; others need fsspec and its backend"
        unknown = UsageError(f"{self.display_name}: {scheme}:// is not known", hint=hint)
        lacking = UsageError(f"{self.display_name}: {scheme}:// needs an extra package")
        if package:
            lacking.hint = f"pip install {package} (in the checkout: pip install '.[{extra}]')"
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra, and only URLs need it
            from fsspec.registry import known_implementations, registry  # noqa: PLC0415 - as above
        except ImportError:
            raise (lacking if package else unknown) from None
        for each in self.schemes:
            if each not in registry and each not in known_implementations:
                unknown.message = f"{self.display_name}: {each}:// is not known"
                raise unknown
        try:
            files, path = url_to_fs("::".join(urls.links(url)), **self._options())
        except ImportError as error:
            # fsspec names the package of a backend that is not an extra of this project.
            lacking.hint = lacking.hint or str(error) or None
            raise lacking from None
        except ValueError:
            hint = "square brackets, spaces and the like do not belong in the name of a host"
            raise UsageError(f"{self.display_name}: is not a valid URL", hint=hint) from None
        return files, path

    def _options(self) -> dict[str, Any]:
        """Return the options for fsspec: no limit on total time, a limit on time without data."""
        if not self.is_http:
            return {}
        from aiohttp import ClientTimeout  # noqa: PLC0415 - as fsspec

        timeout = ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS
        )
        return {"client_kwargs": {"timeout": timeout}}

    @contextmanager
    def translated(self, name: str) -> Iterator[None]:
        """Raise only `SourceError` or `UsageError` from the block, with `name` in the message."""
        try:
            yield
        except (SourceError, UsageError):
            raise
        except Exception as error:  # noqa: BLE001 - each backend raises its own
            raise source_error(name, error, self.schemes) from None

    def drop_listings(self) -> None:
        """Drop cached listings, so that the next call asks the server again."""
        self._deep.clear()
        self.filesystem.invalidate_cache()

    def state_of_file(self) -> FileState:
        """Return the state of the file that the URL names."""
        self.drop_listings()
        return FileState.of_info(self.info(self.path))

    def info(self, path: str) -> dict[str, Any]:
        """Return size, version and time of a file or folder. Raises the backend's own errors."""
        found: dict[str, Any] = self.filesystem.info(path)
        return found

    def entry(self, path: str) -> Entry | None:
        """Return what a path names; see `patterns.Tree`."""
        try:
            info = self.info(path)
        except (FileNotFoundError, KeyError, NotADirectoryError) as error:
            if isinstance(source_error("", error, self.schemes), SourceUnavailableError):
                raise
            return None
        kind = Kind.FOLDER if info.get("type") == "directory" else Kind.FILE
        return Entry(path.rpartition("/")[2], path, kind, info=info)

    def children(self, folder: str, *, is_deep: bool) -> Iterable[Entry]:
        """Return what is in a folder; see `patterns.Tree`.

        A recursive listing takes one request per thousand names, for any number of folders.
        """
        folder = folder.rstrip("/")
        if folder in self._deep or is_deep:
            return self._below(folder)
        try:
            listed = self.filesystem.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        entries = (_entry(folder, info["name"], info) for info in listed)
        return [entry for entry in entries if entry.name and "/" not in entry.name]

    def _below(self, folder: str) -> list[Entry]:
        if folder not in self._deep:
            self._deep[folder] = []
            try:
                found = self.filesystem.find(folder, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            for path, info in found.items():
                if not path.endswith("/"):  # the marker of a folder
                    self._enter(folder, path, info)
        return self._deep[folder]

    def _enter(self, folder: str, path: str, info: dict[str, Any]) -> None:
        """Add a file below a folder, and the folders between them."""
        # A store's key may have two slashes in a row; on a disk they mark no folder either.
        *between, _ = (part for part in _entry(folder, path, info).name.split("/") if part)
        for name in between:
            inner = f"{folder}/{name}" if folder else name
            if inner not in self._deep:
                self._deep[inner] = []
                self._deep[folder].append(Entry(name, inner, Kind.FOLDER))
            folder = inner
        self._deep[folder].append(_entry(folder, path, info))


def _entry(folder: str, path: str, info: dict[str, Any]) -> Entry:
    """Return an entry of a listing, named relative to the folder; a marker has an empty name."""
    kind = Kind.FOLDER if info.get("type") == "directory" else Kind.FILE
    is_marker = kind is Kind.FILE and path.endswith("/")
    plain = path.rstrip("/")
    name = (
        plain[len(folder) :].lstrip("/") if plain.startswith(folder) else plain.rpartition("/")[2]
    )
    return Entry("" if is_marker else name, plain, kind, info=info)
