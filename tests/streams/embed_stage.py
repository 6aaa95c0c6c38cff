"""A stage for the embedder: a log, a store, what is published, and the naive twin that says what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiokafka import ConsumerRecord

from models.events import ItemText, ItemVector, ReviewVector, encode
from streams.embed import Embedder, Published
from streams.text_authors import tag
from streams.text_encoder import HashingEncoder
from streams.text_points import forgotten_id, item_point_id, review_id
from streams.text_words import Withdrawn
from streams.vector_store import VectorStore

DIM = 16
ENCODER = HashingEncoder(DIM)
WORDS = ["warm", "tone", "leaks", "sturdy", "strings", "cheap", "lovely", ""]


class Log:
    """A topic `item-texts` of two partitions in the order of its production."""

    def __init__(self) -> None:
        self.records: list[ConsumerRecord] = []

    def add(self, kind: str, source: str, item: str = "i1", **fields: Any) -> None:
        text = ItemText(kind=kind, source_id=source, item_id=item, **fields)
        partition = sum(item.encode()) % 2
        offset = sum(r.partition == partition for r in self.records)
        self.records.append(record(partition, offset, encode(text), item))

    def review(self, source: str, text: str, item: str = "i1", user: str = "u1", at: int | None = None, **fields: Any) -> None:
        at = len(self.records) if at is None else at
        self.add("review", source, item, text=text, user_id=user, rating=4.0, timestamp_ms=at, **fields)

    def erase(self, user: str, until: int, partitions: tuple[int, ...] = (0, 1)) -> None:
        """Ingest writes it into every partition; they need not be read in step."""
        for partition in partitions:
            line = ItemText(kind="erasure", source_id="q", item_id="", user_id=user, timestamp_ms=until)
            offset = sum(r.partition == partition for r in self.records)
            self.records.append(record(partition, offset, encode(line), None))


def record(partition: int, offset: int, value: bytes | None, key: str | None = "i1") -> ConsumerRecord:
    raw = key.encode() if key is not None else None
    return ConsumerRecord("item-texts", partition, offset, 0, 0, raw, value, None, len(raw or b""), len(value or b""), ())


@dataclass
class Recorder:
    """An observer that remembers."""

    embedded_texts: int = 0
    truncated_texts: int = 0
    upserts: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    duplicates: int = 0

    def embedded(self, n: int, seconds: float) -> None:
        assert seconds >= 0
        self.embedded_texts += n

    def truncated(self, n: int) -> None:
        self.truncated_texts += n

    def upserted(self, collection: str, n: int, seconds: float) -> None:
        assert seconds >= 0
        self.upserts[collection] = self.upserts.get(collection, 0) + n

    def store_failed(self) -> None:
        self.failures += 1

    def duplicate(self, n: int) -> None:
        self.duplicates += n


class Stage:
    """An embedder on a store that stays while embedders come and go, and the compacted topic it publishes to."""

    def __init__(self, store: VectorStore | None = None, encoder: Any = ENCODER) -> None:
        self.store = store or VectorStore(path=":memory:")
        self.encoder, self.seen = encoder, Recorder()
        self.published: dict[str, ItemVector] = {}
        self.words: dict[str, ReviewVector] = {}
        self.batches: list[list[str]] = []
        self.slept: list[float] = []
        self.on_publish: Callable[[], None] = lambda: None

    async def publish(self, vectors: list[Published]) -> None:
        self.on_publish()
        items = [v for v in vectors if isinstance(v, ItemVector)]
        self.batches.append([v.item_id for v in items])
        self.published |= {v.item_id: v for v in items}
        for vector in vectors:
            if isinstance(vector, ReviewVector):
                self.words[vector.event_id] = vector
            elif isinstance(vector, Withdrawn):
                self.words.pop(vector.event_id, None)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def embedder(self) -> Embedder:
        embedder = Embedder(self.encoder, self.store, self.publish, self.seen, sleep=self.sleep)
        await embedder.start()
        return embedder

    async def feed(self, *batches: list[ConsumerRecord]) -> None:
        embedder = await self.embedder()
        try:
            for batch in batches:
                await embedder.handle(batch)
        finally:
            await embedder.close()


def on_stage(play: Callable[[Stage], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        stage = Stage(**more)
        try:
            await play(stage)
        finally:
            await stage.store.close()

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ the naive twin
@dataclass
class Twin:
    """What one pass over the log must leave behind, recomputed from the whole log by the rule of the contract."""

    reviews: dict[tuple[str, str], tuple[ConsumerRecord, ItemText]] = field(default_factory=dict)
    retracted: set[tuple[str, str]] = field(default_factory=set)
    descriptions: dict[str, str] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)
    forgotten: dict[tuple[int, str], int] = field(default_factory=dict)

    @classmethod
    def of(cls, log: Log) -> Twin:
        twin = cls()
        for line in log.records:
            text = _decode(line)
            if text.kind == "erasure":
                twin._erase(line, text)
                continue
            twin.items.add(text.item_id)
            if text.retracts and not (text.kind == "review" and text.retracts == text.source_id):
                twin.retracted.add((text.item_id, text.retracts))
            if text.kind == "review" and text.timestamp_ms <= twin.forgotten.get((line.partition, text.user_id or ""), -1):
                continue
            if text.kind == "review":
                twin.reviews.setdefault((text.item_id, text.source_id), (line, text))
            elif text.kind == "description":
                twin.descriptions[text.item_id] = text.text.strip()
            elif not text.retracts:
                twin.descriptions.pop(text.item_id, None)
        for key in twin.retracted:
            twin.reviews.pop(key, None)
        return twin

    def _erase(self, line: ConsumerRecord, text: ItemText) -> None:
        """What they said in this partition so far goes and stays away; what comes late stays out."""
        whom = line.partition, text.user_id or ""
        self.forgotten[whom] = max(text.timestamp_ms, self.forgotten.get(whom, -1))
        theirs = {key for key, (there, said) in self.reviews.items() if (there.partition, said.user_id) == whom}
        self.retracted |= theirs

    def mean(self, item: str) -> tuple[int, np.ndarray]:
        texts = [*self.voices(item).values()]
        texts += [self.descriptions[item]] if self.descriptions.get(item) else []
        return len(texts), ENCODER.encode(texts).astype(float).mean(axis=0) if texts else np.zeros(DIM)

    def voices(self, item: str) -> dict[str, str]:
        """Of each account the last text that says something."""
        written = sorted((r.offset, t.user_id, t.text) for (i, _), (r, t) in self.reviews.items() if i == item and t.text.strip())
        return {user or "": text for _, user, text in written}

    def snippet(self, item: str) -> str:
        said = [(t.timestamp_ms, r.offset, t.text) for (i, _), (r, t) in self.reviews.items() if i == item and t.text.strip()]
        return " ".join(max(said)[2].split()) if said else ""


def _decode(line: ConsumerRecord) -> ItemText:
    return msgspec.json.decode(line.value, type=ItemText)


async def check(stage: Stage, log: Log) -> None:
    """The store and the published vectors are what the log says."""
    twin = Twin.of(log)
    keys = {review_id(*key): (line, text) for key, (line, text) in twin.reviews.items()}
    every = {review_id(t.item_id, t.source_id) for t in map(_decode, log.records)} | {review_id(*k) for k in twin.retracted}
    remembered = await stage.store.read_forgotten([forgotten_id(*whom) for whom in twin.forgotten])
    assert {f.id: f.until_ms for f in remembered.values()} == {forgotten_id(*w): until for w, until in twin.forgotten.items()}
    reviews = await stage.store.read_reviews(every)
    assert set(reviews) == set(keys)
    for id, (line, text) in keys.items():
        assert (reviews[id].item_id, reviews[id].source_id, reviews[id].user_id) == (text.item_id, text.source_id, text.user_id)
        assert reviews[id].position == (line.partition, line.offset)
        np.testing.assert_allclose(reviews[id].vector, ENCODER.encode([text.text])[0], atol=1e-5)
    assert set(await stage.store.read_retractions(every)) == {review_id(*key) for key in twin.retracted}
    items = await stage.store.read_items([item_point_id(item) for item in twin.items])
    said = {item for item in twin.items if twin.mean(item)[0]}
    assert set(items) == said
    counts = await stage.store.counts()
    assert counts == {"reviews": len(keys), "items": len(said), "retractions": len(twin.retracted) + len(twin.forgotten)}
    with_words = {text.source_id: text for _, text in keys.values() if text.text.strip()}
    assert set(stage.words) == set(with_words)
    for event_id, words in stage.words.items():
        assert (words.user_id, words.model) == (with_words[event_id].user_id, ENCODER.fingerprint)
        np.testing.assert_allclose(np.frombuffer(words.vector, "<f4"), ENCODER.encode([with_words[event_id].text])[0], atol=1e-5)
    assert set(stage.published) == twin.items
    for item, published in stage.published.items():
        texts, mean = twin.mean(item)
        length = np.linalg.norm(mean)
        assert published.model == ENCODER.fingerprint
        if item in said:
            assert items[item].texts == texts
            tags = items[item].tags
            assert tags is None or tags == tuple(sorted(tag(user) for user in twin.voices(item)))
            np.testing.assert_allclose(items[item].total(), mean * texts, atol=1e-5)
        if length < 1e-5:
            assert (published.texts, published.vector) == (0, b"")
        else:
            assert (published.texts, published.snippet) == (texts, twin.snippet(item))
            np.testing.assert_allclose(np.frombuffer(published.vector, "<f4"), mean / length, atol=1e-5)
