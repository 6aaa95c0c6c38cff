"""The embedder on a real embedded Qdrant: whatever happens on the way, the state is that of one pass over the log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import ConsumerRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.events import ItemText, ItemVector, ReviewVector, encode
from streams.embed import Embedder, MalformedLine, Published, back_off
from streams.text_encoder import HashingEncoder, SentenceTransformerEncoder, Vectors
from streams.text_fold import StoreAheadOfLog
from streams.text_points import forgotten_id, item_point_id, review_id
from streams.text_words import Withdrawn
from streams.vector_store import LocalStoreFull, VectorStore, VectorStoreUnavailable

DIM = 16
ENCODER = HashingEncoder(DIM)


# ------------------------------------------------------------------------------------------------ the stage
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
        texts = [t.text for (i, _), (_, t) in self.reviews.items() if i == item and t.text.strip()]
        texts += [self.descriptions[item]] if self.descriptions.get(item) else []
        return len(texts), ENCODER.encode(texts).astype(float).mean(axis=0) if texts else np.zeros(DIM)

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
            np.testing.assert_allclose(items[item].total(), mean * texts, atol=1e-5)
        if length < 1e-5:
            assert (published.texts, published.vector) == (0, b"")
        else:
            assert (published.texts, published.snippet) == (texts, twin.snippet(item))
            np.testing.assert_allclose(np.frombuffer(published.vector, "<f4"), mean / length, atol=1e-5)


# ------------------------------------------------------------------------------------------------ any log, any accident
WORDS = ["warm", "tone", "leaks", "sturdy", "strings", "cheap", "lovely", ""]
ops = st.tuples(
    st.sampled_from(["review", "review", "review", "copy", "edit", "remove", "remove early", "describe", "undescribe", "erase"]),
    st.integers(0, 2),
    st.integers(0, 11),
)


def make_log(script: list[tuple[str, int, int]]) -> Log:
    log = Log()
    for n, (op, which, pick) in enumerate(script):
        item, text = f"item{which}", f"{WORDS[pick % 8]} {WORDS[(pick + which) % 8]}"
        earlier = [t for t in map(_decode, log.records) if t.kind == "review" and t.item_id == item]
        chosen = earlier[pick % len(earlier)] if earlier else None
        match op:
            case "copy" if chosen:
                user = chosen.user_id or ""
                log.review(chosen.source_id, chosen.text, item, user, at=chosen.timestamp_ms, retracts=chosen.retracts)
            case "edit" if chosen:
                log.review(f"r{n}", text, item, chosen.user_id or "", at=pick, retracts=chosen.source_id)
            case "erase":
                log.erase(f"u{which}", pick)
            case "remove" if chosen:
                log.add("removal", f"x{n}", item, retracts=chosen.source_id)
            case "remove early":
                log.add("removal", f"x{n}", item, retracts=f"r{n + 1 + pick % 3}")
            case "describe":
                log.add("description", item, item, text=text)
            case "undescribe":
                log.add("removal", item, item)
            case _:
                log.review(f"r{n}", text, item, f"u{(n + pick) % 3}", at=pick)
    return log


class CrashError(Exception):
    """The process dies here."""


class MortalStore(VectorStore):
    """Dies before or after its n-th write, counted over all writes of all calls."""

    deaths: frozenset[int] = frozenset()
    writes = 0

    async def _run(self, what: str, *arguments: Any, **more: Any) -> Any:
        if not what.startswith(("writing", "deleting")):
            return await super()._run(what, *arguments, **more)
        self.writes += 1
        if 2 * self.writes in self.deaths:
            raise CrashError
        answer = await super()._run(what, *arguments, **more)
        if 2 * self.writes + 1 in self.deaths:
            raise CrashError
        return answer


async def live(stage: Stage, log: Log, size: Callable[[int, int], int], rewind: Callable[[int], int]) -> int:
    """Feed the log in batches of `size(step, deaths)`, going back by `rewind(deaths)` after a death; returns the deaths."""
    start = deaths = step = 0
    while start < len(log.records):
        batch = log.records[start : start + size(step, deaths)]
        step += 1
        try:
            await stage.feed(batch)
            start += len(batch)
        except CrashError:  # the next process may begin earlier: acknowledgements are committed now and then
            start = max(0, start - rewind(deaths))
            deaths += 1
    return deaths


def everything() -> Log:
    """One item with all that can happen to it, close together."""
    log = Log()
    log.review("a", "warm tone", at=5)
    log.add("removal", "x1", retracts="a")  # nothing is said any more: the item's point goes
    log.review("b", "leaks", at=4)
    log.add("description", "i1", text="a guitar")
    log.review("c", "cheap strings", at=6, retracts="b")
    log.add("removal", "x2", retracts="b")  # again
    log.review("b", "leaks", at=4)  # a copy, after its end
    log.add("removal", "x3", retracts="e")  # before its beginning
    log.review("d", "lovely", at=3)
    log.review("e", "sturdy", at=9)
    log.review("f", "warm strings", user="ada", at=12)
    log.add("description", "i1", text="a better guitar")
    log.review("g", "leaks", user="ada", at=30)
    log.erase("ada", 20, partitions=(0,))  # both go, whatever their time
    log.review("h", "cheap", user="ada", at=15)  # late: stays out
    log.review("f", "warm strings", user="ada", at=12)  # a copy: stays away
    log.review("k", "lovely", user="ada", at=25)  # they came back
    log.add("removal", "x4", retracts="c")
    return log


@pytest.mark.parametrize("size_before", [1, 2, 3, 12])
@pytest.mark.parametrize("size_after", [1, 2, 3, 12])
@pytest.mark.parametrize("rewind", [0, 3])
def test_death_at_every_write(size_before: int, size_after: int, rewind: int) -> None:
    """Before and after every single write, with other batches in the next life."""
    log = everything()

    async def play() -> None:
        moment, died = 2, True
        while died:
            stage = Stage(MortalStore(path=":memory:"))
            stage.store.deaths = frozenset([moment])  # type: ignore[attr-defined]
            died = bool(await live(stage, log, lambda _, deaths: size_after if deaths else size_before, lambda _: rewind))
            await check(stage, log)
            await stage.store.close()
            moment += 1
        assert moment > 8  # several writes were there to die at

    asyncio.run(play())


def test_two_deaths_around_a_repeated_removal() -> None:
    """The second copy of a removal must not hide from the next life what the first one has already taken out."""
    log = Log()
    log.review("a", "warm tone")
    log.review("b", "sturdy")
    log.add("removal", "x1", retracts="a")
    log.add("removal", "x2", retracts="a")

    async def play() -> None:
        for moments in combinations(range(2, 20), 2):
            stage = Stage(MortalStore(path=":memory:"))
            stage.store.deaths = frozenset(moments)  # type: ignore[attr-defined]
            await live(stage, log, lambda _, deaths: 1 if deaths else 2, lambda _: 0)
            await check(stage, log)
            await stage.store.close()

    asyncio.run(play())


def test_an_early_line_again_publishes_what_holds_now() -> None:
    log = Log()
    log.add("description", "i1", text="a guitar")
    log.review("a", "warm tone")
    log.add("description", "i1", text="a better guitar")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        await stage.feed(log.records[:1])
        await check(stage, log)
        await stage.feed(log.records[:2])
        await check(stage, log)

    on_stage(play)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(ops, min_size=1, max_size=30),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=10),
    deaths=st.frozensets(st.integers(2, 60), max_size=6),
    unpublished=st.frozensets(st.integers(1, 12), max_size=3),
    rewinds=st.lists(st.integers(0, 30), min_size=1, max_size=6),
)
def test_state_is_that_of_one_pass(
    script: list[tuple[str, int, int]], sizes: list[int], deaths: frozenset[int], unpublished: frozenset[int], rewinds: list[int]
) -> None:
    """Copies, edits, removals before and after, batches of any size, deaths at any write, suffixes replayed: nothing shows."""
    log = make_log(script)

    async def play(stage: Stage) -> None:
        attempts = 0

        def die_sometimes() -> None:
            nonlocal attempts
            attempts += 1
            if attempts in unpublished:
                raise CrashError

        stage.store.deaths, stage.on_publish = deaths, die_sometimes  # type: ignore[attr-defined]
        await live(stage, log, lambda step, _: sizes[step % len(sizes)], lambda deaths: rewinds[deaths % len(rewinds)])
        stage.store.deaths, stage.on_publish = frozenset(), lambda: None  # type: ignore[attr-defined]
        await check(stage, log)
        await stage.feed(log.records)  # a rebuild from the beginning
        await check(stage, log)

    on_stage(play, store=MortalStore(path=":memory:"))


def test_a_day_of_one_item_in_batches_of_64(tmp_path: Path) -> None:
    """More lines than one step takes, on disk, opened again in the middle."""
    log = Log()
    for n in range(150):
        log.review(f"r{n}", f"word{n} word{n % 7}")
        if n % 5 == 4:
            log.add("removal", f"x{n}", retracts=f"r{n - 2}")

    async def main() -> None:
        first = Stage(VectorStore(path=str(tmp_path)))
        await first.feed(log.records[:100])
        await first.store.close()
        second = Stage(VectorStore(path=str(tmp_path)))
        second.words = first.words  # topics outlive whoever writes to them
        await second.feed(log.records[80:])
        await check(second, log)
        await second.store.close()

    asyncio.run(main())


# ------------------------------------------------------------------------------------------------ one fact each
def test_a_review_becomes_evidence_and_part_of_the_mean() -> None:
    log = Log()
    log.review("r1", "a warm tone", user="ada", at=5)
    log.review("r2", "stays in tune\n for  weeks", user="bob", at=9)

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        mean = ENCODER.encode(["a warm tone", "stays in tune for weeks"]).mean(axis=0)
        published = stage.published["i1"]
        np.testing.assert_allclose(np.frombuffer(published.vector, "<f4"), mean / np.linalg.norm(mean), atol=1e-6)
        assert (published.texts, published.snippet) == (2, "stays in tune for weeks")
        ada = (await stage.store.reviews_of_user("ada"))[0]
        assert (ada.text, ada.rating, ada.timestamp_ms, ada.source_id) == ("a warm tone", 4.0, 5, "r1")
        assert stage.seen == Recorder(embedded_texts=2, upserts={"reviews": 2, "items": 1})

    on_stage(play)


def test_what_is_known_is_not_embedded_again_but_published_again() -> None:
    log = Log()
    log.review("r1", "a warm tone")
    log.review("r1", "a warm tone")
    log.add("description", "i1", text="a guitar")
    log.add("description", "i1", text="a guitar")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        assert (stage.seen.embedded_texts, stage.seen.duplicates) == (2, 2)
        before = dict(stage.published)
        stage.published.clear()
        await stage.feed(log.records)
        assert (stage.seen.embedded_texts, stage.seen.duplicates) == (2, 6)
        assert stage.published == before

    on_stage(play)


def test_when_nothing_is_said_any_more_the_item_is_gone() -> None:
    log = Log()
    log.review("r1", "a warm tone")
    log.add("description", "i1", text="a guitar")
    log.add("removal", "x1", retracts="r1")
    log.add("removal", "i1")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records[:2])
        assert stage.published["i1"].texts == 2
        await stage.feed(log.records[2:3])
        guitar = ENCODER.encode(["a guitar"])[0]
        np.testing.assert_allclose(np.frombuffer(stage.published["i1"].vector, "<f4"), guitar, atol=1e-5)
        assert stage.published["i1"].snippet == ""
        await stage.feed(log.records[3:])
        assert stage.published["i1"] == ItemVector(item_id="i1", vector=b"", texts=0, model=ENCODER.fingerprint)
        assert await stage.store.counts() == {"reviews": 0, "items": 0, "retractions": 1}

    on_stage(play)


def test_a_rating_without_words_is_evidence_but_not_in_the_mean() -> None:
    log = Log()
    log.review("r1", "a warm tone", at=1)
    log.review("r2", " ", at=2)

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        assert (await stage.store.counts())["reviews"] == 2
        assert (stage.published["i1"].texts, stage.published["i1"].snippet) == (1, "a warm tone")
        await check(stage, log)

    on_stage(play)


def test_two_reviews_that_cancel_each_other_have_no_direction() -> None:
    class Opposites(HashingEncoder):
        def encode(self, texts: list[str]) -> Vectors:
            return np.array([[1.0 if t == "yes" else -1.0] + [0.0] * 15 for t in texts], np.float32)

    log = Log()
    for source, text in (("r1", "yes"), ("r2", "no"), ("r3", "yes")):
        log.review(source, text)

    async def play(stage: Stage) -> None:
        await stage.feed(log.records[:2])
        assert (stage.published["i1"].texts, stage.published["i1"].vector) == (0, b"")
        await stage.feed(log.records[2:])
        assert stage.published["i1"].texts == 3
        assert np.frombuffer(stage.published["i1"].vector, "<f4")[0] == pytest.approx(1.0)
        total = (await stage.store.read_items([item_point_id("i1")]))["i1"].total()
        np.testing.assert_allclose(total, [1.0] + [0.0] * 15, atol=1e-6)

    on_stage(play, encoder=Opposites(DIM))


def test_forgetting_a_person_leaves_what_a_log_without_them_would() -> None:
    """In the means, the snippets and the evidence; what stays are hashes that keep them away."""
    log, clean = Log(), Log()
    for n in range(12):
        user = "ada" if n % 3 == 0 else "bob"
        log.review(f"r{n}", f"{WORDS[n % 7]} {WORDS[n % 5]}", f"item{n % 2}", user, at=n)
        if user == "bob":
            clean.review(f"r{n}", f"{WORDS[n % 7]} {WORDS[n % 5]}", f"item{n % 2}", user, at=n)
    log.review("only", "nobody else spoke of this", "item7", "ada", at=12)

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        assert stage.published["item7"].texts == 1
        log.erase("ada", 100)
        await stage.feed(log.records[-2:])
        await check(stage, log)
        assert await stage.store.reviews_of_user("ada") == []
        assert stage.published["item7"] == ItemVector(item_id="item7", vector=b"", texts=0, model=ENCODER.fingerprint)
        other = Stage()
        await other.feed(clean.records)
        for item, published in other.published.items():
            ours = stage.published[item]
            assert (ours.texts, ours.snippet) == (published.texts, published.snippet)
            np.testing.assert_allclose(np.frombuffer(ours.vector, "<f4"), np.frombuffer(published.vector, "<f4"), atol=1e-5)
        await other.store.close()

    on_stage(play)


def test_encoding_leaves_the_loop_alone_and_takes_64_at_once() -> None:
    threads: set[str] = set()
    calls: list[int] = []

    class Watched(HashingEncoder):
        def encode(self, texts: list[str]) -> Vectors:
            threads.add(threading.current_thread().name)
            calls.append(len(texts))
            self.last_truncated = 2
            return super().encode(texts)

    log = Log()
    for n in range(130):
        log.review(f"r{n}", f"text {n}")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        assert calls == [64, 64, 2]
        assert threads == {"encoder_0"}
        assert stage.seen.truncated_texts == 6

    on_stage(play, encoder=Watched(DIM))


# ------------------------------------------------------------------------------------------------ trouble
class AbsentStore(VectorStore):
    """Away for the next `absent` calls."""

    absent = 0
    retry_after_s = 0.0

    async def _run(self, what: str, *arguments: Any, **more: Any) -> Any:
        if self.absent:
            self.absent -= 1
            raise VectorStoreUnavailable(f"{what}: away", self.retry_after_s)
        return await super()._run(what, *arguments, **more)


def test_while_qdrant_is_away_the_batch_waits() -> None:
    log = Log()
    log.review("r1", "a warm tone")

    async def play(stage: Stage) -> None:
        embedder = await stage.embedder()
        stage.store.absent = 9  # type: ignore[attr-defined]
        await embedder.handle(log.records)
        assert stage.slept == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
        assert stage.seen.failures == 9
        stage.store.absent, stage.store.retry_after_s = 1, 30.0  # type: ignore[attr-defined]
        await embedder.handle(log.records)
        assert stage.slept[9:] == [30.0]
        await embedder.close()
        await check(stage, log)

    on_stage(play, store=AbsentStore(path=":memory:"))


def test_the_start_waits_for_qdrant_too() -> None:
    async def play(stage: Stage) -> None:
        stage.store.absent = 2  # type: ignore[attr-defined]
        await (await stage.embedder()).close()
        assert stage.slept == [0.2, 0.4]

    on_stage(play, store=AbsentStore(path=":memory:"))


def test_back_off_doubles_to_ten_seconds() -> None:
    assert list(islice(back_off(), 8)) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


@pytest.mark.parametrize("value", [None, b"", b"{", b'{"kind":1}', b'{"kind":"review"}', b"\xff", b"[]"])
def test_a_line_that_cannot_be_read_is_never_acknowledged(value: bytes | None) -> None:
    async def play(stage: Stage) -> None:
        with pytest.raises(MalformedLine, match="partition 1, offset 7"):
            await stage.feed([record(1, 7, value)])
        assert stage.published == {}

    on_stage(play)


def test_an_unknown_kind_is_never_acknowledged() -> None:
    log = Log()
    log.add("opinion", "r1", text="words")

    async def play(stage: Stage) -> None:
        with pytest.raises(MalformedLine, match="unknown kind 'opinion'"):
            await stage.feed(log.records)

    on_stage(play)


def test_a_store_filled_from_another_log_is_refused() -> None:
    old, new = Log(), Log()
    for n in range(5):
        old.review(f"old{n}", "words")
    new.review("new0", "other words")

    async def play(stage: Stage) -> None:
        await stage.feed(old.records)
        with pytest.raises(StoreAheadOfLog, match="FRESHET_QDRANT_PREFIX"):
            await stage.feed(new.records)

    on_stage(play)


def test_a_full_embedded_store_acknowledges_nothing() -> None:
    log = Log()
    for n in range(5):
        log.review(f"r{n}", "words")

    async def play(stage: Stage) -> None:
        with pytest.raises(LocalStoreFull):
            await stage.feed(log.records)
        assert stage.published == {}

    on_stage(play, store=VectorStore(path=":memory:", max_local_points=3))


# ------------------------------------------------------------------------------------------------ with the real model
def test_reviews_through_the_bundled_model(tmp_path: Path) -> None:
    log = Log()
    log.review("r1", "Wonderful acoustic guitar, warm tone, easy to play.", "guitar")
    log.review("r2", "The strings of this guitar hold their tuning.", "guitar")
    log.review("r3", "My ukulele sounds bright and the strings feel great.", "ukulele")
    log.review("r4", "This blender leaks and cannot crush ice.", "blender")
    log.review("r5", "too long " * 300, "blender")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        guitar, ukulele, blender = (
            np.frombuffer(stage.published[item].vector, "<f4") for item in ("guitar", "ukulele", "blender")
        )
        assert guitar.shape == (384,)
        assert guitar @ ukulele > guitar @ blender + 0.2
        assert stage.seen.truncated_texts == 1
        assert stage.published["guitar"].model.startswith("sentence-transformers/")

    on_stage(play, store=VectorStore(path=str(tmp_path)), encoder=SentenceTransformerEncoder())
