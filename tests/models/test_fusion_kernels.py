"""Kernels of the learned fusion against numpy, with more columns than candidates: what is there is of an earlier request."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models import fusion_kernels as kernels
from models.contexts import HISTORY
from models.fusion_kernels import OWN, PER_SOURCE, PERSONAL

SOURCES, WIDTH, ITEMS, BEHIND = 5, 90, 400, 200.0
ROWS = PER_SOURCE * SOURCES + OWN + PERSONAL
Matrix = npt.NDArray[np.float64]


class Case:
    """What is found for a request: the third source knows nothing, the others half of all."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(count)
        self.rng, self.count, self.clock = rng, count, 9_000
        self.scores = rng.random((SOURCES, WIDTH)) * (rng.random((SOURCES, WIDTH)) < 0.5)
        self.scores[2] = 0.0
        self.scores[:, count:] = 7.0
        self.ranks = rng.integers(0, 40, (SOURCES, WIDTH)).astype(np.int32)
        self.items = rng.permutation(ITEMS)[:count].astype(np.int32)
        self.events = rng.integers(0, 500, ITEMS)
        self.first = rng.integers(0, 5_000, ITEMS)
        self.last = self.first + rng.integers(0, 4_000, ITEMS)
        self.features = rng.random((ROWS, WIDTH))
        kernels.features(
            self.scores, self.ranks, self.items, BEHIND, self.clock, self.events, self.first, self.last, self.features
        )  # fmt: skip

    def expected(self) -> Matrix:
        """(4 S + 3, n): the features that are not personal."""
        count, rows = self.count, []
        for scores, ranks in zip(self.scores[:, :count], self.ranks[:, :count], strict=True):
            v = scores / max(scores.max(initial=0.0), 1e-300)
            place = np.where(ranks > 0, ranks - 1, BEHIND)
            rows += [v, np.where(v > 0, 10 / (10 + place), 0), np.sqrt(v), np.log(1 + 1000 * v) / 7]
        for number in (self.events[self.items], self.clock - self.first[self.items], self.clock - self.last[self.items]):
            row = 0.2 * np.log(1.0 + number)
            rows.append(row - (row.mean() if count else 0.0))
        return np.array(rows)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 64, WIDTH])
def test_features(count: int) -> None:
    case = Case(count)
    np.testing.assert_allclose(case.features[: PER_SOURCE * SOURCES + OWN, :count], case.expected(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 33, WIDTH])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_shares(count: int, sign: float) -> None:
    """Where nothing adds to a score (all weights below 0), those who know the candidate have equal shares."""
    case = Case(count)
    rng, trust = case.rng, case.rng.normal(size=PER_SOURCE * SOURCES)
    quick, steady = (sign * np.abs(rng.normal(size=(9, ROWS))) for _ in range(2))
    if sign < 0:
        trust[:] = 0.0
    rows = np.array([HISTORY + 1, 5, 7])
    p, shares = rng.random(WIDTH), rng.random((SOURCES, WIDTH))
    features = case.features
    kernels.personal(features, count, trust)
    kernels.share_out(features, count, quick, steady, rows, trust, p, shares)

    together = (quick[0] + quick[rows].sum(axis=0) + steady[0] + steady[rows[0]]) / 2
    scores = together @ features[:, :count]
    expected = np.exp(scores - scores.max())
    expected /= expected.sum()
    np.testing.assert_allclose(p[:count], expected, rtol=1e-9)
    own = together[: PER_SOURCE * SOURCES] + np.tile(together[-PERSONAL:], SOURCES) * trust
    parts = (own[:, None] * features[: PER_SOURCE * SOURCES, :count]).reshape(SOURCES, PER_SOURCE, count).sum(axis=1)
    parts = np.maximum(parts, 0.0)
    known = (case.scores[:, :count] > 0).astype(float)
    parts = np.where(parts.sum(axis=0) > 0, parts, known)
    total = parts.sum(axis=0)
    shown = total > 0  # who is known to nobody has no share
    np.testing.assert_allclose(shares[:, :count][:, shown], (parts / np.maximum(total, 1e-300) * expected)[:, shown], rtol=1e-9)
    assert not shares[:, :count][:, ~shown].any()


@pytest.mark.parametrize("count", [1, 6, WIDTH])
def test_a_source_that_ranks_alone_has_all_shares(count: int) -> None:
    case = Case(count)
    shares = case.rng.random((SOURCES, WIDTH))
    kernels.alone(case.scores, count, 1, shares)
    mass = case.scores[1, :count].sum()
    expected = np.zeros((SOURCES, count))
    expected[1] = case.scores[1, :count] / mass if mass > 0 else 0.0
    np.testing.assert_allclose(shares[:, :count], expected, rtol=1e-12)
