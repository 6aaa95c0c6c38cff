"""Item vectors and tastes."""

from __future__ import annotations

import numpy as np
import pytest

from models import Click, Config, ItemVector, Recommender
from models.vectors import Vectors


def entry(item: str, *numbers: float, model: str = "m", snippet: str = "") -> ItemVector:
    return ItemVector(item_id=item, vector=np.array(numbers, "<f4").tobytes(), texts=1, model=model, snippet=snippet)


def test_a_taste_points_from_the_mean_to_what_was_taken() -> None:
    model = Recommender()
    for name, y in (("left", -1.0), ("right", 1.0), ("middle", 0.0)):
        model.learn(entry(name, 1.0, y))
    assert model.taste("ada") is None
    model.learn(Click(event_id="e", user_id="ada", item_id="right", timestamp_ms=1))
    taste = model.taste("ada")
    assert taste is not None
    assert taste.dtype == np.float32
    assert np.linalg.norm(taste) == pytest.approx(1.0, abs=1e-6)
    assert taste[1] > 0.8
    model.learn(Click(event_id="f", user_id="bob", item_id="unheard of", timestamp_ms=1))
    assert model.taste("bob") is None


def test_the_newest_weighs_most() -> None:
    model = Recommender(Config(text_decay=0.5))
    for name, y in (("left", -1.0), ("right", 1.0)):
        model.learn(entry(name, 1.0, y))
    for k, item in enumerate(["left", "right"]):
        model.learn(Click(event_id=f"e{k}", user_id="ada", item_id=item, timestamp_ms=k + 1))
    taste = model.taste("ada")
    assert taste is not None
    assert taste[1] > 0


def test_the_only_vector_there_is_is_a_taste_too() -> None:
    model = Recommender()
    model.learn(entry("x", 3.0, 4.0))
    model.learn(Click(event_id="e", user_id="ada", item_id="x", timestamp_ms=1))
    taste = model.taste("ada")
    assert taste is not None
    assert taste == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (entry("y", 1.0, 2.0, model="other"), "cannot be mixed"),
        (entry("y", 1.0, 2.0, 3.0), "3 numbers among vectors of 2"),
        (ItemVector(item_id="y", vector=b"12345", texts=1, model="m"), "5 bytes"),
        (entry("y", float("nan"), 1.0), "finite"),
        (entry("y", 0.0, 0.0), "not all of them 0"),
    ],
)
def test_foreign_vectors_are_refused(wrong: ItemVector, complaint: str) -> None:
    model = Recommender()
    model.learn(entry("x", 1.0, 0.0))
    with pytest.raises(ValueError, match=complaint):
        model.learn(wrong)
    assert model.sizes()["vectors"][0] == 1


def test_an_empty_vector_takes_the_item_out() -> None:
    model = Recommender()
    assert not model.learn(ItemVector(item_id="x", vector=b"", texts=0, model="m"))
    assert model.learn(entry("x", 1.0, 0.0))
    assert not model.learn(entry("x", 1.0, 0.0)), "the same again"
    assert model.learn(ItemVector(item_id="x", vector=b"", texts=0, model="m"))
    assert model.sizes()["vectors"][0] == 0


def test_the_mean_is_exact_whatever_the_order() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(50, 8))
    one, other = Vectors(Config()), Vectors(Config())
    for k in range(50):
        one.put(k, entry(f"i{k}", *rows[k]))
    for k in reversed(range(50)):
        other.put(k, entry(f"i{k}", *rows[(k + 1) % 50]))
        other.put(k, entry(f"i{k}", *rows[k]))
    assert (one.total == other.total).all()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert one.mean() == pytest.approx(unit.mean(axis=0), abs=1e-6)


def test_at_the_bound_the_longest_unchanged_leaves() -> None:
    vectors = Vectors(Config(max_vectors=16))
    for k in range(16):
        vectors.put(k, entry(f"i{k}", 1.0, k))
    vectors.put(0, entry("i0", 2.0, 1.0))
    vectors.put(99, entry("i99", 1.0, 1.0))
    assert not vectors.has(1)
    assert vectors.has(0)
    assert vectors.sizes()["vectors"] == (16, 16)
    assert {int(vectors.item_of[row]) for row in vectors.newest(2)} == {99, 0}


def test_what_is_derived_from_vectors_is_that_of_those_that_were_restored() -> None:
    one, other = Vectors(Config()), Vectors(Config())
    for k in range(3):
        one.put(k, entry(f"i{k}", 1.0, float(k)))
        other.put(5 - k, entry(f"i{5 - k}", 1.0, -float(k)))
    before = other.mean(), other.newest(2)  # of as many changes: no version tells them apart
    other.restore(one.save())
    assert other.mean() == pytest.approx(one.mean())
    assert other.newest(2).tolist() == one.newest(2).tolist()
    assert before[0] != pytest.approx(one.mean())


def test_a_restored_one_compares_as_the_one_that_was_saved() -> None:
    one, other = Vectors(Config()), Vectors(Config())
    for k in range(3):
        one.put(k, entry(f"i{k}", 1.0, float(k)))
    other.restore(one.save())
    rows, direction = one.newest(3), np.array([0.0, 1.0], np.float32)
    wanted, found = np.zeros(3), np.full(3, 9.0)
    one.along(rows, direction, wanted)
    other.along(rows, direction, found)
    assert found.tolist() == wanted.tolist()
    assert wanted.any()
