"""Click-through rates of recommenders that live in worlds of their own, one per seed, and how sure their differences are.

In one world a rate is a ratio, clicks over items shown, and the visits of one shopper are not independent, so its standard error
is clustered: with c_u the clicks and s_u the items shown of shopper u, r = sum c / sum s and

    se = sqrt(sum_u (c_u - r s_u)^2) / sum s                                                (linearised ratio, Cochran 1977, 6.3)

Over worlds, the mean of the rates (or of the differences, world by world) has Student's interval: mean +- t sd / sqrt(worlds).
It takes in what a clustered error of one world cannot see: another catalogue, other people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.evaluation.metrics import Estimate

_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101,
    2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t for 1..30 degrees of freedom (Student 1908); beyond them that of 30, a little too wide."""


class Interval(Struct, frozen=True):
    """A mean and where it lies with 95 %."""

    mean: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        """Whether all of it is above 0."""
        return self.low > 0


def ratio(clicks: npt.NDArray[np.float64], shown: npt.NDArray[np.float64]) -> Estimate:
    """Clicks over items shown; both (shoppers,). The rate of nothing shown is 0."""
    total = float(shown.sum())
    if not total:
        return Estimate(0.0, 0.0)
    rate = float(clicks.sum()) / total
    return Estimate(rate, float(np.sqrt(((clicks - rate * shown) ** 2).sum())) / total)


def over_worlds(values: Sequence[float]) -> Interval:
    """Student's interval of the mean of one value per world. ValueError for fewer than two."""
    if len(values) < 2:
        raise ValueError("an interval over worlds needs two of them")
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = _T[min(len(values) - 1, len(_T)) - 1] * spread / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)
