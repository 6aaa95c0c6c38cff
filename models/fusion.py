"""Many ranked lists become one. The score of an item is a sum of shares, one per source, so that every list explains itself."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.gathering import Gathering
from models.kept import Kept
from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Family, Query, Source


class Union:
    """The candidates of all sources for one query. `n` items, S sources; buffers are used again by the next query.

    `items` (n,): distinct item indices; `ranks` (S, n): place in the source's list, 1 is the first, 0 not in it;
    `scores` (S, n): the source's score (of all items if the fusion asks for it, else only where the rank is not 0). Kernels are
    given `rank_rows` and `score_rows`, whole arrays of which the first n columns count.
    """

    def __init__(self, sources: list[Source], k: int) -> None:
        self.sources = sources
        self.k = k
        width = max(1, len(sources) * k)
        self.found_items: npt.NDArray[np.int32] = np.zeros((len(sources), k), np.int32)
        self.found_scores: npt.NDArray[np.float64] = np.zeros((len(sources), k))
        self.counts: npt.NDArray[np.int64] = np.zeros(len(sources), np.int64)
        self._items: npt.NDArray[np.int32] = np.zeros(width, np.int32)
        self.rank_rows: npt.NDArray[np.int32] = np.zeros((len(sources), width), np.int32)
        self.score_rows: npt.NDArray[np.float64] = np.zeros((len(sources), width))
        self._place: npt.NDArray[np.int32] = np.full(16, -1, np.int32)
        self._gathering = Gathering(sources)
        self.n = 0

    def ensure(self, items: int) -> None:
        """Make place for so many items."""
        old = len(self._place)
        self._place = grown(self._place, items)
        self._place[old:] = -1

    def merge(self, query: Query, *, complete: bool) -> None:
        """Make the union of what the sources have written into `found_*`; `complete`: ask all for the scores of all."""
        self.n = _merge(
            self.found_items, self.found_scores, self.counts, self._place, self._items, self.rank_rows, self.score_rows,
            complete,
        )  # fmt: skip
        if complete and self.n:
            items, scores = self.items, self.scores
            self._gathering.gather(self._items, self.n, self.score_rows)
            for row, source in self._gathering.others:
                source.score(query, items, scores[row])

    @property
    def items(self) -> npt.NDArray[np.int32]:
        return self._items[: self.n]

    @property
    def ranks(self) -> npt.NDArray[np.int32]:
        return self.rank_rows[:, : self.n]

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        return self.score_rows[:, : self.n]


@kernel
def _merge(
    found: Array, found_scores: Array, counts: Array, place: Array, items: Array, ranks: Array, scores: Array, complete: bool
) -> int:  # fmt: skip
    """See `Union`; scores are left to those who write them for all items where these are asked for."""
    n = 0
    for s in range(len(counts)):
        for r in range(counts[s]):
            i = found[s, r]
            if place[i] < 0:
                place[i] = n
                items[n] = i
                n += 1
    for s in range(len(counts)):
        for x in range(n):
            ranks[s, x] = 0
        for r in range(counts[s]):
            ranks[s, place[found[s, r]]] = r + 1
    if not complete:
        for s in range(len(counts)):
            for x in range(n):
                scores[s, x] = 0.0
            for r in range(counts[s]):
                scores[s, place[found[s, r]]] = found_scores[s, r]
    for x in range(n):
        place[items[x]] = -1
    return n


class Fusion(Protocol):
    """How a union becomes one ranking."""

    complete: bool
    """Whether `Union.scores` must hold every source's score of every candidate."""
    learns: bool
    """Whether `learn` wants to be called: it costs a list per positive event."""

    def shares(self, union: Union, query: Query) -> npt.NDArray[np.float64]:
        """(S, n): each source's part of each candidate's score. Only reads. A buffer that the next call overwrites."""

    def learn(self, union: Union, query: Query, taken: int) -> None:
        """The user took item `taken` (an index; perhaps no candidate) when this union could have been offered: test, learn."""

    def note(self, taken: int) -> None:
        """Somebody took an item. Called for every positive event, after `learn` and also where that is not called."""

    def ensure(self, items: int) -> None:
        """Make place for so many items."""

    def forget_user(self, key: int) -> None:
        """Nothing may be known of the person whose id has this hash (`interning.key64`)."""

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""

    def forget_item(self, item: int) -> None:
        """The index will stand for another item."""


