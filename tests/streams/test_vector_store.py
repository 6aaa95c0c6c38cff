"""One suite for the embedded store and, where QDRANT_URL names one, a server; then what only a server has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import QdrantClient

from streams.text_points import (
    Description,
    Forgotten,
    ItemPoint,
    Newest,
    Position,
    Retraction,
    ReviewPoint,
    forgotten_id,
    item_point_id,
    review_id,
)
from streams.vector_store import (
    COLLECTIONS,
    FingerprintMismatch,
    VectorStore,
    VectorStoreError,
    VectorStoreUnavailable,
)

DIM = 8
SERVER = os.environ.get("QDRANT_URL", "")
Opener = Callable[..., VectorStore]


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def review(source: str = "r1", item: str = "i1", user: str = "u1", at: int = 1000, offset: int = 0, **other: Any) -> ReviewPoint:
    fields: dict[str, Any] = {"rating": 4.0, "text": f"text of {source}", "counted": True, "vector": unit(offset)} | other
    return ReviewPoint(item_id=item, source_id=source, user_id=user, timestamp_ms=at, position=Position(0, offset), **fields)


def item(name: str = "i1", texts: int = 3, offset: int = 0, partition: int = 0, **other: Any) -> ItemPoint:
    fields: dict[str, Any] = {"norm": 0.5, "vector": unit(offset)} | other
    return ItemPoint(item_id=name, texts=texts, position=Position(partition, offset), **fields)


def run(coroutine: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await coroutine

    return asyncio.run(main())


@pytest.fixture(params=["embedded", "server", "server-grpc"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store again and again; a server is left as it was found."""
    if request.param == "embedded":
        yield lambda **more: VectorStore(path=str(tmp_path / "qdrant"), **more)
        return
    if not SERVER:
        pytest.skip("QDRANT_URL names no Qdrant server")
    prefix = f"test-{uuid4().hex[:8]}-"
    yield lambda **more: VectorStore(url=SERVER, prefer_grpc=request.param == "server-grpc", prefix=prefix, **more)
    client = QdrantClient(url=SERVER)
    for collection in client.get_collections().collections:
        if collection.name.startswith(prefix):
            client.delete_collection(collection.name)
    client.close()


@asynccontextmanager
async def opened(opener: Opener, fingerprint: str = "test/8", **more: Any) -> AsyncIterator[VectorStore]:
    store = opener(**more)
    try:
        await store.ensure(DIM, fingerprint)
        yield store
    finally:
        await store.close()


# ------------------------------------------------------------------------------------------------ the contract
def test_reviews_come_back_as_they_were_written(opener: Opener) -> None:
    async def main() -> None:
        one = review("r1", user="ada", at=123, offset=7, rating=4.5, text="fine — 文字", counted=True)
        bare = review("r2", rating=None, text="", counted=False, offset=8)
        async with opened(opener) as store:
            await store.write_reviews([one, bare])
        async with opened(opener) as store:  # another process, later
            found = await store.read_reviews([one.id, bare.id, review_id("i1", "unknown")])
            assert set(found) == {one.id, bare.id}
            for wrote in (one, bare):
                assert found[wrote.id].payload() == wrote.payload()
                np.testing.assert_allclose(found[wrote.id].vector, wrote.vector, atol=1e-6)

    run(main())


def test_items_come_back_with_their_sum(opener: Opener) -> None:
    async def main() -> None:
        plain = item("plain", texts=3, norm=0.25, offset=1)
        newest = Newest(5, 2, review_id("rich", "r"), "a line")
        rich = item("rich", texts=2, offset=2, newest=newest, description=Description("d1", "words", unit(9)))
        async with opened(opener) as store:
            await store.write_items([plain, rich])
            found = await store.read_items([plain.id, rich.id, item_point_id("unknown")])
        assert set(found) == {"plain", "rich"}
        np.testing.assert_allclose(found["plain"].total(), unit(1) * 0.75, atol=1e-6)  # 3 texts, mean length 0.25
        assert found["plain"].description is None
        assert found["plain"].newest is None
        assert found["rich"].newest == newest
        assert found["rich"].description is not None
        assert (found["rich"].description.digest, found["rich"].description.text) == ("d1", "words")
        np.testing.assert_allclose(found["rich"].description.vector, unit(9), atol=1e-6)
        assert found["rich"].position == Position(0, 2)

    run(main())


def test_a_description_that_is_gone_leaves_nothing(opener: Opener) -> None:
    async def main() -> None:
        async with opened(opener) as store:
            await store.write_items([item(offset=1, description=Description("d1", "words", unit(9)))])
            await store.write_items([item(offset=2)])
            found = await store.read_items([item_point_id("i1")])
            assert found["i1"].description is None

    run(main())


