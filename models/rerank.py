"""From fused shares to the list: the best items in a fixed order, or an order that also obeys rules, variety and calibration.

Filters that hold for every list are applied before, by the sources (`Query.open`, `Query.seen`), so that no candidate is wasted
on what cannot be shown.

*Rank and score.* A line's score, its shares and the weights of its reasons are always those of the fusion; nothing here changes
them. Without rules, diversity and calibration (the default) ranks follow scores. With them they need not, and a line that stands
above a candidate of a higher score says why in one more reason, of weight 0, so that the sums hold: `pinned`, `rule` (a boost, or
the lowering of others, put it there) or `variety` (diversity or calibration did). See `models.greedy` for how places are given,
and `models.rules` for rules. A pinned item that no source has found has the score 0 and no shares.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import structs

from models import calibration, diversity, greedy
from models.catalogue import Catalogue
from models.config import Config
from models.events import Evidence, Recommended
from models.history import History
from models.kept import Kept
from models.kernel import kernel
from models.rows import Array
from models.rulebook import RuleBook
from models.sources.base import Query, allowed
from models.vectors import Vectors


@kernel
def add_up(shares: Array, out: Array) -> None:
    """Sums over the sources, (S, n) -> (n,): row by row, as the shares lie."""
    out[:] = 0.0
    for s in range(shares.shape[0]):
        for x in range(shares.shape[1]):
            out[x] += shares[s, x]


@kernel
def _best(
    items: Array, shares: Array, keys: Array, open_items: Array, seen: Array, stamp: int, scores: Array, order: Array,
    totals: Array, listed: Array, parts: Array,
) -> int:  # fmt: skip
    """The best candidates (at most len(order)), the best first, equal scores by key: their places into `order`, themselves into
    `listed` and their shares into `parts`; how many. Insertion: lists are short. Scratch: `scores` (n,)."""
    n = 0
    bound = len(order)
    add_up(shares, scores)
    for x in range(len(items)):
        total = scores[x]
        if total <= 0.0 or not allowed(items[x], open_items, seen, stamp):
            continue
        if n == bound and not _before(total, keys[items[x]], totals[n - 1], keys[items[order[n - 1]]]):
            continue
        place = n if n < bound else n - 1
        n = min(n + 1, bound)
        while place > 0 and _before(total, keys[items[x]], totals[place - 1], keys[items[order[place - 1]]]):
            totals[place] = totals[place - 1]
            order[place] = order[place - 1]
            place -= 1
        totals[place] = total
        order[place] = x
    for y in range(n):
        listed[y] = items[order[y]]
    for s in range(shares.shape[0]):
        for y in range(n):
            parts[s, y] = shares[s, order[y]]
    return n


@kernel
def _before(score: float, key: np.uint64, other: float, other_key: np.uint64) -> bool:
    return bool(score > other or (score == other and key < other_key))


def best(
    items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64], n: int,
    open_items: npt.NDArray[np.uint8], seen: npt.NDArray[np.int64], stamp: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:  # fmt: skip
    """The at most `n` best of `items` that may be shown and have a score above 0, the best first, and their shares (S, n)."""
    listed, parts, scores = np.empty(n, np.int32), np.empty((len(shares), n)), np.empty(len(items))
    count = _best(items, shares, keys, open_items, seen, stamp, scores, np.empty(n, np.int64), np.empty(n), listed, parts)
    return (listed, parts) if count == n else (listed[:count], parts[:, :count].copy())


# ------------------------------------------------------------------------------------------------ with wishes
NOTES: Final[dict[int, str]] = {greedy.PINNED: "pinned", greedy.RULE: "rule", greedy.VARIETY: "variety"}
"""Why a line stands where it does -> kind of the reason that says so."""


class Reranked(NamedTuple):
    """A list: `items` (n,), their `shares` (S, n), and for each why it stands there (see `NOTES`; "": its score)."""

    items: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float64]
    notes: list[str]
    price: float
    """The part of the values (scores times factors of rules) that the list gives up against the best one the rules allow, 0 to
    `Config.rerank_price`."""
    propensity: float | None = None
    """Where a newcomer has the last place: how probable it was to be this one (see `models.newcomers`)."""


class Rerank(Kept):
    """The stage between fusion and explanation. Holds nothing but what it was given; only reads."""

    scratch = ("rules", "_book", "_no_similarity")

    def __init__(self, config: Config, history: History, catalogue: Catalogue, vectors: Vectors) -> None:
        self.config, self.history, self.catalogue, self.vectors = config, history, catalogue, vectors
        self.rules = config.rules()
        self._book = RuleBook(self.rules, history.items, catalogue)
        self._wishes = self.rules.any or config.diversity > 0 or config.calibration > 0
        self._no_similarity: npt.NDArray[np.float64] = np.zeros((0, 0))

    def rank(self, items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], query: Query, n: int) -> Reranked:
        """The list of at most `n` of the candidates `items` (m,) with their `shares` (S, m)."""
        if not self._wishes:
            listed, parts = best(items, shares, self.history.items.keys, n, query.open, query.seen, query.stamp)
            return Reranked(listed, parts, [""] * len(listed), 0.0)
        return self._rank(*self._pool(items, shares, query, n), query, n)

    def _pool(
        self, items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], query: Query, n: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
        """Pinned items, then the candidates that may be shown, the largest value first; their shares, values and the number of
        pinned ones. Where similarity or calibration are looked at, `rerank_candidates` bounds their number."""
        pins = [i for i in self._book.pins() if query.open[i] and query.seen[i] != query.stamp][:n]
        values = shares.sum(axis=0) * self._book.factors(items)
        may = (values > 0.0) & (query.open[items] != 0) & (query.seen[items] != query.stamp) & ~np.isin(items, pins)
        places = np.flatnonzero(may)
        places = places[np.lexsort((self.history.items.keys[items[places]], -values[places]))]
        if self.config.diversity > 0 or self.config.calibration > 0:
            places = places[: max(n, self.config.rerank_candidates)]
        pinned = np.zeros((len(shares), len(pins)))
        for k, item in enumerate(pins):
            at = np.flatnonzero(items == item)
            if len(at):
                pinned[:, k] = shares[:, at[0]]
        return (
            np.concatenate((np.array(pins, np.int32), items[places])), np.concatenate((pinned, shares[:, places]), axis=1),
            np.concatenate((pinned.sum(axis=0), values[places])), len(pins),
        )  # fmt: skip

    def _rank(
        self, items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], values: npt.NDArray[np.float64], pins: int,
        query: Query, n: int,
    ) -> Reranked:  # fmt: skip
        config = self.config
        taken = query.profile["item"][-config.calibration_items :].astype(np.int32)
        mix = calibration.mix(self.catalogue, items, taken)
        calibrate = config.calibration if mix.target.any() else 0.0
        similar = self._no_similarity
        if config.diversity > 0:
            by_vectors = config.diversity_by == "vectors"
            similar = diversity.by_vectors(self.vectors, items) if by_vectors else diversity.by_categories(mix)
        order, notes = np.zeros(min(n, len(items)), np.int64), np.zeros(min(n, len(items)), np.int64)
        length, most, spent = greedy.greedy(
            values, shares.sum(axis=0), self.history.items.keys[items], pins, len(order), similar, config.diversity,
            mix.starts, mix.members, mix.target, calibrate, self._book.caps()[mix.categories], config.rerank_price, order, notes,
        )  # fmt: skip
        order = order[:length]
        why = [NOTES.get(note, "") for note in notes[:length].tolist()]
        return Reranked(items[order], np.ascontiguousarray(shares[:, order]), why, 1.0 - spent / most if most > 0 else 0.0)


def noted(lines: list[Recommended], ranked: Reranked) -> list[Recommended]:
    """The explained list with one more reason for each line that does not stand where its score would put it."""
    if any(ranked.notes):
        for line, note in zip(lines, ranked.notes, strict=True):
            if note:
                line.reasons.append(Evidence(kind=note, weight=0.0))
    if ranked.propensity is not None:
        lines[-1] = structs.replace(lines[-1], propensity=ranked.propensity)
    return lines
