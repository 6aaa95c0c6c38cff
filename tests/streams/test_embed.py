"""The embedder on a real embedded Qdrant: one fact each, and what it does in trouble."""

from __future__ import annotations

import gc
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.events import ItemVector
from streams.embed import MalformedLine, back_off
from streams.text_encoder import HashingEncoder, SentenceTransformerEncoder, Vectors
from streams.text_fold import StoreAheadOfLog
from streams.text_points import item_point_id
from streams.vector_store import LocalStoreFull, VectorStore, VectorStoreUnavailable
from tests.streams.embed_stage import (
    DIM,
    ENCODER,
    WORDS,
    Log,
    Recorder,
    Stage,
    check,
    on_stage,
    record,
)


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
        log.review(source, text, user=source)

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


def test_no_garbage_is_looked_for_while_the_model_is_loaded() -> None:
    looked_for: list[bool] = []

    class Watched(HashingEncoder):
        def load(self) -> None:
            looked_for.append(gc.isenabled())
            super().load()

    log = Log()
    log.review("r0", "text")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        assert looked_for == [False]
        assert gc.isenabled()

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
