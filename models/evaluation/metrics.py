"""Measures of lists and of predicted ratings, each with its formula.

A list is tested against one item, the one the user took next, so with rank r (0 is the first place) a hit has
    HR = 1, NDCG = 1 / log2(r + 2), MRR = 1 / (r + 1), precision = 1 / N, recall = 1, F1 = 2 / (N + 1),
and a miss has 0 everywhere. Precision, recall and F1 are multiples of HR here; they are given because people look for them.

Standard errors are clustered by user: the events of one person are not independent.
    se = sqrt(sum_u (sum_{e of u} (x_e - mean))^2) / n       (Liang & Zeger 1986, without the small-sample factor)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Ranks = npt.NDArray[np.int32]
MISS: Final = -1
"""The rank of an item that is not in the list."""


class Estimate(Struct, frozen=True):
    """A mean and its user-clustered standard error."""

    mean: float
    se: float


class RankMetrics(Struct, frozen=True):
    """The measures of a set of tested lists."""

    n: int
    users: int
    hr: Estimate
    ndcg: Estimate
    mrr: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate


def rank_metrics(ranks: Ranks, users: npt.NDArray[np.int64], n: int) -> RankMetrics | None:
    """Measures at N=`n` of the lists with these ranks (0-based, `MISS` for a miss), one user number each. None without lists."""
    if not len(ranks):
        return None
    gain = gains(ranks, n)
    _, cluster = np.unique(users, return_inverse=True)
    return RankMetrics(
        n=len(ranks),
        users=int(cluster.max()) + 1,
        hr=clustered(gain["hr"], cluster),
        ndcg=clustered(gain["ndcg"], cluster),
        mrr=clustered(gain["mrr"], cluster),
        precision=clustered(gain["hr"] / n, cluster),
        recall=clustered(gain["hr"], cluster),
        f1=clustered(gain["hr"] * (2.0 / (n + 1.0)), cluster),
    )


def gains(ranks: Ranks, n: int) -> dict[str, npt.NDArray[np.float64]]:
    """HR, NDCG and MRR of each single list, by name."""
    hit = (ranks != MISS) & (ranks < n)
    place = np.where(hit, ranks, 0).astype(np.float64)
    return {
        "hr": hit.astype(np.float64),
        "ndcg": np.where(hit, 1.0 / np.log2(place + 2.0), 0.0),
        "mrr": np.where(hit, 1.0 / (place + 1.0), 0.0),
    }


def clustered(values: npt.NDArray[np.float64], cluster: npt.NDArray[np.intp]) -> Estimate:
    """Mean of `values` and its standard error clustered by `cluster` (0, 1, ...)."""
    mean = float(values.mean())
    return Estimate(mean, float(np.sqrt((np.bincount(cluster, values - mean) ** 2).sum())) / len(values))


# ------------------------------------------------------------------------------------------------ what is shown, to whom
def gini(exposures: Iterable[int], catalogue: int) -> float | None:
    """Gini coefficient of the exposure over a catalogue: 0 all items alike, towards 1 one item alone. None without exposure.

    sum_k (2k - m + 1) x_k / (m sum x) over the ascending x_0..x_{m-1}, items never shown included.
    """
    shown = sorted(exposures)
    m, total = max(catalogue, len(shown)), sum(shown)
    if not total:
        return None
    start = m - len(shown)
    return sum((2 * (start + k) - m + 1) * x for k, x in enumerate(shown)) / (m * total)


class Exposure:
    """What was recommended: coverage, Gini, novelty and diversity, list by list. Holds one counter per item shown."""

    def __init__(self) -> None:
        self.shown: Counter[str] = Counter()
        self.lists = 0
        self.short = 0
        self._novelty = 0.0
        self._novel_lists = 0
        self._diversity = 0.0
        self._diverse_lists = 0

    def add(self, items: Sequence[str], n: int, popularity: Counter[str], events: int, diversity: float | None) -> None:
        """Count one list. `popularity`: past events by item; `events`: their total; `diversity`: of the list, where known."""
        self.lists += 1
        self.short += len(items) < n
        self.shown.update(items)
        if items and events:
            self._novelty += sum(-math.log2((popularity[i] + 1) / (events + 1)) for i in items) / len(items)
            self._novel_lists += 1
        if diversity is not None:
            self._diversity += diversity
            self._diverse_lists += 1

    @property
    def novelty(self) -> float | None:
        """Mean self-information -log2 p(item) in bits, p the item's share of past events (Zhou et al. 2010; +1 smoothed).
        Of the lists with something on them."""
        return self._novelty / self._novel_lists if self._novel_lists else None

    @property
    def diversity(self) -> float | None:
        """Mean intra-list diversity of the lists where it is known."""
        return self._diversity / self._diverse_lists if self._diverse_lists else None


class CategoryDiversity:
    """Intra-list diversity: 1 - mean pairwise Jaccard similarity of the items' categories (Ziegler et al. 2005)."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._categories: dict[str, int] = {}

    def learn(self, item_id: str, categories: Sequence[str]) -> None:
        bits = 0
        for name in categories:
            bits |= 1 << self._categories.setdefault(name, len(self._categories))
        self._bits[item_id] = bits

    def of(self, items: Sequence[str]) -> float | None:
        """Diversity of a list, over its items with categories; None for fewer than two of them."""
        sets = [bits for bits in map(self._bits.get, items) if bits]
        if len(sets) < 2:
            return None
        similar = sum((a & b).bit_count() / (a | b).bit_count() for k, a in enumerate(sets) for b in sets[k + 1 :])
        return 1.0 - similar / (len(sets) * (len(sets) - 1) / 2)


