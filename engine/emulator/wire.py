"""Works on a request's connection: reads limited bodies, truncates answers, resets sockets."""

import socket
import struct
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from engine.emulator.answers import ACCEPTED, Answer

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # linger on, for 0 seconds


async def read_body(request: web.Request, max_bytes: int) -> bytes | None:
    """Return the body; None if it is too large, and then the rest is not read.

    Raises `ConnectionError` or `web.RequestPayloadError` if the client does not complete it.
    """
    if request.content_length is not None and request.content_length > max_bytes:
        return None
    body = await request.content.readany()
    if len(body) == request.content_length:
        return body
    parts, size = [body], len(body)
    while size <= max_bytes:
        body = await request.content.readany()
        if not body:
            return b"".join(parts)
        parts.append(body)
        size += len(body)
    return None


def respond(answer: Answer, headers: Mapping[str, str]) -> web.Response:
    """Return aiohttp's response for an answer."""
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers=headers,
    )


def reset(request: web.Request) -> web.Response:
    """Reset the connection; the returned response is not sent."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


async def truncate(request: web.Request) -> web.StreamResponse:
    """Send the head and half of an acceptance, then end the connection."""
    response = web.StreamResponse(headers={"Content-Length": str(len(ACCEPTED.body))})
    response.content_type = ACCEPTED.content_type
    await response.prepare(request)
    await response.write(ACCEPTED.body[: len(ACCEPTED.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
