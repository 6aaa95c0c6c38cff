"""A tiny OpenAI-compatible endpoint on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint:
    """An OpenAI-compatible server on loopback: `say` makes its answer from the request; what it was asked is kept."""

    def __init__(self) -> None:
        self.say: Callable[[dict[str, object]], str] = lambda request: "[1]"
        self.raw: bytes | None = None
        self.status = 200
        self.asked: list[tuple[str, dict[str, str], dict[str, object]]] = []
        self.proceed = threading.Event()
        self.proceed.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, dict(self.headers), request))
                outer.proceed.wait(20)
                body = outer.raw
                if body is None:
                    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": outer.say(request)}}]}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.proceed.set()
        self.server.shutdown()
        self.server.server_close()
