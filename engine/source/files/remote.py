"""Finds files behind URLs, and resumes reading after a broken connection."""

import io
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Any, TypeVar

from engine.errors import MissingExportError, SourceError, SourceUnavailableError
from engine.source import urls
from engine.source.files.backend import Backend
from engine.source.files.backend_errors import PrematureEndError, source_error
from engine.source.files.change_detector import changed
from engine.source.files.file_state import FileState
from engine.source.files.locations import Location
from engine.source.files.patterns import Entry, expand, has_magic, matches, split_at_magic

T = TypeVar("T")

_READ_AHEAD = 4 << 20
"""Bytes fetched at a time, in place of the backend's own default."""
_WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before each retry of an interrupted read."""
_STREAMED = "HTTPStreamFile"
"""The name of fsspec's class of http files that cannot seek."""


class RemoteFile(Location):
    """A file opened by an fsspec file system; its address is the URL without credentials."""

    is_quick_to_check = False
    state: FileState

    def __init__(self, name: str, path: str, backend: Backend, info: dict[str, Any] | None) -> None:
        """Request its state, unless `info` of a listing has it. Raises `SourceError`."""
        self.sleep: Callable[[float], None] = time.sleep
        self._path = path
        self._backend = backend
        self.is_streamed = False
        """Whether the server can only send the whole file from its start."""
        with backend.translated(name):
            state = self._state(info if info is not None else backend.info(path))
        super().__init__(name, name, state)

    @property
    def is_seekable(self) -> bool:
        """Whether parts of the file can be requested; with http only a request shows this."""
        if self._backend.is_http and not self.is_streamed and self.size:
            try:
                with closing(self.open_at(self.size - 1)) as file:
                    file.read(1)
            except Exception as error:  # noqa: BLE001 - each backend raises its own
                if not self.refuses_ranges(error):
                    raise self.fault(error) from None
        return not self.is_streamed

    def current_state(self) -> FileState:
        """Request the file's state again. Raises `SourceError`."""
        with self._backend.translated(self.name):
            self._backend.drop_listings()
            return self._state(self._backend.info(self._path))

    def open(self) -> "RemoteStream":
        """Open the file."""
        return RemoteStream(self)

    def open_at(self, offset: int) -> Any:  # noqa: ANN401 - fsspec has no types
        """Open the backend's own file at an offset. Raises the backend's own errors."""
        options = {"block_size": 0} if self.is_streamed else {"block_size": _READ_AHEAD}
        file = self._backend.filesystem.open(self._path, "rb", cache_type="readahead", **options)
        self.is_streamed = type(file).__name__ == _STREAMED
        with ExitStack() as opened:
            opened.callback(file.close)
            if not self.is_streamed:
                file.seek(offset)
            while self.is_streamed and offset and (skipped := file.read(min(offset, _READ_AHEAD))):
                offset -= len(skipped)
            opened.pop_all()
        return file

    def refuses_ranges(self, error: Exception) -> bool:
        """Return whether an error shows a server without ranges; if so, stream the file."""
        is_new = self._backend.is_http and not self.is_streamed
        if is_new and isinstance(error, ValueError) and "range" in str(error):
            self.is_streamed = True
            return True
        return False

    def fault(self, error: Exception) -> SourceError:
        """Translate an error of the backend."""
        return source_error(self.name, error, self._backend.schemes)

    def _state(self, info: dict[str, Any]) -> FileState:
        state = FileState.of_info(info)
        archive = self._backend.archive
        return state if archive is None else state.within(archive.state_of_file())


