"""Qdrant's own embedded engine behind the part of its REST interface that we use: a server that can be started and stopped where
the real one cannot be installed. `python -m tests.deploy.qdrant_server PORT DIRECTORY` until SIGTERM; loopback only."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models

Answer = Callable[[QdrantClient, str, dict[str, Any]], Any]


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def create(client: QdrantClient, name: str, body: dict[str, Any]) -> bool:
    wanted = models.CreateCollection.model_validate(body)
    return bool(client.create_collection(name, vectors_config=wanted.vectors, metadata=body.get("metadata")))  # type: ignore[arg-type]


def scroll(client: QdrantClient, name: str, body: dict[str, Any]) -> dict[str, Any]:
    asked = models.ScrollRequest.model_validate(body)
    points, following = client.scroll(
        name, asked.filter, limit=asked.limit or 10, offset=asked.offset, order_by=asked.order_by,
        with_payload=asked.with_payload or False, with_vectors=asked.with_vector or False,
    )  # fmt: skip
    return {"points": plain(points), "next_page_offset": following}


def retrieve(client: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    asked = models.PointRequest.model_validate(body)
    return client.retrieve(name, asked.ids, with_payload=asked.with_payload or False, with_vectors=asked.with_vector or False)


def upsert(client: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    return client.upsert(name, models.PointsList.model_validate(body).points)


def operations(client: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    return client.batch_update_points(name, models.UpdateOperations.model_validate(body).operations)


def delete(client: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    selector = models.PointIdsList if "points" in body else models.FilterSelector
    return client.delete(name, selector.model_validate(body))


def count(client: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    return client.count(name, exact=True)


def near(client: QdrantClient, name: str, body: dict[str, Any]) -> Any:
    return client.query_batch_points(name, models.QueryRequestBatch.model_validate(body).searches)


ROUTES: dict[tuple[str, str], Answer] = {
    ("DELETE", ""): lambda client, name, _: client.delete_collection(name),
    ("GET", "/exists"): lambda client, name, _: {"exists": client.collection_exists(name)},
    ("GET", ""): lambda client, name, _: client.get_collection(name),
    ("PUT", ""): create,
    ("PUT", "/index"): lambda client, name, _: {"operation_id": 0, "status": "completed"},
    ("PUT", "/points"): upsert,
    ("POST", "/points"): retrieve,
    ("POST", "/points/scroll"): scroll,
    ("POST", "/points/count"): count,
    ("POST", "/points/delete"): delete,
    ("POST", "/points/batch"): operations,
    ("POST", "/points/query/batch"): near,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    client: QdrantClient
    lock = threading.Lock()  # the embedded engine is not thread-safe

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self.answer(200, b"# HELP app_info About.\n# TYPE app_info gauge\napp_info 1\n", "text/plain")
            return
        if path == "/":
            self.answer(200, b'{"title": "qdrant - vector search engine", "version": "1.20.0"}')
            return
        if path == "/collections":
            names = [{"name": one.name} for one in self.client.get_collections().collections]
            self.answer(200, json.dumps({"result": {"collections": names}, "status": "ok", "time": 0.0}).encode())
            return
        found = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
        route = ROUTES.get((self.command, found[2] or "")) if found else None
        if found is None or route is None:
            self.answer(404, b'{"status": {"error": "no such path"}}')
            return
        try:
            with self.lock:
                result = plain(route(self.client, found[1], body))
        except (ValueError, KeyError) as problem:  # what the embedded engine says of collections and points that are not there
            self.answer(404, json.dumps({"status": {"error": str(problem)}}).encode())
            return
        self.answer(200, json.dumps({"result": result, "status": "ok", "time": 0.0}).encode())

    do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815  names that the library asks for

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def main() -> None:
    port, directory = int(sys.argv[1]), sys.argv[2]
    Handler.client = QdrantClient(path=directory)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    Handler.client.close()


if __name__ == "__main__":
    main()