def test_writing_again_changes_nothing(opener: Opener) -> None:
    async def main() -> None:
        reviews = [review(f"r{i}", offset=i) for i in range(300)]  # more than one request
        async with opened(opener) as store:
            for _ in range(2):
                await store.write_reviews(reviews)
                await store.write_items([item()])
                await store.write_retractions([Retraction("00000000-0000-4000-8000-000000000001", "i1", Position(0, 1))])
                assert await store.counts() == {"reviews": 300, "items": 1, "retractions": 1}

    run(main())


def test_the_same_id_twice_in_one_batch_keeps_the_later(opener: Opener) -> None:
    async def main() -> None:
        async with opened(opener) as store:
            await store.write_reviews([review(text="first"), review(text="second")])
            await store.write_items([item(offset=1, texts=1), item(offset=2, texts=2)])
            assert (await store.read_reviews([review().id]))[review().id].text == "second"
            assert (await store.read_items([item_point_id("i1")]))["i1"].texts == 2

    run(main())


def test_a_late_writer_does_not_replace_a_newer_item(opener: Opener) -> None:
    async def main() -> None:
        key = item_point_id("i1")
        async with opened(opener) as store:
            await store.write_items([item(offset=20, texts=20)])
            await store.write_items([item(offset=15, texts=15), item("i2", offset=15, texts=15)])
            found = await store.read_items([key, item_point_id("i2")])
            assert {name: point.texts for name, point in found.items()} == {"i1": 20, "i2": 15}
            await store.delete_item(key, Position(0, 19))
            assert await store.read_items([key])
            await store.write_items([item(offset=3, partition=1, texts=3)])  # the topic got more partitions: not comparable
            assert (await store.read_items([key]))["i1"].texts == 3
            await store.delete_item(key, Position(1, 3))
            assert not await store.read_items([key])

    run(main())


def test_retractions_are_remembered(opener: Opener) -> None:
    async def main() -> None:
        gone = Retraction(review_id("i1", "r1"), "i1", Position(2, 11))
        async with opened(opener) as store:
            await store.write_retractions([])
            await store.write_retractions([gone])
            assert await store.read_retractions([gone.id, review_id("i1", "r2")]) == {gone.id: gone}

    run(main())


def test_the_newest_review_has_words_and_is_not_excluded(opener: Opener) -> None:
    async def main() -> None:
        a = review("a", at=10, offset=1)
        b = review("b", at=30, offset=2)
        c = review("c", at=30, offset=3)
        bare = review("d", at=50, offset=4, text="", counted=False)
        other = review("e", item="i2", at=60, offset=5)
        async with opened(opener) as store:
            assert await store.newest_review("i1") is None
            await store.write_reviews([c, a, bare, b, other])
            assert await store.newest_review("i1") == Newest(30, 3, c.id, "text of c")
            assert await store.newest_review("i1", [c.id]) == Newest(30, 2, b.id, "text of b")
            assert await store.newest_review("i1", [a.id, b.id, c.id]) is None

    run(main())


def test_the_last_review_of_a_user_is_the_last_that_a_state_has_seen(opener: Opener) -> None:
    async def main() -> None:
        a, b = review("a", at=90, offset=1), review("b", at=10, offset=2)
        bare = review("c", offset=3, text="", counted=False)
        ahead = review("d", at=95, offset=9)
        elsewhere = review("e", item="i2", offset=4)
        others = [review(f"o{n}", user=f"u{n}", offset=n) for n in range(5, 8)]
        async with opened(opener) as store:
            assert await store.last_review("i1", "u1", Position(0, 8)) is None
            await store.write_reviews([ahead, b, a, bare, elsewhere, *others])
            ids = [found and found.id for found in [
                await store.last_review("i1", "u1", Position(0, 8)),
                await store.last_review("i1", "u1", Position(0, 9)),
                await store.last_review("i1", "u1", Position(0, 1)),
                await store.last_review("i1", "u1", Position(0, 0)),
                await store.last_review("i1", "u1", Position(0, 8), [b.id]),
                await store.last_review("i1", "u1", Position(0, 8), [a.id, b.id]),
                await store.last_review("i1", "u1", Position(1, 0)),  # of another partition: from before there were more
            ]]  # fmt: skip
            assert ids == [b.id, ahead.id, a.id, None, a.id, None, ahead.id]
            found = await store.last_review("i1", "u1", Position(0, 8))
            assert found is not None
            np.testing.assert_allclose(found.vector, b.vector, atol=1e-6)

    run(main())