class ReciprocalRank(Kept):
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009): score = sum over sources of weight / (k + rank).

    Sources of one family that see the same thing at several time scales vote together, and so do echoes (`Source.echo_of`): each
    family's weights sum to the number of its kinds, not of its instances.
    """

    complete = False
    learns = False
    scratch = ("weights", "_shares")

    def __init__(self, config: Config, sources: list[Source]) -> None:
        self.k = config.rrf_k
        kinds = [source.echo_of or type(source).name for source in sources]
        self.weights: npt.NDArray[np.float64] = np.array([1.0 / kinds.count(kind) for kind in kinds])
        self._shares: npt.NDArray[np.float64] = np.zeros((len(sources), 0))

    def shares(self, union: Union, query: Query) -> npt.NDArray[np.float64]:
        self._shares = _sized(self._shares, union)
        _reciprocal(union.ranks, self.weights, self.k, self._shares)
        return self._shares[:, : union.n]

    def learn(self, union: Union, query: Query, taken: int) -> None:
        """Nothing: ranks are all there is."""

    def note(self, taken: int) -> None:
        """Nothing is known of single items."""

    def ensure(self, items: int) -> None:
        """Nothing is known of single items."""

    def forget_user(self, key: int) -> None:
        """Nothing is known of single people."""

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Nothing is held."""
        return {}

    def forget_item(self, item: int) -> None:
        """Nothing is known of single items."""


class Weighted(Kept):
    """The papers' fusion: alpha * collaborative + beta * (popularity and content) + gamma * text.

    Each source's scores are divided by their maximum among the candidates; the weight of a family is divided among its sources.
    """

    complete = True
    learns = False
    scratch = ("weights", "_shares")

    def __init__(self, config: Config, sources: list[Source]) -> None:
        weight_of = {
            Family.COLLABORATIVE: config.alpha, Family.POPULARITY: config.beta, Family.CONTENT: config.beta,
            Family.TEXT: config.gamma,
        }  # fmt: skip
        groups = [_group(source.family) for source in sources]
        self.weights: npt.NDArray[np.float64] = np.array(
            [weight_of[source.family] / groups.count(group) for source, group in zip(sources, groups, strict=True)]
        )
        self._shares: npt.NDArray[np.float64] = np.zeros((len(sources), 0))

    def shares(self, union: Union, query: Query) -> npt.NDArray[np.float64]:
        self._shares = _sized(self._shares, union)
        _weigh(union.scores, self.weights, self._shares)
        return self._shares[:, : union.n]

    def learn(self, union: Union, query: Query, taken: int) -> None:
        """Nothing: the weights are given."""

    def note(self, taken: int) -> None:
        """Nothing is known of single items."""

    def ensure(self, items: int) -> None:
        """Nothing is known of single items."""

    def forget_user(self, key: int) -> None:
        """Nothing is known of single people."""

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Nothing is held."""
        return {}

    def forget_item(self, item: int) -> None:
        """Nothing is known of single items."""


def _group(family: Family) -> Family:
    return Family.CONTENT if family is Family.POPULARITY else family


def _sized(shares: npt.NDArray[np.float64], union: Union) -> npt.NDArray[np.float64]:
    if shares.shape[1] > union.n:
        return shares
    return np.zeros((len(shares), 1 + max(union.n, 2 * shares.shape[1])))  # a slice is never the whole: one memory layout


@kernel
def _reciprocal(ranks: Array, weights: Array, k: float, out: Array) -> None:
    for s in range(ranks.shape[0]):
        for x in range(ranks.shape[1]):
            out[s, x] = weights[s] / (k + ranks[s, x]) if ranks[s, x] > 0 else 0.0


@kernel
def _weigh(scores: Array, weights: Array, out: Array) -> None:
    for s in range(scores.shape[0]):
        top = 0.0
        for x in range(scores.shape[1]):
            top = max(top, scores[s, x])
        for x in range(scores.shape[1]):
            out[s, x] = weights[s] * (scores[s, x] / top) if top > 0.0 else 0.0


def build(config: Config, sources: list[Source]) -> Fusion:
    """The fusion that the configuration names."""
    if config.fusion == "rrf":
        return ReciprocalRank(config, sources)
    if config.fusion == "weighted":
        return Weighted(config, sources)
    from models.fusion_learned import Learned  # here: it builds on this module

    return Learned(config, sources)
