"""The text memory in Qdrant, embedded in a directory or on a server, through the same client and the same code.

Three collections (see `text_points`): `reviews`, a point per review; `items`, a point per item with the named vectors `mean` and
`description`; `retractions`, a point per review that was taken back, and per person and partition to be forgotten. Every call
runs on one worker thread of the store: the embedded engine is not thread-safe. Only `near`, which needs a server, has a thread of
its own, so that a question never queues behind a write.
Writes wait until they are durable (`wait=True`) and are idempotent; an item is only ever replaced by a state that has seen more
of its partition.

The store never retries. What passes by itself is `VectorStoreUnavailable`, and the caller decides how long to wait.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import grpc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from streams.qdrant_access import (
    FingerprintMismatch,
    LocalStoreFull,
    LocalStoreLocked,
    VectorStoreError,
    VectorStoreUnavailable,
    connect,
    not_there_yet,
    printable,
    translated,
)
from streams.text_authors import last
from streams.text_points import DESCRIPTION, MEAN, Forgotten, ItemPoint, Newest, Position, Retraction, ReviewPoint

__all__ = [
    "COLLECTIONS",
    "FingerprintMismatch",
    "LocalStoreFull",
    "LocalStoreLocked",
    "VectorStore",
    "VectorStoreError",
    "VectorStoreUnavailable",
]

T = TypeVar("T")
ReviewPoints = dict[str, ReviewPoint]

REVIEWS: Final = "reviews"
ITEMS: Final = "items"
RETRACTIONS: Final = "retractions"
COLLECTIONS: Final = (REVIEWS, ITEMS, RETRACTIONS)

LOCAL_LIMIT: Final = 20_000  # points; the embedded engine scans everything in Python and warns above
_SCHEMA: Final = 2  # of the payloads; part of what must match
_BATCH: Final = 256  # points per request: 0.4 MB by gRPC, 2 MB by REST, whose limit is 32 MB
_NEWEST_CANDIDATES: Final = 64  # reviews of one item with the same newest millisecond, beyond which the tie is broken by Qdrant
_INDEXES: Final = (  # every field that is filtered or ordered by: a server in strict mode refuses others
    (REVIEWS, "item_id", models.PayloadSchemaType.KEYWORD),
    (REVIEWS, "user_id", models.PayloadSchemaType.KEYWORD),
    (REVIEWS, "timestamp_ms", models.PayloadSchemaType.INTEGER),
    (REVIEWS, "counted", models.PayloadSchemaType.BOOL),
    (REVIEWS, "partition", models.PayloadSchemaType.INTEGER),
    (REVIEWS, "offset", models.PayloadSchemaType.INTEGER),
    (ITEMS, "partition", models.PayloadSchemaType.INTEGER),
    (ITEMS, "offset", models.PayloadSchemaType.INTEGER),
)


class VectorStore:
    """One store for one event loop. Call `ensure` first; `close` at the end, also after errors.

    Either `path` (a directory, or ":memory:") or `url` (with `api_key`, which appears in no message; `prefer_grpc` for 4 times
    smaller writes on port `grpc_port`). `prefix` is put before the names of the collections. `timeout_s` holds for each request
    to a server. `max_local_points`, all collections together, is what an embedded store refuses to exceed.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        url: str | None = None,
        api_key: str | None = None,
        prefer_grpc: bool = False,
        grpc_port: int = 6334,
        timeout_s: float = 10.0,
        prefix: str = "",
        max_local_points: int = LOCAL_LIMIT,
    ) -> None:
        if (path is None) == (url is None):
            raise VectorStoreError("name either a directory (path) or a server (url) for the vectors, not both")
        self.is_server = url is not None
        self.where = printable(url) if url is not None else str(path)
        self._collections = {name: f"{prefix}{name}" for name in COLLECTIONS}
        self._max_local_points = max_local_points
        self._new_client = partial(
            connect, path=path, url=url, api_key=api_key, prefer_grpc=prefer_grpc, grpc_port=grpc_port, timeout_s=timeout_s
        )
        self._client: QdrantClient | None = None
        self._connecting = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="qdrant")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="qdrant-near") if self.is_server else self._writer
        self._closed = False

    # -------------------------------------------------------------------------------------------- set-up
    async def ensure(self, dim: int, fingerprint: str) -> None:
        """Open, and create what is missing. Raises `FingerprintMismatch` where the vectors there are of another encoder."""
        await self._run("preparing the collections", self._ensure, dim, fingerprint)

    def _ensure(self, client: QdrantClient, dim: int, fingerprint: str) -> None:
        vector = models.VectorParams(size=dim, distance=models.Distance.COSINE)
        self._ensure_collection(client, REVIEWS, vector, fingerprint)
        self._ensure_collection(client, ITEMS, {MEAN: vector, DESCRIPTION: vector}, fingerprint)
        marker = models.VectorParams(size=1, distance=models.Distance.DOT)  # a point needs a vector; this one means nothing
        self._ensure_collection(client, RETRACTIONS, marker, fingerprint)
        if self.is_server:  # before the data, or the server builds its graph again; the embedded engine has no indexes
            for name, field, kind in _INDEXES:
                client.create_payload_index(self._collections[name], field, field_schema=kind, wait=True)

    def _ensure_collection(self, client: QdrantClient, name: str, vectors: Any, fingerprint: str) -> None:
        collection, expected = self._collections[name], {"fingerprint": fingerprint, "schema": _SCHEMA}
        if not client.collection_exists(collection):
            try:
                client.create_collection(collection, vectors_config=vectors, metadata=expected)
            except (UnexpectedResponse, grpc.RpcError, ValueError):
                if not client.collection_exists(collection):  # otherwise another process was faster, which is as good
                    raise
        found = client.get_collection(collection).config.metadata or {}
        if {key: found.get(key) for key in expected} != expected:
            raise FingerprintMismatch(
                f"the collection {collection!r} in {self.where} was made by the encoder {found.get('fingerprint')!r} "
                f"(schema {found.get('schema')}), but this process uses {fingerprint!r} (schema {_SCHEMA}). "
                "Vectors of two encoders cannot be compared. Configure the former encoder (FRESHET_EMBEDDING_MODEL), or choose "
                "another prefix (FRESHET_QDRANT_PREFIX) and let the embedder read item-texts from its beginning to fill it."
            )

    async def close(self) -> None:
        """Finish the running call and let go of the directory or the connection. May be called twice."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """`close` where there is no event loop any more; blocks until the running call is over."""
        with self._connecting:
            already, self._closed = self._closed, True
        if already:
            return
        self._writer.submit(self._close_client).result()  # in the thread that opened it
        self._writer.shutdown(wait=False)
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    # -------------------------------------------------------------------------------------------- reading
    async def read_items(self, item_points: Collection[str]) -> dict[str, ItemPoint]:
        """Those of the point ids that exist, by item id."""
        records = await self._run("reading items", self._retrieve, ITEMS, item_points)
        return {point.item_id: point for point in (ItemPoint.of(r.payload, r.vector) for r in records)}

    async def read_reviews(self, ids: Collection[str]) -> ReviewPoints:
        """Those of the point ids that exist, by point id."""
        records = await self._run("reading reviews", self._retrieve, REVIEWS, ids)
        return {str(r.id): ReviewPoint.of(r.payload, r.vector) for r in records}

    async def read_retractions(self, ids: Collection[str]) -> dict[str, Retraction]:
        """Those of the review point ids that were taken back, by point id."""
        records = await self._run("reading retractions", self._retrieve, RETRACTIONS, ids)
        return {str(r.id): Retraction.of(str(r.id), r.payload) for r in records}

    async def read_forgotten(self, ids: Collection[str]) -> dict[str, Forgotten]:
        """Those of the point ids of people to be forgotten that exist, by point id."""
        records = await self._run("reading who is forgotten", self._retrieve, RETRACTIONS, ids)
        return {str(r.id): Forgotten.of(str(r.id), r.payload) for r in records}

    def _retrieve(self, client: QdrantClient, name: str, ids: Collection[str]) -> list[Any]:
        found: list[Any] = []
        for part in _parts(sorted(set(ids))):
            found += client.retrieve(self._collections[name], part, with_payload=True, with_vectors=name != RETRACTIONS)
        return found

    async def newest_review(self, item_id: str, excluding: Collection[str] = ()) -> Newest | None:
        """The newest review of the item that has words, leaving out the given point ids."""
        return await self._run("looking for the newest review", self._newest_review, item_id, [*excluding])

    def _newest_review(self, client: QdrantClient, item_id: str, excluding: list[int | str | UUID]) -> Newest | None:
        records, _ = client.scroll(
            self._collections[REVIEWS],
            scroll_filter=models.Filter(
                must=[_equals("item_id", item_id), _equals("counted", True)],
                must_not=[models.HasIdCondition(has_id=excluding)] if excluding else None,
            ),
            order_by=models.OrderBy(key="timestamp_ms", direction=models.Direction.DESC),
            limit=_NEWEST_CANDIDATES,
            with_payload=True,
            with_vectors=False,
        )
        return max((ReviewPoint.of(r.payload or {}, []).newest for r in records), default=None)

    async def last_review(
        self, item_id: str, user_id: str, seen: Position, excluding: Collection[str] = ()
    ) -> ReviewPoint | None:
        """What the user wrote of the item last, with words, up to `seen` in its partition; without the given point ids."""
        return await self._run("looking for a user's last review", self._last_review, item_id, user_id, seen, [*excluding])

    def _last_review(
        self, client: QdrantClient, item_id: str, user_id: str, seen: Position, excluding: list[int | str | UUID]
    ) -> ReviewPoint | None:
        theirs = models.Filter(
            must=[
                _equals("item_id", item_id),
                _equals("user_id", user_id),
                _equals("counted", True),
                _unless_ahead(seen._asdict()),
            ],
            must_not=[models.HasIdCondition(has_id=excluding)] if excluding else None,
        )
        records, _ = client.scroll(
            self._collections[REVIEWS],
            theirs,
            order_by=models.OrderBy(key="offset", direction=models.Direction.DESC),
            limit=_NEWEST_CANDIDATES,
            with_payload=True,
            with_vectors=True,
        )
        return last(ReviewPoint.of(r.payload or {}, r.vector) for r in records)  # type: ignore[arg-type]  # unnamed vector

    async def reviews_of_user(self, user_id: str) -> list[ReviewPoint]:
        """All reviews of a user, with vectors, in no order."""
        return await self._run("reading a user's reviews", self._reviews_of_user, user_id)

    def _reviews_of_user(self, client: QdrantClient, user_id: str) -> list[ReviewPoint]:
        theirs, found, page = models.Filter(must=[_equals("user_id", user_id)]), [], None
        while True:
            records, page = client.scroll(
                self._collections[REVIEWS], theirs, limit=_BATCH, offset=page, with_payload=True, with_vectors=True
            )
            found += [ReviewPoint.of(r.payload or {}, r.vector) for r in records]  # type: ignore[arg-type]  # unnamed vector
            if page is None:
                return found

    async def counts(self) -> dict[str, int]:
        """Exact number of points by collection."""
        return await self._run("counting", self._counts)

    def _counts(self, client: QdrantClient) -> dict[str, int]:
        return {name: client.count(self._collections[name], exact=True).count for name in COLLECTIONS}

    async def near(
        self, tastes: Sequence[NDArray[np.floating[Any]]], limit: int, deadline_s: float
    ) -> list[Sequence[tuple[str, float]]]:
        """The items nearest to each taste, a (dim,) vector: at most `limit` pairs of item id and cosine each, best first.

        One batched request to a server, without filters. Raises `VectorStoreUnavailable` when the answer is not here in time or
        the collections are not there yet, and `VectorStoreError` with an embedded store, which would take seconds: scan the
        replicated vectors instead.
        """
        if not self.is_server:
            raise VectorStoreError("an embedded store is too slow for questions at list time; scan the item vectors in memory")
        if not len(tastes):
            return []
        matrix = np.asarray(tastes, np.float32)
        if not np.isfinite(matrix).all():
            raise ValueError("a taste vector is not finite")
        answer = self._run("asking for near items", self._near, matrix, limit, deadline_s, executor=self._reader)
        try:
            return await asyncio.wait_for(answer, deadline_s)
        except TimeoutError:
            raise VectorStoreUnavailable(f"{self.where} has not answered within {deadline_s:g} s") from None

    def _near(
        self, client: QdrantClient, tastes: NDArray[np.float32], limit: int, deadline_s: float
    ) -> list[Sequence[tuple[str, float]]]:
        requests = [
            models.QueryRequest(query=taste, using=MEAN, limit=limit, with_payload=["item_id"]) for taste in tastes.tolist()
        ]
        # whole seconds are the smallest timeout the protocol has: it frees our thread soon after the caller has gone
        timeout = max(1, math.ceil(deadline_s))
        with not_there_yet("asking for near items"):
            answers = client.query_batch_points(self._collections[ITEMS], requests, timeout=timeout)
        return [[((p.payload or {})["item_id"], p.score) for p in answer.points] for answer in answers]

    # -------------------------------------------------------------------------------------------- writing
    async def write_retractions(self, retractions: Sequence[Retraction]) -> None:
        """Remember what was taken back."""
        points = [models.PointStruct(id=r.id, vector=[1.0], payload=r.payload()) for r in retractions]
        await self._run("writing retractions", self._upsert, RETRACTIONS, points)

    async def write_forgotten(self, forgotten: Sequence[Forgotten]) -> None:
        """Remember who is to be forgotten."""
        points = [models.PointStruct(id=f.id, vector=[1.0], payload=f.payload()) for f in forgotten]
        await self._run("writing who is forgotten", self._upsert, RETRACTIONS, points)

    async def write_reviews(self, reviews: Sequence[ReviewPoint]) -> None:
        """Write reviews; of two with the same id the later one in the sequence is kept."""
        for review in reviews:
            _require_finite(review.vector, review.item_id)
        points = [models.PointStruct(id=r.id, vector=r.vector.tolist(), payload=r.payload()) for r in reviews]
        await self._run("writing reviews", self._upsert, REVIEWS, points)

    async def write_items(self, items: Sequence[ItemPoint]) -> None:
        """Write items, each unless the one there has seen more of the same partition; of two with the same id the later one."""
        for item in items:
            _require_finite(item.vector, item.item_id)
            if item.description is not None:
                _require_finite(item.description.vector, item.item_id)
        points = [models.PointStruct(id=i.id, vector=i.vectors(), payload=i.payload()) for i in items]  # type: ignore[arg-type]
        await self._run("writing items", self._upsert, ITEMS, points)

    def _upsert(self, client: QdrantClient, name: str, points: list[models.PointStruct]) -> None:
        unique = list({point.id: point for point in points}.values())
        self._refuse_to_outgrow(client, name, unique)
        for part in _parts(unique):
            if name == ITEMS:
                # a filter of its own for each item: what a reader that has lost the partition writes late must not win
                operations = [
                    models.UpsertOperation(upsert=models.PointsList(points=[p], update_filter=_unless_ahead(p.payload or {})))
                    for p in part
                ]
                client.batch_update_points(self._collections[name], operations, wait=True)
            else:
                client.upsert(self._collections[name], part, wait=True)

    def _refuse_to_outgrow(self, client: QdrantClient, name: str, points: list[models.PointStruct]) -> None:
        if self.is_server:
            return
        there = sum(self._counts(client).values())
        if there + len(points) <= self._max_local_points:
            return
        known = len(client.retrieve(self._collections[name], [p.id for p in points], with_payload=False))
        if there + len(points) - known > self._max_local_points:
            raise LocalStoreFull(
                f"the embedded vector store in {self.where} holds {there:,} points of at most {self._max_local_points:,}. "
                "Set FRESHET_QDRANT_URL to a Qdrant server (and let the embedder read item-texts from its beginning to fill it)."
            )

    async def delete_reviews(self, ids: Collection[str]) -> None:
        """Delete by point id; ids that are not there are fine."""
        await self._run("deleting reviews", self._delete, REVIEWS, ids)

    def _delete(self, client: QdrantClient, name: str, ids: Collection[str]) -> None:
        for part in _parts(sorted(set(ids))):
            client.delete(self._collections[name], models.PointIdsList(points=part), wait=True)  # type: ignore[arg-type]

    async def delete_item(self, item_point: str, position: Position) -> None:
        """Delete an item's point unless it has seen more of that partition than `position`."""
        await self._run("deleting an item", self._delete_item, item_point, position)

    def _delete_item(self, client: QdrantClient, item_point: str, position: Position) -> None:
        unless_ahead = _unless_ahead(position._asdict())
        doomed = models.Filter(must=[models.HasIdCondition(has_id=[item_point])], must_not=unless_ahead.must_not)
        client.delete(self._collections[ITEMS], models.FilterSelector(filter=doomed), wait=True)

    # -------------------------------------------------------------------------------------------- threads and errors
    async def _run(self, what: str, call: Callable[..., T], *arguments: Any, executor: ThreadPoolExecutor | None = None) -> T:
        if self._closed:
            raise VectorStoreError(f"{what}: the store is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor or self._writer, self._guarded, what, call, arguments)

    def _guarded(self, what: str, call: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        """Run in a worker thread."""
        with translated(f"{what} in {self.where}"):
            with self._connecting:
                if self._closed:
                    raise VectorStoreError(f"{what}: the store is closed")
                client = self._client = self._client or self._new_client()
            return call(client, *arguments)


def _equals(field: str, value: str | int | bool) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _unless_ahead(position: dict[str, Any]) -> models.Filter:
    """True of a point unless it has seen more of the same partition."""
    ahead = models.FieldCondition(key="offset", range=models.Range(gt=position["offset"]))
    return models.Filter(must_not=[models.Filter(must=[_equals("partition", position["partition"]), ahead])])


def _require_finite(vector: NDArray[np.float32], item_id: str) -> None:
    if not np.isfinite(vector).all():  # by gRPC the server would take it, rank it first and then fail
        raise ValueError(f"a vector of the item {item_id!r} is not finite")


def _parts(values: Iterable[T]) -> Iterable[list[T]]:
    everything = list(values)
    return (everything[i : i + _BATCH] for i in range(0, len(everything), _BATCH))