def test_all_reviews_of_a_user_are_found(opener: Opener) -> None:
    async def main() -> None:
        theirs = [review(f"a{i}", item=f"i{i}", user="ada", offset=i) for i in range(300)]  # more than one page
        others = [review(f"b{i}", user="bob", offset=i) for i in range(3)]
        async with opened(opener) as store:
            await store.write_reviews(theirs + others)
            assert {r.id for r in await store.reviews_of_user("ada")} == {r.id for r in theirs}
            found = {r.id: r for r in await store.reviews_of_user("ada")}
            np.testing.assert_allclose(found[theirs[7].id].vector, theirs[7].vector, atol=1e-6)
            await store.delete_reviews([others[0].id, theirs[0].id, "00000000-0000-0000-0000-000000000000"])  # one is not there
            assert await store.counts() == {"reviews": 301, "items": 0, "retractions": 0}

    run(main())


def test_who_is_forgotten_is_remembered_without_a_name(opener: Opener) -> None:
    async def main() -> None:
        gone = [Forgotten(forgotten_id(p, "ada"), 1000 + p) for p in range(3)]
        async with opened(opener) as store:
            await store.write_forgotten(gone)
            await store.write_forgotten([Forgotten(gone[0].id, 2000)])
            found = await store.read_forgotten([*(f.id for f in gone), forgotten_id(0, "bob")])
            assert {f.id: f.until_ms for f in found.values()} == {gone[0].id: 2000, gone[1].id: 1001, gone[2].id: 1002}
            assert await store.counts() == {"reviews": 0, "items": 0, "retractions": 3}

    run(main())


def test_another_encoder_is_refused_with_instructions(opener: Opener) -> None:
    async def main() -> None:
        async with opened(opener) as store:
            await store.ensure(DIM, "test/8")  # the same again is fine
        with pytest.raises(FingerprintMismatch, match=r"'test/8'.*'other/8'.*FRESHET_EMBEDDING_MODEL.*FRESHET_QDRANT_PREFIX"):
            async with opened(opener, fingerprint="other/8"):
                pass

    run(main())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_never_sent(opener: Opener, bad: float) -> None:
    async def main() -> None:
        vector = unit(0)
        vector[3] = bad
        async with opened(opener) as store:
            with pytest.raises(ValueError, match="not finite"):
                await store.write_reviews([review(), review("r2", vector=vector)])
            with pytest.raises(ValueError, match="not finite"):
                await store.write_items([item(vector=vector)])
            with pytest.raises(ValueError, match="not finite"):
                await store.write_items([item(description=Description("d", "t", vector))])
            assert set((await store.counts()).values()) == {0}

    run(main())


def test_many_tasks_at_once(opener: Opener) -> None:
    """The embedded engine is not thread-safe; the store's one thread makes any use safe."""

    async def main() -> None:
        async with opened(opener) as store:
            await asyncio.gather(*(store.write_reviews([review(f"{t}-{i}", offset=i) for i in range(20)]) for t in range(20)))
            assert (await store.counts())["reviews"] == 400

    run(main())


def test_a_closed_store_says_so(opener: Opener) -> None:
    async def main() -> None:
        store = opener()
        await store.ensure(DIM, "test/8")
        await store.close()
        await store.close()
        with pytest.raises(VectorStoreError, match="closed"):
            await store.counts()

    run(main())


# ------------------------------------------------------------------------------------------------ a server alone
# nearest items are only asked of a server, of which there is no package to install; the embedded store has tests of its own
@pytest.mark.skipif(not SERVER, reason="QDRANT_URL names no Qdrant server")
def test_near_items_by_cosine() -> None:
    prefix = f"test-{uuid4().hex[:8]}-"

    async def main() -> None:
        store = VectorStore(url=SERVER, prefix=prefix)
        with pytest.raises(VectorStoreUnavailable, match="not exist yet"):
            await store.near([unit(0)], 2, 5)
        await store.ensure(DIM, "test/8")
        points = [item(f"i{i}", offset=i) for i in range(20)]
        await store.write_items(points)
        answers = await store.near([unit(0), unit(5)], 3, 5)
        for taste, answer in zip((unit(0), unit(5)), answers, strict=True):
            best = sorted(((float(p.vector @ taste), p.item_id) for p in points), reverse=True)[:3]
            assert [name for name, _ in answer] == [name for _, name in best]
            np.testing.assert_allclose([score for _, score in answer], [score for score, _ in best], atol=1e-5)
        assert await store.near([], 3, 5) == []
        await store.close()

    try:
        run(main())
    finally:
        client = QdrantClient(url=SERVER)
        for name in COLLECTIONS:
            client.delete_collection(prefix + name)
        client.close()
