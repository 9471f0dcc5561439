"""Connections that reject bytes that answer no request.

HTTP/1.1 assigns an answer to a request only by its position in the stream. If a server or gateway
sends extra bytes, the next request may get the wrong answer. A connection is therefore closed if
bytes arrive outside the time from a request to the end of its answer. An answer is marked if it
began before its request was received, or if more bytes followed it.

Extra bytes sent after the next request was received can't be distinguished from its answer.
Therefore, after the first unrequested bytes, each connection of the pool carries only one request.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL_STATUS = 200
_FAREWELLS = (b"HTTP/1.1 408", b"HTTP/1.0 408")
"""Responses that HTTP allows a server to send before it closes an idle connection."""


class UnaskedBytesError(aiohttp.ClientConnectionError):
    """The server sent bytes before the request; no byte of the request was sent."""


@dataclass(slots=True, eq=False)
class Reception:
    """What was received for one request."""

    connection: "WatchedConnection | None" = None
    """None until the request has a connection."""
    is_early: bool = False
    """Whether the answer began before the other side had received the whole request."""
    has_more: bool = False
    """Whether more bytes followed the answer, so that the answer may be another request's."""

    def refuse_unusable(self) -> None:
        """Raise an error if the connection can't carry the request, of which nothing was sent.

        That is `UnaskedBytesError` if bytes have already arrived, and `ServerDisconnectedError` if
        the server has closed the connection.
        """
        if self.connection is None:
            return
        if self.connection.is_spoiled:
            raise UnaskedBytesError
        if not self.connection.is_connected():
            raise aiohttp.ServerDisconnectedError

    def begin(self) -> None:
        """Note that the request's first byte is about to be written and an answer is expected.

        A spoiled connection is closed, so the write fails.
        """
        if self.connection is not None:
            self.connection.expect(self)

    def close(self) -> None:
        """Close the connection, so that no other request uses it."""
        if self.connection is not None:
            self.connection.spoil()


class WatchedConnection(ResponseHandler):
    """One connection of the pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, note_unasked: Callable[[], None]) -> None:
        super().__init__(loop)
        self._note_unasked = note_unasked
        self.is_watched = False
        """Whether the pool has returned it; before, it may still be opening a proxy tunnel."""
        self.is_spoiled = False
        """Whether it was closed, for example because of bytes that belong to no request."""
        self._reception: Reception | None = None
        self._is_answer_due = False
        self._body: StreamReader | None = None

    def expect(self, reception: Reception) -> None:
        """Treat bytes that arrive from now on as the answer for `reception`."""
        if not self.is_spoiled:
            self._reception = reception
            self._is_answer_due = True
            self._body = None

    def spoil(self) -> None:
        """Abort the connection, so that no later request uses it."""
        self.is_spoiled = True
        self._is_answer_due = False
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass on bytes of an expected answer; spoil the connection for any other bytes."""
        if not self.is_watched:
            super().data_received(data)
            return
        # An empty `data` makes the parser continue with what it has buffered.
        if data and not self._is_answer_due:
            self._note_more(is_farewell=data.startswith(_FAREWELLS))
            return
        super().data_received(data)
        if self._is_answer_due and self._body is not None and self._body.is_eof():
            self._is_answer_due = False
            if self._has_left_over():
                self._note_more()

    def feed_data(self, data: "tuple[RawResponseMessage, StreamReader]", size: int = 0) -> None:
        """Note the head of an answer, and whether it began early."""
        status = data[0].code
        is_final = status >= _FIRST_FINAL_STATUS or status == _SWITCHING_PROTOCOLS
        if self.is_watched and is_final and self._reception is not None:
            if self._body is None:
                self._body = data[1]
                self._reception.is_early = _unreceived_bytes(self.transport) > 0
            else:
                self._note_more()
        super().feed_data(data, size)

    def _has_left_over(self) -> bool:
        """Return whether bytes of another answer were read with the end of this one."""
        parser = self._parser
        try:
            return bool(self.exception()) or (parser is not None and bool(parser.feed_eof()))
        except Exception:  # noqa: BLE001 - any parser error means left-over bytes
            return True

    def _note_more(self, *, is_farewell: bool = False) -> None:
        if not is_farewell:
            if self._reception is not None:
                self._reception.has_more = True
            self._note_unasked()
        self.spoil()


class WatchedConnector(aiohttp.TCPConnector):
    """A pool of `WatchedConnection`s."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of its base
        super().__init__(**options)
        self._is_distrusted = False
        watched = partial(WatchedConnection, self._loop, self._distrust)
        self._factory = cast("partial[ResponseHandler]", watched)

    def _distrust(self) -> None:
        self._is_distrusted = True

    async def connect(self, *arguments: Any, **named: Any) -> aiohttp.connector.Connection:  # noqa: ANN401 - those of its base
        """Return a connection on which nothing has arrived yet.

        Raises `UnaskedBytesError` if the server sends bytes first.
        """
        while True:
            connection = await super().connect(*arguments, **named)
            protocol = connection.protocol
            if not isinstance(protocol, WatchedConnection):
                raise TypeError(protocol)
            was_used, protocol.is_watched = protocol.is_watched, True
            is_clean = not protocol.should_close and not protocol.is_spoiled
            if is_clean and not (was_used and self._is_distrusted):
                break
            connection.close()
            if not was_used:
                raise UnaskedBytesError
        return connection


def _unreceived_bytes(transport: asyncio.Transport | None) -> int:
    """Return how many written bytes the other side's system has not acknowledged.

    If the server read the whole request before it answered, all bytes are acknowledged.
    """
    if transport is None:
        return 0
    buffered = transport.get_write_buffer_size()
    socket = transport.get_extra_info("socket")
    if buffered or socket is None:
        return buffered
    try:
        queued = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(struct.calcsize("i")))
    except OSError:  # This system does not support it.
        return 0
    return int(struct.unpack("i", queued)[0])
