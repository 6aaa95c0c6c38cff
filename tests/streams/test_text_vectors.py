"""Vectors of texts through the cache, and the item vectors they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.events import Click, Item, Review
from streams.text_encoder import HashingEncoder, TextEncoder
from streams.text_vectors import MAX_CHARS, TextFeed, TextVectors, cache_file, said


class Counting(HashingEncoder):
    """Counts what it encodes."""

    def __init__(self, dim: int = 64) -> None:
        super().__init__(dim)
        self.encoded: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        self.encoded += texts
        return super().encode(texts)


def review(text: str, item: str = "x", title: str = "") -> Review:
    return Review(event_id="e", user_id="a", item_id=item, timestamp_ms=1, rating=4.0, text=text, title=title)


def test_what_is_said() -> None:
    assert said(review(" fine ", title="Good")) == "Good. fine"
    assert said(Item(item_id="x", title="Dune", description="sand")) == "Dune. sand"
    assert said(Click(event_id="e", user_id="a", item_id="x", timestamp_ms=1)) == said(review("")) == ""
    assert len(said(review("x" * 10 * MAX_CHARS))) == MAX_CHARS


def test_a_second_run_finds_the_same_vectors_without_encoding(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "vectors.sqlite"
    first = TextVectors(fresh := Counting(), path)
    vector = first.of("a red guitar")
    first.close()
    second = TextVectors(again := Counting(), path)
    np.testing.assert_array_equal(second.of("a red guitar"), vector)
    second.close()
    assert (fresh.encoded, again.encoded) == (["a red guitar"], [])
    exact = HashingEncoder().encode(["a red guitar"])[0]
    assert float(vector @ exact) == pytest.approx(1.0, abs=1e-3)
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-6)


def test_another_encoder_does_not_find_them(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    first = TextVectors(Counting(64), path)
    first.of("text")
    first.close()
    other = TextVectors(Counting(128), path)
    assert other.of("text").shape == (128,)
    other.close()


def test_prefetch_embeds_each_text_once_and_reports(tmp_path: Path) -> None:
    encoder = Counting()
    vectors = TextVectors(encoder, None)
    done: list[int] = []
    texts = [f"text {k % 40}" for k in range(70)]
    vectors.prefetch(texts, done.append)
    assert done == [32, 64, 70]
    assert sorted(encoder.encoded) == sorted(set(texts))
    vectors.of("text 7")
    assert len(encoder.encoded) == 40


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_a_cache_that_cannot_be_used_is_done_without(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "vectors.sqlite"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    vectors = TextVectors(HashingEncoder(), path)
    assert vectors.of("text").shape == (64,)
    vectors.close()


def test_item_vectors_are_the_direction_of_the_mean() -> None:
    encoder: TextEncoder = HashingEncoder()
    feed = TextFeed(TextVectors(encoder, None))
    assert feed.vector(review("")) is None
    feed.vector(review("one guitar"))
    feed.vector(review("another thing", item="y"))
    vector = feed.vector(review("two strings"))
    assert vector is not None
    assert (vector.item_id, vector.texts, vector.model, vector.snippet) == ("x", 2, encoder.fingerprint, "two strings")
    mean = encoder.encode(["one guitar", "two strings"]).sum(axis=0)
    np.testing.assert_allclose(np.frombuffer(vector.vector, "<f4"), mean / np.linalg.norm(mean), atol=1e-3)


def test_where_the_cache_lies() -> None:
    assert cache_file({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere/freshet/text-vectors.sqlite")
    assert cache_file({}).parts[-3:] == (".cache", "freshet", "text-vectors.sqlite")
