"""What a process says of itself, for whoever starts and watches it; answered from a thread of its own, beside the metrics.

| path | answers | status |
|---|---|---|
| `/healthz` | is it alive? Restart it where this fails | 200, 503 |
| `/readyz` | can it work? Every condition that must hold, one a line | 200, 503 |
| `/statusz` | a page for people: versions, partitions, lag, sizes beside their bounds, last warnings | 200 |
| `/metrics` | for Prometheus | 200 |

Nothing here names a person or shows a text or a secret; still it is for operators: it listens where the settings say, which is
this machine alone unless they say otherwise.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from socketserver import ThreadingMixIn
from typing import Any, Final, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

IDLE_S: Final = 10.0
"""A client that says nothing for so long is hung up on."""
_STATUS: Final = {200: "200 OK", 404: "404 Not Found", 405: "405 Method Not Allowed", 503: "503 Service Unavailable"}
_HEADERS: Final = [
    ("Content-Type", "text/plain; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]

Answer = tuple[int, str]
"""Status code and text of a page."""


class Condition(NamedTuple):
    """Something that must hold for a process to be able to work, with a few words for a person."""

    name: str
    holds: bool
    detail: str


class Health(NamedTuple):
    """What the pages are made of. All three are called from another thread, at each request: they must only read."""

    alive: Callable[[], Condition]
    conditions: Callable[[], Sequence[Condition]]
    """Everything that must hold for the process to work."""
    status: Callable[[], str]
    """The text of `/statusz`."""

    def healthz(self) -> Answer:
        """503 is for a process that should be started again."""
        return _listed([self.alive()])

    def readyz(self) -> Answer:
        """503 is for a process that should get no work yet."""
        return _listed(self.conditions())

    def statusz(self) -> Answer:
        """The page for people."""
        return 200, self.status()


def _listed(conditions: Sequence[Condition]) -> Answer:
    lines = [f"{'ok ' if one.holds else 'NOT'} {one.name}: {one.detail}\n" for one in conditions]
    return 200 if all(one.holds for one in conditions) else 503, "".join(lines)


def serve(registry: CollectorRegistry, health: Health | None, host: str, port: int) -> int:
    """Answer from a thread of its own; returns the port (useful with port 0). Without `health` there are only metrics.
    OSError: the port is taken."""
    pages = {} if health is None else {"/healthz": health.healthz, "/readyz": health.readyz, "/statusz": health.statusz}
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    kind = type("Server", (_Server,), {"address_family": family})  # the class decides between IPv4 and IPv6
    server: WSGIServer = make_server(str(address[0]), port, _application(registry, pages), kind, _Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


def _application(registry: CollectorRegistry, pages: dict[str, Callable[[], Answer]]) -> Callable[[Any, Any], list[bytes]]:
    metrics = make_wsgi_app(registry)

    def answer(environ: Any, start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            body: list[bytes] = metrics(environ, start_response)
            return body
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            code, text = 405, "only GET\n"
        elif path == "/":
            code, text = 200, "".join(f"{name}\n" for name in (*pages, "/metrics"))
        else:
            code, text = pages.get(path, lambda: (404, "there is no such page\n"))()
        start_response(_STATUS[code], [*_HEADERS])  # the server adds to the list
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text.encode()]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True


class _Quiet(WSGIRequestHandler):
    timeout = IDLE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; nobody reads that."""
