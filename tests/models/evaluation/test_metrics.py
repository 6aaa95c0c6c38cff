"""Measures by hand calculation."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.metrics import (
    MISS,
    CategoryDiversity,
    Exposure,
    RatingErrors,
    VectorDiversity,
    clustered,
    gini,
    rank_metrics,
)


def test_rank_measures_by_hand() -> None:
    metrics = rank_metrics(np.array([0, 2, MISS, 9], np.int32), np.array([7, 7, 8, 9]), n=10)
    assert metrics is not None
    assert (metrics.n, metrics.users) == (4, 3)
    assert metrics.hr.mean == pytest.approx(3 / 4)
    assert metrics.ndcg.mean == pytest.approx((1 + 1 / 2 + 0 + 1 / math.log2(11)) / 4)
    assert metrics.mrr.mean == pytest.approx((1 + 1 / 3 + 0 + 1 / 10) / 4)
    assert metrics.precision.mean == pytest.approx(3 / 40)
    assert metrics.recall.mean == pytest.approx(3 / 4)
    assert metrics.f1.mean == pytest.approx(3 / 4 * 2 / 11)


def test_ranks_beyond_n_are_misses_and_no_lists_give_nothing() -> None:
    metrics = rank_metrics(np.array([4, 5], np.int32), np.array([0, 1]), n=5)
    assert metrics is not None
    assert metrics.hr.mean == pytest.approx(1 / 2)
    assert rank_metrics(np.array([], np.int32), np.array([], np.int64), n=5) is None


def test_standard_error_is_clustered() -> None:
    values = np.array([1.0, 1.0, 0.0, 0.0])
    # mean 1/2; user 0 deviates by +1 in sum, user 1 by -1: sqrt(1 + 1) / 4
    assert clustered(values, np.array([0, 0, 1, 1])).se == pytest.approx(math.sqrt(2) / 4)
    # each user took one of each: their sums do not deviate at all
    assert clustered(values, np.array([0, 1, 0, 1])).se == pytest.approx(0.0)


def test_gini_by_hand() -> None:
    assert gini([3, 3, 3], 3) == pytest.approx(0.0)
    assert gini([5], 4) == pytest.approx(3 / 4)  # one of four items has everything: (m - 1) / m
    assert gini([1, 3], 2) == pytest.approx((-1 * 1 + 1 * 3) / (2 * 4))
    assert gini([], 10) is None


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12))
def test_gini_is_the_mean_absolute_difference(exposures: list[int]) -> None:
    total, m = sum(exposures), len(exposures)
    value = gini(exposures, m)
    if total == 0:
        assert value is None
    else:
        naive = sum(abs(a - b) for a in exposures for b in exposures) / (2 * m * total)
        assert value == pytest.approx(naive)


def test_exposure_counts_novelty_and_short_lists() -> None:
    exposure = Exposure()
    popularity = Counter({"a": 3, "b": 1})
    exposure.add(["a", "b"], 2, popularity, 4, None)
    exposure.add(["a"], 2, popularity, 4, 0.5)
    rare, common = -math.log2(2 / 5), -math.log2(4 / 5)
    assert exposure.novelty == pytest.approx(((rare + common) / 2 + common) / 2)
    assert exposure.diversity == pytest.approx(0.5)
    exposure.add([], 2, popularity, 4, None)  # an empty list is short, and neither novel nor known
    assert exposure.novelty == pytest.approx(((rare + common) / 2 + common) / 2)
    assert exposure.short == 2
    assert exposure.shown == Counter({"a": 2, "b": 1})


def test_category_diversity_is_one_minus_jaccard() -> None:
    diversity = CategoryDiversity()
    for item, categories in {"a": ["x", "y"], "b": ["y", "z"], "c": ["w"], "d": []}.items():
        diversity.learn(item, categories)
    assert diversity.of(["a", "b"]) == pytest.approx(1 - 1 / 3)
    assert diversity.of(["a", "b", "c"]) == pytest.approx(1 - (1 / 3 + 0 + 0) / 3)
    assert diversity.of(["a", "d", "unknown"]) is None


@given(st.integers(2, 6), st.integers(0, 1000))
def test_vector_diversity_is_one_minus_mean_cosine(count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    diversity = VectorDiversity()
    for k, vector in enumerate(vectors):
        diversity.learn(str(k), vector)
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for k, a in enumerate(vectors) for b in vectors[k + 1 :]]
    assert diversity.of([str(k) for k in range(count)]) == pytest.approx(1 - np.mean(cosines), abs=1e-5)


def test_zero_vectors_say_nothing() -> None:
    diversity = VectorDiversity()
    diversity.learn("a", np.zeros(3, np.float32))
    diversity.learn("b", np.ones(3, np.float32))
    assert diversity.of(["a", "b"]) is None


def test_rating_errors_stand_beside_the_constants() -> None:
    errors = RatingErrors()
    for rating in (5.0, 5.0, 1.0):
        errors.learn(rating)
    errors.test(4.0, 4.5)  # median 5, mean 11/3
    errors.test(2.0, 9.0)  # clipped to 5
    assert errors.mae("model") == pytest.approx((0.5 + 3.0) / 2)
    assert errors.mae("median") == pytest.approx((1.0 + 3.0) / 2)
    assert errors.mae("mean") == pytest.approx((1 / 3 + 5 / 3) / 2)
    assert errors.rmse("model") == pytest.approx(math.sqrt((0.25 + 9.0) / 2))


def test_constants_before_the_first_rating_are_the_middle() -> None:
    errors = RatingErrors()
    errors.test(5.0, 5.0)
    assert errors.mae("median") == errors.mae("mean") == pytest.approx(2.0)
