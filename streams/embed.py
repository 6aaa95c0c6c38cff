"""The embedder: lines of `item-texts` into Qdrant, vectors out to `item-vectors` and `review-vectors`.

decode -> read what is stored -> fold (`text_fold`) -> embed new texts -> write -> publish -> delete -> acknowledge. The order of
the writes and the fold make every interruption harmless: the batch comes again and ends in the same state. What an item's vector
is now is published whenever a line names the item, changed or not, so that a publication lost in a crash is made up for.

While Qdrant is away the batch waits, unacknowledged, for as long as it takes; nothing is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec
from aiokafka import ConsumerRecord

from models.events import ItemText, ItemVector, ReviewVector
from streams.memory import no_collections
from streams.text_authors import Voice, last, may_count
from streams.text_encoder import TextEncoder, Vectors
from streams.text_fold import KINDS, Changes, ItemChange, Line, Stored, fold, item_vector, names, review_point, settle
from streams.text_points import ItemPoint, Position, ReviewPoint, Vector, item_point_id
from streams.text_words import Withdrawn, words
from streams.vector_store import ITEMS, RETRACTIONS, REVIEWS, VectorStore, VectorStoreUnavailable

__all__ = ["EmbedObserver", "Embedder", "MalformedLine", "Published"]

T = TypeVar("T")
log = logging.getLogger(__name__)

Published = ItemVector | ReviewVector | Withdrawn
"""What is published: under the item's id as key, or under the review's."""

TEXTS_AT_ONCE: Final = 64  # lines handled, embedded and written together: at most a second or two of work lost to a crash
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 10.0
_LONGEST_REQUESTED_WAIT_S: Final = 60.0  # a server may ask for more patience than ours, within reason

_decoder: Final = msgspec.json.Decoder(ItemText)


class MalformedLine(RuntimeError):  # noqa: N818  named by what has happened
    """A record of `item-texts` that cannot be read. Only ingest writes there, so this is an error of ours."""


class EmbedObserver(Protocol):
    """Is told what happens, for metrics."""

    def embedded(self, n: int, seconds: float) -> None:
        """`n` texts were encoded in one call."""

    def truncated(self, n: int) -> None:
        """`n` texts were longer than the model reads."""

    def upserted(self, collection: str, n: int, seconds: float) -> None:
        """`n` points of `collection` (reviews, items, retractions) were written."""

    def store_failed(self) -> None:
        """Qdrant could not be reached; the call is tried again."""

    def duplicate(self, n: int) -> None:
        """`n` lines changed nothing: copies, or lines that had been applied before a crash."""


class Embedder:
    """The single writer of its items. `start` before the first `handle`, `close` at the end; the store belongs to the caller.

    One batch at a time: the text of a batch may depend on what the one before has written.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        store: VectorStore,
        publish: Callable[[list[Published]], Awaitable[None]],
        observer: EmbedObserver,
        *,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.encoder, self.store, self.publish, self.observer = encoder, store, publish, observer
        self._sleep = sleep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder", initializer=_step_back)

    async def start(self) -> None:
        """Load the model (seconds, off the loop) and prepare the collections, waiting for Qdrant where it is away.

        Raises `EncoderError`, `FingerprintMismatch` and other errors that waiting does not cure.
        """
        with no_collections():
            await asyncio.get_running_loop().run_in_executor(self._thread, self.encoder.load)
        await self._patiently(self.store.ensure, self.encoder.dim, self.encoder.fingerprint)

    async def close(self) -> None:
        """Let the encoder's thread go; a call that runs ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def counts(self) -> dict[str, int]:
        """Number of points by collection; the store's errors are the caller's."""
        return await self.store.counts()

    async def handle(self, records: Sequence[ConsumerRecord]) -> None:
        """Apply a batch of records of `item-texts`. Returning means: durable in Qdrant and published, to be acknowledged.

        Raises `MalformedLine`, `StoreAheadOfLog`, `LocalStoreFull` and other errors that waiting does not cure: then nothing may
        be acknowledged.
        """
        for start in range(0, len(records), TEXTS_AT_ONCE):
            lines = [decode(record) for record in records[start : start + TEXTS_AT_ONCE]]
            await self._apply(lines)

    async def _apply(self, lines: list[Line]) -> None:
        stored = await self._read(lines)
        folded = fold(lines, stored)
        changes = folded.items
        vectors = await self._embed([line for change in changes.values() for line in change.to_embed()])
        arrived = {id: review_point(line, vectors[line.position]) for c in changes.values() for id, line in c.arrivals.items()}
        await self._write_evidence(folded, list(arrived.values()))
        items = {item_id: await self._settle(change, arrived, vectors) for item_id, change in changes.items()}
        await self._write_items(changes, items)
        if copies := sum(change.copies for change in changes.values()):
            self.observer.duplicate(copies)
        model = self.encoder.fingerprint
        said = words(lines, changes, arrived, stored, model)
        await self.publish([*(item_vector(item_id, point, model) for item_id, point in items.items()), *said])
        if retracted := [id for change in changes.values() for id in change.retractions]:
            await self._patiently(self.store.delete_reviews, retracted)

    async def _read(self, lines: list[Line]) -> Stored:
        named, partitions = names(lines), {line.position.partition for line in lines}
        of_users: dict[str, ReviewPoint] = {}
        for user in sorted(named.users):
            theirs = await self._patiently(self.store.reviews_of_user, user)
            of_users |= {review.id: review for review in theirs if review.position.partition in partitions}
        items = named.items | {item_point_id(review.item_id) for review in of_users.values()}
        return Stored(
            await self._patiently(self.store.read_items, items),
            of_users | await self._patiently(self.store.read_reviews, named.reviews),
            await self._patiently(self.store.read_retractions, named.reviews | of_users.keys()),
            await self._patiently(self.store.read_forgotten, named.forgotten),
        )

    async def _embed(self, lines: list[Line]) -> Mapping[Position, Vector]:
        """The vectors of the lines' texts; one call, away from the loop, which it would hold up for a second."""
        if not lines:
            return {}
        started = time.perf_counter()
        texts = [line.text.text for line in lines]
        rows: Vectors = await asyncio.get_running_loop().run_in_executor(self._thread, self.encoder.encode, texts)
        self.observer.embedded(len(texts), time.perf_counter() - started)
        if self.encoder.last_truncated:
            self.observer.truncated(self.encoder.last_truncated)
        return {line.position: row for line, row in zip(lines, rows, strict=True)}

    async def _settle(
        self, change: ItemChange, arrived: Mapping[str, ReviewPoint], vectors: Mapping[Position, Vector]
    ) -> ItemPoint | None:
        joining = [*(arrived[id] for id in change.arrivals), *change.rejoining.values()]
        described = vectors[change.description.position] if change.description else None
        found = None
        if change.newest_lost:
            found = await self._patiently(self.store.newest_review, change.item_id, list(change.retractions))
        written: dict[str, list[ReviewPoint]] = {review.user_id: [] for review in change.leaving.values()}
        for review in joining:
            written.setdefault(review.user_id, []).append(review)
        voices = [await self._voice(change, user, new) for user, new in written.items()]
        return settle(change, joining, voices, described, found, self.encoder.dim)

    async def _voice(self, change: ItemChange, user: str, new: list[ReviewPoint]) -> Voice:
        """What counts of the account, before and after. The store has what is `new` already."""
        if change.before is None or not may_count(change.before, user):
            return Voice(user, None, last(new))
        ask = partial(self._patiently, self.store.last_review, change.item_id, user)
        return Voice(
            user, await ask(change.before.position, change.taken_before), await ask(change.position, list(change.retractions))
        )

    # -------------------------------------------------------------------------------------------- writing
    async def _write_evidence(self, changes: Changes, reviews: list[ReviewPoint]) -> None:
        retractions = [retraction for change in changes.items.values() for retraction in change.retractions.values()]
        await self._upsert(RETRACTIONS, self.store.write_retractions, retractions)
        await self._upsert(RETRACTIONS, self.store.write_forgotten, [*changes.forgotten.values()])
        await self._upsert(REVIEWS, self.store.write_reviews, reviews)

    async def _write_items(self, changes: Mapping[str, ItemChange], items: Mapping[str, ItemPoint | None]) -> None:
        changed = [point for item_id, point in items.items() if point is not None and changes[item_id].changed]
        await self._upsert(ITEMS, self.store.write_items, changed)
        for item_id, point in items.items():
            before = changes[item_id].before
            if point is None and before is not None:
                await self._patiently(self.store.delete_item, before.id, changes[item_id].position)

    async def _upsert(self, collection: str, write: Callable[[list[T]], Awaitable[None]], points: list[T]) -> None:
        if points:
            started = time.perf_counter()
            await self._patiently(write, points)
            self.observer.upserted(collection, len(points), time.perf_counter() - started)

    async def _patiently(self, call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Until Qdrant is there. Every call of the store is idempotent, so one that failed half-way is simply made again."""
        waits = back_off()
        while True:
            try:
                return await call(*arguments)
            except VectorStoreUnavailable as problem:
                self.observer.store_failed()
                wait_s = max(next(waits), min(problem.retry_after_s, _LONGEST_REQUESTED_WAIT_S))
                log.warning("%s; trying again in %.1f s", problem, wait_s)
                await self._sleep(wait_s)


def _step_back() -> None:
    """Encoding is most of the work and can wait; lists cannot. On Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not allowed: then all threads stay alike
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def back_off() -> Iterator[float]:
    """Seconds to wait: doubling from `FIRST_WAIT_S` to `LONGEST_WAIT_S`, then staying there."""
    wait_s = FIRST_WAIT_S
    while True:
        yield wait_s
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def decode(record: ConsumerRecord) -> Line:
    """The line in a record. Raises `MalformedLine`."""
    where = Position(record.partition, record.offset)
    try:
        text = _decoder.decode(record.value or b"")
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as problem:
        raise MalformedLine(f"item-texts, partition {where.partition}, offset {where.offset}: {problem}") from problem
    if text.kind not in KINDS:
        raise MalformedLine(f"item-texts, partition {where.partition}, offset {where.offset}: unknown kind {text.kind[:40]!r}")
    return Line(where, text)
