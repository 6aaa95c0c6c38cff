"""What only the embedded store has: a bound, a directory that one process holds; and the small parts of points."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from streams.text_points import (
    item_point_id,
    review_id,
    shorten,
)
from streams.vector_store import (
    LocalStoreFull,
    LocalStoreLocked,
    VectorStore,
    VectorStoreError,
)
from tests.streams.test_vector_store import DIM, item, opened, review, run, unit


def test_an_embedded_store_is_not_asked_at_list_time() -> None:
    async def main() -> None:
        async with opened(lambda **more: VectorStore(path=":memory:", **more)) as store:
            with pytest.raises(VectorStoreError, match="too slow"):
                await store.near([unit(0)], 3, 1)

    run(main())


def test_an_embedded_store_refuses_to_outgrow_its_bound() -> None:
    async def main() -> None:
        async with opened(lambda **more: VectorStore(path=":memory:", **more), max_local_points=5) as store:
            five = [review(f"r{i}", offset=i) for i in range(4)]
            await store.write_reviews(five)
            await store.write_items([item()])
            await store.write_reviews(five)  # nothing new: fine
            with pytest.raises(LocalStoreFull, match="FRESHET_QDRANT_URL"):
                await store.write_reviews([five[0], review("new", offset=9)])
            assert await store.counts() == {"reviews": 4, "items": 1, "retractions": 0}
            await store.delete_reviews([five[0].id])
            await store.write_reviews([review("new", offset=9)])

    run(main())


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    code = f"""
import asyncio
from streams.vector_store import VectorStore
asyncio.run(VectorStore(path={str(tmp_path)!r}).ensure(8, "test/8"))
"""

    async def main() -> None:
        async with opened(lambda **more: VectorStore(path=str(tmp_path), **more)):
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False
            )
            assert "LocalStoreLocked" in done.stderr
            assert "FRESHET_QDRANT_URL" in done.stderr
            with pytest.raises(LocalStoreLocked):
                await VectorStore(path=str(tmp_path)).ensure(DIM, "test/8")

    run(main())


def test_closing_without_a_loop_frees_the_directory(tmp_path: Path) -> None:
    for _ in range(2):
        store = VectorStore(path=str(tmp_path))
        run(store.ensure(DIM, "test/8"))
        store.close_now()
        store.close_now()


@pytest.mark.parametrize("wrong", [{}, {"path": "a", "url": "http://b"}, {"url": "b:6333"}, {"url": "ftp://b"}])
def test_a_store_needs_one_place(wrong: dict[str, str]) -> None:
    with pytest.raises(VectorStoreError):
        VectorStore(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ small parts
@pytest.mark.parametrize(
    ("text", "expected"),
    [("short", "short"), ("  a\n b\t c ", "a b c"), ("one two three", "one two…"), ("unbreakable-word", "unbreakab…"), ("", "")],
)
def test_shorten(text: str, expected: str) -> None:
    assert shorten(text, 10) == expected


def test_ids_are_the_same_for_ever() -> None:
    """Written into stores that live longer than the code."""
    assert review_id("i", "r") == "3fb845c4-8e1e-58b7-b32c-011eda318746"
    assert item_point_id("i") == "97bc23fe-e91e-5f6c-8200-c27c693dfb68"
    assert len({review_id("a", "bc"), review_id("ab", "c"), review_id("abc", ""), item_point_id("abc")}) == 4
