"""The cosines of centred vectors against the textbook, in double precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.cosines import lean, nearest
from models.window import PROFILE

Vector = npt.NDArray[np.float64]
DIM = 24


def units(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    """Vectors that have much in common, as those of texts do."""
    made = rng.normal(size=(count, DIM)) + 0.7
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def cosine(one: Vector, other: Vector) -> float:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length > 1e-9 else 0.0


def profile(rng: np.random.Generator, items: list[int]) -> npt.NDArray[np.void]:
    made: npt.NDArray[np.void] = np.zeros(len(items), PROFILE)
    made["item"], made["weight"] = items, rng.integers(1, 1024, len(items))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_what_a_profile_leans_towards(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, row_of = units(rng, 4), np.array([2, -1, 0, 1, 3], np.int32)
    mean = matrix.mean(axis=0)
    taken, length, decay = [3, 0, 1, 9, 2, 4], 5, 0.8  # 3 is too old, 1 and 9 have no vector
    events = profile(rng, taken)
    expected = np.zeros(DIM)
    for age, event in enumerate(events[::-1][:length]):
        if event["item"] < len(row_of) and row_of[event["item"]] >= 0:
            centred = matrix[row_of[event["item"]]].astype(float) - mean
            expected += decay**age * event["weight"] / 256 * centred / np.linalg.norm(centred)
    out = np.zeros(DIM, np.float32)
    lean(events, length, decay, row_of, matrix, mean, out)
    assert out == pytest.approx(expected, abs=1e-5)


def test_a_single_item_is_leant_towards_itself() -> None:
    rng = np.random.default_rng(1)
    matrix = units(rng, 1)
    events = profile(rng, [0, 0])
    out = np.zeros(DIM, np.float32)
    lean(events, 20, 0.5, np.array([0], np.int32), matrix, matrix[0], out)
    weights = events["weight"] / 256
    assert out == pytest.approx((weights[1] + 0.5 * weights[0]) * matrix[0], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_item(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = units(rng, 20)
    mean = matrix.mean(axis=0)
    rows, owns, items = np.array([3, -1, 11, 5]), np.array([5, 8, 2, 19]), np.array([50, 80, 20, 190], np.int32)
    out = np.zeros((4, 1), np.int32)
    nearest(matrix, rows, owns, items, mean, out)
    centred = matrix.astype(float) - mean
    expected = [int(items[np.argmax([cosine(centred[row], centred[own]) for own in owns])]) if row >= 0 else -1 for row in rows]
    assert out[:, 0].tolist() == expected
    assert expected[3] == 50, "nothing is nearer than itself"
    nearest(matrix, rows, owns[:0], items[:0], mean, out)
    assert out[:, 0].tolist() == [-1, -1, -1, -1]