class RemoteStream(io.RawIOBase):
    """A remote file open for reading; after a broken connection it resumes at the same offset."""

    def __init__(self, location: RemoteFile) -> None:
        """Open the file. Raises `SourceError`."""
        super().__init__()
        self._location = location
        self._position = 0
        self._file: Any = None
        self._was_open = False
        self._with_retries(lambda _: None)

    def readable(self) -> bool:
        """Return True, for PyArrow."""
        return True

    def seekable(self) -> bool:
        """Return whether the server sends parts of the file."""
        return not self._location.is_streamed

    def read(self, size: int = -1, /) -> bytes:
        """Read from the current offset."""
        chunk = self._with_retries(lambda file: self._chunk(file, size))
        self._position += len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to an offset in the file."""
        self._position = self._with_retries(lambda file: int(file.seek(offset, whence)))
        return self._position

    def tell(self) -> int:
        """Return the offset in the file."""
        return self._position

    def close(self) -> None:
        """Close the backend's file."""
        if not self.closed:
            self._drop()
        super().close()

    def _chunk(self, file: Any, size: int) -> bytes:  # noqa: ANN401 - fsspec has no types
        chunk: bytes = file.read(size)
        if not chunk and size and self._position < (self._location.size or 0):
            raise PrematureEndError
        return chunk

    def _with_retries(self, work: Callable[[Any], T]) -> T:
        """Call `work` with the file; after a temporary error, open it again and retry."""
        waits = iter(_WAITS_SECONDS)
        while True:
            try:
                if self._file is None:
                    self._file = self._location.open_at(self._position)
                    self._was_open = True
                return work(self._file)
            except Exception as error:  # noqa: BLE001 - each backend raises its own
                self._drop()
                if self._location.refuses_ranges(error):
                    continue
                fault = self._location.fault(error)
            is_temporary = isinstance(fault, SourceUnavailableError) and self._was_open
            wait = next(waits, None) if is_temporary else None
            if wait is None:
                raise fault from None
            self._location.sleep(wait)
            self._refuse_changed(fault)

    def _refuse_changed(self, fault: SourceError) -> None:
        """Raise `ChangedWhileReadError` if the file has changed."""
        try:
            change = self._location.state.change(self._location.current_state())
        except SourceUnavailableError:
            return  # The next attempt reports it.
        except SourceError:
            raise fault from None
        if change:
            raise changed(self._location.name, change)

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):  # The file may be broken; closing only releases it.
                file.close()


def find_remote(url: str) -> tuple[list[RemoteFile], int]:
    """Return the files that a URL matches, and the number of skipped names.

    See `patterns`. Over http a URL names one file. Raises `UsageError` if its backend is not
    installed, `MissingExportError` if nothing is found.
    """
    backend = Backend(url)
    path, name = backend.path, backend.display_name
    if backend.is_http:
        return [RemoteFile(name, path, backend, None)], 0
    if has_magic(path) and urls.path_of(url).endswith("/"):
        path += "/"  # Only folders match; most backends drop the slash.
    with backend.translated(name):
        entries, passed_over = expand(backend, path)
    if not entries:
        is_pattern = has_magic(path)
        hint = "`**/` includes subfolders" if is_pattern else "check the address"
        if passed_over:
            hint = f"{passed_over} names that begin with . or _ were passed over"
        raise MissingExportError(
            f"{name}: {'no file matches' if is_pattern else 'nothing there'}", hint=hint
        )
    named = _namer(name, path)
    return [RemoteFile(named(e.path), e.path, backend, e.info) for e in entries], passed_over


def match_remote(url: str) -> tuple[list[tuple[str, Entry]], str]:
    """Return what the pattern in a URL matches, each with its own URL, and the pattern's path.

    See `patterns.matches`. The URLs keep the credentials. Raises as `find_remote`.
    """
    backend = Backend(url)
    path = backend.path + ("/" if urls.path_of(url).endswith("/") else "")
    with backend.translated(backend.display_name):
        entries, _ = matches(backend, path)
    named = _namer(url, backend.path)
    return [(named(entry.path), entry) for entry in entries], path


def _namer(url: str, path: str) -> Callable[[str], str]:
    """Return a function from a found file's path to its URL: `url` with that path for `path`."""
    chain = urls.links(url)
    carrier = urls.carrier(url)
    link = chain[carrier]

    def named(found: str) -> str:
        if found == path:
            own = link
        elif has_magic(path) and not found.startswith(f"{path}/"):
            own = split_at_magic(link)[0] + found[len(split_at_magic(path)[0]) :]
        else:
            own = link + ("" if link.endswith("/") else "/") + found[len(path) :].lstrip("/")
        return "::".join([*chain[:carrier], own, *chain[carrier + 1 :]])

    return named
