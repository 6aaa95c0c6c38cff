"""Click-through rates: errors by hand, and intervals that hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.evaluation.rates import Interval, over_worlds, ratio


def test_a_rate_by_hand() -> None:
    """2 clicks on 10 items and none on 30: 5 %. Residuals 2 - .5 and 0 - 1.5: sqrt(4.5) / 40."""
    found = ratio(np.array([2.0, 0.0]), np.array([10.0, 30.0]))
    assert (found.mean, found.se) == pytest.approx((0.05, math.sqrt(4.5) / 40))


def test_nothing_shown_is_no_rate() -> None:
    assert ratio(np.zeros(3), np.zeros(3)).mean == 0.0


def test_an_interval_by_hand() -> None:
    """1, 2, 3: mean 2, sd 1, t(2) = 4.303."""
    found = over_worlds([1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)))
    assert not found.above
    assert Interval(1.0, 0.1, 2.0).above
    with pytest.raises(ValueError, match="two"):
        over_worlds([1.0])


@pytest.mark.parametrize("worlds", [2, 3, 5, 12])
def test_intervals_hold_the_truth_as_often_as_they_say(worlds: int) -> None:
    """95 % of 4,000, give or take three standard errors."""
    rng = np.random.default_rng(worlds)
    intervals = [over_worlds(rng.normal(7.0, 2.0, worlds).tolist()) for _ in range(4_000)]
    held = np.mean([one.low <= 7.0 <= one.high for one in intervals])
    assert held == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 4_000))
