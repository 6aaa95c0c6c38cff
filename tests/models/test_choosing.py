"""The best of many values: against sorting."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.sources.choosing import best_of, best_scaled, choose_allowed, foremost, threshold

SMALL, WIDE = 3_000, 60_000
"""Items of a catalogue whose arrays are at hand, and of one whose arrays are not."""


def skewed(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = rng.pareto(1.1, n)
    return values


def even(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    return rng.random(n)


def coarse(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Few different ones: many are equal."""
    return rng.integers(0, 5, n).astype(float)


def equal(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    return np.full(n, 0.5)


def misleading(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """What an even sample sees is far above all the rest."""
    values: npt.NDArray[np.float64] = rng.random(n)
    values[:: n // 128] += 10.0
    return values


def hidden(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """What an even sample does not see is far above."""
    values: npt.NDArray[np.float64] = rng.random(n)
    values[1 :: n // 128] += 10.0
    return values


KINDS = (skewed, even, coarse, equal, misleading, hidden)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [200, 2_048, 2_049, 20_000])
@pytest.mark.parametrize(("k", "most"), [(1, 1), (40, 53), (130, 130), (150, 200)])
def test_the_bounds_of_a_threshold(kind: object, n: int, k: int, most: int) -> None:
    values = kind(np.random.default_rng(n + k), n)  # type: ignore[operator]
    low, high = threshold(values, k, most)
    above = np.count_nonzero(values >= low)
    assert above >= k
    assert np.count_nonzero(values >= high) < k
    between = values[(values >= low) & (values < high)]
    assert above <= most or len(np.unique(between)) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [30, 200, 2_048, 2_049, 20_000])
@pytest.mark.parametrize(("k", "most"), [(1, 1), (40, 53), (80, 100), (150, 200)])
def test_the_foremost_hold_the_best_and_hardly_more(kind: object, n: int, k: int, most: int) -> None:
    values = kind(np.random.default_rng(n + k), n) if n >= 128 else np.random.default_rng(n).random(n)  # type: ignore[operator]
    ids = np.random.default_rng(1).permutation(n).astype(np.int32)
    held, held_ids = np.empty(n), np.empty(n, np.int32)
    count = foremost(values, ids, k, most, held, held_ids)
    of = dict(zip(ids.tolist(), values.tolist(), strict=True))
    assert len(set(held_ids[:count].tolist())) == count >= min(k, n)
    assert [of[i] for i in held_ids[:count].tolist()] == held[:count].tolist()
    assert sorted(held[:count])[::-1][:k] == sorted(values)[::-1][:k]
    kth = sorted(values)[-min(k, n)]
    assert count <= most or np.count_nonzero(values == kth) > 1, "some are equal"


def expected(
    values: npt.NDArray[np.float64], ids: npt.NDArray[np.int32], may: npt.NDArray[np.bool_], keys: npt.NDArray[np.uint64], k: int
) -> list[tuple[int, float]]:
    usable = [x for x in range(len(ids)) if values[x] > 0 and may[ids[x]]]
    usable.sort(key=lambda x: (-values[x], keys[ids[x]]))
    return [(int(ids[x]), float(values[x])) for x in usable[:k]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("items", [SMALL, WIDE])
@pytest.mark.parametrize("n", [0, 30, 700, 3_000])
@pytest.mark.parametrize("closed", [0.02, 0.95])
def test_the_best_allowed_are_those_of_sorting(kind: object, items: int, n: int, closed: float) -> None:
    rng = np.random.default_rng(items + n)
    values = kind(rng, n) - 0.25 if n >= 128 else rng.random(n)  # type: ignore[operator]
    ids = rng.permutation(items)[:n].astype(np.int32)
    keys = rng.permutation(items).astype(np.uint64)
    opened, seen = (rng.random(items) >= closed).astype(np.uint8), np.zeros(items, np.int64)
    if n:
        seen[ids[np.argsort(-values)[:20]]] = 7  # the best are what the user knows
    for k in (1, 40, 600):
        found, scores = np.zeros(k, np.int32), np.zeros(k)
        count = choose_allowed(values, ids, opened, seen, 7, keys, k, found, scores)
        may = (opened != 0) & (seen != 7)
        assert list(zip(found[:count].tolist(), scores[:count].tolist(), strict=True)) == expected(values, ids, may, keys, k)


@pytest.mark.parametrize("items", [SMALL, WIDE])
def test_the_best_of_what_has_been_added_up(items: int) -> None:
    rng = np.random.default_rng(items)
    touched = rng.permutation(items)[:2_500].astype(np.int32)
    score, scale, keys = np.zeros(items), rng.random(items), rng.permutation(items).astype(np.uint64)
    score[touched] = rng.random(len(touched))
    opened, seen = np.ones(items, np.uint8), np.zeros(items, np.int64)
    found, scores = np.zeros(40, np.int32), np.zeros(40)
    everybody = np.ones(items, bool)
    count = best_of(score, touched, len(touched), opened, seen, 1, keys, 40, found, scores)
    assert list(zip(found[:count].tolist(), scores[:count].tolist(), strict=True)) == expected(
        score[touched], touched, everybody, keys, 40
    )
    scaled = score * scale
    count = best_scaled(score, scale, touched, len(touched), opened, seen, 1, keys, 40, found, scores)
    assert list(zip(found[:count].tolist(), scores[:count].tolist(), strict=True)) == expected(
        scaled[touched], touched, everybody, keys, 40
    )
    assert np.array_equal(score, scaled), "scores stay as they were multiplied"
