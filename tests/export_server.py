"""A web server that holds one export, and fails on request."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

MODIFIED = "Tue, 24 Nov 2026 02:10:00 GMT"


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that goes away is no error."""


class ExportServer:
    """What is served, and how; every field may be changed between two requests."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"v1"'
        self.modified: str | None = MODIFIED
        self.knows_ranges = True
        self.knows_head = True
        self.answers: dict[int, int] = {}
        """The status of the nth GET, from 1, where it is not 200 or 206."""
        self.answer: int | None = None
        """The status of every request, if it is set."""
        self.breaks: dict[int, int] = {}
        """After how many bytes of its body the nth GET breaks off."""
        self.gets = 0
        self.ranges: list[str | None] = []
        self._numbers = count(1)

    def part(self, asked: str | None) -> tuple[bytes, str]:
        """Return what a `Range` asks for, and its `Content-Range`."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if match is None:
            return self.content, ""
        total = len(self.content)
        start, end = int(match[1]), min(int(match[2] or total - 1), total - 1)
        return self.content[start : end + 1], f"bytes {start}-{end}/{total}"

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on loopback; yield `host:port`."""
        server = _Server(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        export = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                status = export.answer or (200 if export.knows_head else 405)
                self._head(status, len(export.content) if status == 200 else 0)

            def do_GET(self) -> None:
                export.gets = next(export._numbers)
                asked = self.headers.get("Range") if export.knows_ranges else None
                export.ranges.append(asked)
                status = export.answer or export.answers.get(export.gets, 206 if asked else 200)
                body, span = export.part(asked)
                if not body:
                    status = 416
                if status >= 400:
                    body, span = b"", ""
                self._head(status, len(body), span)
                kept = export.breaks.get(export.gets)
                self.wfile.write(body[:kept])
                self.close_connection = kept is not None

            def _head(self, status: int, size: int, span: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(size))
                for name, value in (("ETag", export.etag), ("Last-Modified", export.modified)):
                    if value:
                        self.send_header(name, value)
                if span:
                    self.send_header("Content-Range", span)
                self.end_headers()

        return Handler
