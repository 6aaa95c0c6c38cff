"""A server on loopback that answers every request alike, in Qdrant's place."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Answering(BaseHTTPRequestHandler):
    """Answers every request with one status, after a delay."""

    status, headers_to_send, delay_s = 503, {}, 0.0

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        threading.Event().wait(self.delay_s)
        self.send_response(self.status)
        for name, value in self.headers_to_send.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        with suppress(BrokenPipeError, ConnectionResetError):  # a client that gave up is part of a test
            self.end_headers()
            self.wfile.write(b"{}")

    do_GET = do_POST = do_PUT = _answer  # noqa: N815  names of the standard library

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@asynccontextmanager
async def answering(status: int, delay_s: float = 0.0, **headers: str) -> AsyncIterator[str]:
    handler = type("Handler", (_Answering,), {"status": status, "headers_to_send": headers, "delay_s": delay_s})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
