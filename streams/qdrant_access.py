"""How Qdrant is reached, and one family of errors for its two protocols and its embedded engine."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

_TRANSIENT_HTTP: Final = frozenset({408, 425, 429})
_TRANSIENT_GRPC: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN,
    }
)  # fmt: skip
_KEY: Final = "the API key is missing, wrong or may only read (FRESHET_QDRANT_API_KEY)"


class VectorStoreError(RuntimeError):
    """Qdrant cannot do what was asked, and asking again will not help. The message says what will."""


class VectorStoreUnavailable(VectorStoreError):  # noqa: N818  named by what has happened
    """Qdrant is away, overloaded or too slow: ask again later, not before `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class FingerprintMismatch(VectorStoreError):  # noqa: N818  named by what has happened
    """The collections hold vectors of another encoder."""


class LocalStoreFull(VectorStoreError):  # noqa: N818  named by what has happened
    """The embedded store is at its bound; a server has none."""


class LocalStoreLocked(VectorStoreError):  # noqa: N818  named by what has happened
    """Another process, or another store of this one, has the directory open."""


def connect(
    *, path: str | None, url: str | None, api_key: str | None, prefer_grpc: bool, grpc_port: int, timeout_s: float
) -> QdrantClient:
    """The client of a directory (`path`, or ":memory:") or of a server (`url`), which need not be up yet."""
    if url is None:
        try:
            return QdrantClient(":memory:") if path == ":memory:" else QdrantClient(path=path)
        except RuntimeError as problem:
            if "already accessed" not in str(problem):
                raise
            raise LocalStoreLocked(
                f"the vectors in {path} are open in another process; only one can use an embedded store. Stop the other one, "
                "choose another directory, or set FRESHET_QDRANT_URL to a Qdrant server, which all processes can share."
            ) from problem
    return QdrantClient(
        url=url, api_key=api_key, prefer_grpc=prefer_grpc, grpc_port=grpc_port, timeout=max(1, math.ceil(timeout_s)),
        grpc_options={"grpc.max_reconnect_backoff_ms": 1000},  # else a server that was away a minute is found again 40 s late
    )  # fmt: skip


def printable(url: str) -> str:
    """The address without user, password, path and query, any of which may be secret."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise VectorStoreError("the address of the Qdrant server must look like http://host:6333")
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 6333}"


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise whatever Qdrant raises as a `VectorStoreError`; `doing` begins the message."""
    try:
        yield
    except ResponseHandlingException as problem:
        raise VectorStoreUnavailable(f"{doing}: no answer ({type(problem.source).__name__}: {problem.source})") from problem
    except ResourceExhaustedResponse as problem:
        raise VectorStoreUnavailable(f"{doing}: overloaded", float(problem.retry_after_s)) from problem
    except UnexpectedResponse as problem:
        raise _http_error(doing, problem) from problem
    except grpc.RpcError as problem:
        raise _grpc_error(doing, problem) from problem
    except AssertionError as problem:  # the client's way to say that an answer holds no result: somebody else is at that address
        raise VectorStoreUnavailable(f"{doing}: the answer is none of Qdrant's ({problem})") from problem
    except sqlite3.OperationalError as problem:  # the disk is full, or busy
        raise VectorStoreUnavailable(f"{doing}: {problem}") from problem


@contextmanager
def not_there_yet(doing: str) -> Iterator[None]:
    """For readers that may be up before the embedder has made the collections: "not found" passes by itself."""
    try:
        yield
    except (UnexpectedResponse, grpc.RpcError) as problem:
        status = problem.status_code if isinstance(problem, UnexpectedResponse) else _grpc_code(problem)
        if status in (404, grpc.StatusCode.NOT_FOUND):
            raise VectorStoreUnavailable(f"{doing}: the collection does not exist yet") from problem
        raise


def _http_error(doing: str, problem: UnexpectedResponse) -> VectorStoreError:
    status = problem.status_code or 0
    if status >= 500 or status in _TRANSIENT_HTTP:
        return VectorStoreUnavailable(f"{doing}: status {status} {problem.reason_phrase}")
    if status in (401, 403):
        return VectorStoreError(f"{doing}: status {status}, {_KEY}")
    return VectorStoreError(f"{doing}: status {status} {problem.reason_phrase}: {problem.content[:300]!r}")


def _grpc_error(doing: str, problem: grpc.RpcError) -> VectorStoreError:
    code = _grpc_code(problem)
    if code in _TRANSIENT_GRPC:
        return VectorStoreUnavailable(f"{doing}: {code.name}")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return VectorStoreError(f"{doing}: {code.name}, {_KEY}")
    details = problem.details() if isinstance(problem, grpc.Call) else ""
    return VectorStoreError(f"{doing}: {code.name}: {str(details)[:300]}")


def _grpc_code(problem: grpc.RpcError) -> grpc.StatusCode:
    return problem.code() if isinstance(problem, grpc.Call) else grpc.StatusCode.UNKNOWN
