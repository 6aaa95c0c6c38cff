"""Drift: quiet while a rate stays, soon heard when it falls. Exposure: the last lists and no others."""

from __future__ import annotations

import random
from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.metrics import gini
from models.live import Drift, Exposure


def outcomes(p: float, n: int, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < p) for _ in range(n)]


@pytest.mark.parametrize("p", [0.3, 0.1, 0.03])
def test_a_rate_that_stays_raises_no_alarm(p: float) -> None:
    drift = Drift()
    assert [d for x in outcomes(p, 100_000, 1) if (d := drift.update(x))] == []
    assert drift.mean == pytest.approx(p, rel=0.1)
    assert drift.width == 100_000


@pytest.mark.parametrize(("p", "within"), [(0.3, 1_000), (0.1, 3_000), (0.03, 10_000)])
def test_a_rate_that_halves_is_noticed_with_its_direction(p: float, within: int) -> None:
    drift = Drift()
    for x in outcomes(p, 50_000, 2):
        drift.update(x)
    assert "down" in [drift.update(x) for x in outcomes(p / 2, within, 3)]
    for x in outcomes(p / 2, 20_000, 4):
        drift.update(x)
    assert drift.mean == pytest.approx(p / 2, rel=0.25), "what was before is forgotten"
    assert "up" in [drift.update(x) for x in outcomes(2 * p, 5_000, 5)]


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=4, unique=True), max_size=40), st.integers(1, 8))
def test_exposure_is_that_of_the_last_lists(lists: list[list[str]], bound: int) -> None:
    exposure, kept = Exposure(bound), deque[list[str]](maxlen=bound)
    for items in lists:
        exposure.add(items)
        kept.append(items)
        counts = Counter(item for one in kept for item in one)
        assert (len(exposure), exposure.distinct) == (len(kept), len(counts))
        assert exposure.gini(20) == (pytest.approx(gini(counts.values(), 20)) if counts else None)


def test_exposure_needs_room() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Exposure(0)
