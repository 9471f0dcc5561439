"""Connections that take no answer that nobody asked for.

HTTP/1.1 assigns an answer to a request by its place in the stream alone. A server or gateway that
sends a byte too many makes the next request's answer that of another. So whatever arrives on a
connection outside the time from a request to the end of its answer closes it, and an answer is
marked that came before its request was received, or with more behind it.

What is sent unasked after the next request has been received can't be told from its answer. So once
anything has come unasked, each connection of the pool carries one request only.
"""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from contextvars import ContextVar
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
"""What servers send before they close a connection that has been idle for long, as HTTP allows."""


class UnaskedBytesError(aiohttp.ClientConnectionError):
    """The server sent something before a request was written; nothing of the request has left."""


@dataclass(slots=True, eq=False)
class Reception:
    """What one request's connection received for it."""

    connection: "WatchedConnection | None" = None
    """None until a connection stands."""
    is_early: bool = False
    """Whether the answer began before the other side had received the whole request."""
    has_more: bool = False
    """Whether anything came behind the answer: which of it is the answer nobody knows."""

    def refuse_spoiled(self) -> None:
        """Raise `UnaskedBytesError` if anything has arrived already."""
        if self.connection is not None and self.connection.is_spoiled:
            raise UnaskedBytesError

    def begin(self) -> None:
        """Note that the request's first byte is about to be written: from now on an answer is due.

        A connection that is spoiled is closed: the write fails.
        """
        if self.connection is not None:
            self.connection.expect(self)

    def close(self) -> None:
        """Let no other request have the connection."""
        if self.connection is not None:
            self.connection.spoil()


RECEPTION: ContextVar[Reception | None] = ContextVar("RECEPTION", default=None)
"""The reception of the request that the current task sends."""


class WatchedConnection(ResponseHandler):
    """One connection of the pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, note_unasked: Callable[[], None]) -> None:
        super().__init__(loop)
        self._note_unasked = note_unasked
        self.is_watched = False
        """Whether it is the pool's; until then, it may still be on its way through a proxy."""
        self.is_spoiled = False
        """Whether it is closed because of bytes that belong to no request."""
        self._reception: Reception | None = None
        self._is_answer_due = False
        self._body: StreamReader | None = None

    def expect(self, reception: Reception) -> None:
        """Take what arrives from now on for an answer."""
        if not self.is_spoiled:
            self._reception = reception
            self._is_answer_due = True
            self._body = None

    def spoil(self) -> None:
        """Close it, and leave nothing of it to the next request."""
        self.is_spoiled = True
        self._is_answer_due = False
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass on what belongs to an answer that is due."""
        if not self.is_watched:
            super().data_received(data)
            return
        # Without data it only goes on with what it has read.
        if data and not self._is_answer_due:
            self._note_more(is_farewell=data.startswith(_FAREWELLS))
            return
        super().data_received(data)
        if self._is_answer_due and self._body is not None and self._body.is_eof():
            self._is_answer_due = False
            if self._has_left_over():
                self._note_more()

    def feed_data(self, data: "tuple[RawResponseMessage, StreamReader]", size: int = 0) -> None:
        """Note an answer's head."""
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
        """Say whether a part of another answer was read together with this one's end."""
        parser = self._parser
        try:
            return bool(self.exception()) or (parser is not None and bool(parser.feed_eof()))
        except Exception:  # noqa: BLE001 - whatever the parser finds wrong is left over
            return True

    def _note_more(self, *, is_farewell: bool = False) -> None:
        if not is_farewell:
            if self._reception is not None:
                self._reception.has_more = True
            self._note_unasked()
        self.spoil()


class WatchedConnector(aiohttp.TCPConnector):
    """A pool of such connections; the task's `RECEPTION` knows which of them it has."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of its base
        super().__init__(**options)
        self._is_distrusted = False
        watched = partial(WatchedConnection, self._loop, self._distrust)
        self._factory = cast("partial[ResponseHandler]", watched)

    def _distrust(self) -> None:
        self._is_distrusted = True

    async def connect(self, *arguments: Any, **named: Any) -> aiohttp.connector.Connection:  # noqa: ANN401 - those of its base
        """Return a connection on which nothing has arrived yet.

        Raises `UnaskedBytesError` where the server speaks first.
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
        if (reception := RECEPTION.get()) is not None:
            reception.connection = protocol
        return connection


def _unreceived_bytes(transport: asyncio.Transport | None) -> int:
    """Return how many of the bytes written the other side's system has not acknowledged.

    An answer to a request that was read whole carries the acknowledgement of all of it.
    """
    if transport is None:
        return 0
    buffered = transport.get_write_buffer_size()
    socket = transport.get_extra_info("socket")
    if buffered or socket is None:
        return buffered
    try:
        queued = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(struct.calcsize("i")))
    except OSError:  # This system does not report it.
        return 0
    return int(struct.unpack("i", queued)[0])