class VectorDiversity:
    """Intra-list diversity: 1 - mean pairwise cosine of the items' vectors. As many vectors as items with one."""

    def __init__(self) -> None:
        self._unit: dict[str, npt.NDArray[np.float32]] = {}

    def learn(self, item_id: str, vector: npt.NDArray[np.float32]) -> None:
        """`vector`: (dim,), any length but zero."""
        norm = float(np.linalg.norm(vector))
        if norm > 0:
            self._unit[item_id] = (vector / norm).astype(np.float32)

    def of(self, items: Sequence[str]) -> float | None:
        """Diversity of a list, over its items with vectors; None for fewer than two of them."""
        known = [v for v in map(self._unit.get, items) if v is not None]
        m = len(known)
        if m < 2:
            return None
        total = np.sum(known, axis=0)  # |sum v|^2 = m + 2 * (sum over pairs)
        return 1.0 - (float(total @ total) - m) / (m * (m - 1))


# ------------------------------------------------------------------------------------------------ ratings
class RatingErrors:
    """MAE and RMSE of predictions of 1..5, beside two constants that any predictor must beat.

    `median`: the running median of all ratings so far; `mean`: their running mean. Both test-then-learn, as the model is.
    """

    PREDICTORS: Final = ("model", "median", "mean")

    def __init__(self) -> None:
        self.n = 0
        self._absolute = dict.fromkeys(self.PREDICTORS, 0.0)
        self._squared = dict.fromkeys(self.PREDICTORS, 0.0)
        self._ratings: Counter[float] = Counter()
        self._sum = 0.0

    def test(self, rating: float, predicted: float) -> None:
        """Count one prediction, clipped to 1..5."""
        self.n += 1
        seen = self._ratings.total()
        mean = self._sum / seen if seen else 3.0
        for name, value in (("model", predicted), ("median", self._median()), ("mean", mean)):
            error = min(5.0, max(1.0, value)) - rating
            self._absolute[name] += abs(error)
            self._squared[name] += error * error

    def learn(self, rating: float) -> None:
        self._ratings[rating] += 1
        self._sum += rating

    def _median(self) -> float:
        """The lower median of the ratings so far; 3 before the first."""
        half = (self._ratings.total() + 1) // 2
        passed = 0
        for rating in sorted(self._ratings):
            passed += self._ratings[rating]
            if passed >= half:
                return rating
        return 3.0

    def mae(self, predictor: str) -> float:
        return self._absolute[predictor] / self.n

    def rmse(self, predictor: str) -> float:
        return math.sqrt(self._squared[predictor] / self.n)
