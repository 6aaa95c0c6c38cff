"""A place for newcomers, at a stated price.

A ranking learned from what people take buries items that few have met: they score low, are not shown, and stay unknown. So where
a list would hold no item with fewer than `newcomer_events` events, its last place goes to the most probable such candidate, but
only if that costs little: with p the learned fusion's probabilities,

    p(displaced) - p(newcomer) <= newcomer_price * (sum of p over the list)

The price bounds the hits expected to be lost in every single list. Nothing is drawn at random: the list of a state is always the
same. Where no candidate is that close, and in lists of fewer than five places, everything stays as it is.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.history import History
from models.kernel import kernel
from models.rerank import Reranked
from models.rows import Array
from models.sources.base import Query, allowed

NOTE: Final = "newcomer"
SHORTEST: Final = 5
"""Shorter lists have no place to spare."""


@kernel
def _seat(
    items: Array, shares: Array, listed: Array, listed_shares: Array, events: Array, young: int, price: float, keys: Array,
    open_items: Array, seen: Array, stamp: int,
) -> int:  # fmt: skip
    """Place in `items` of the newcomer for the last line, or -1: none is close enough, or one is listed anyway."""
    total = 0.0
    least = 0.0
    for x in range(len(listed)):
        if events[listed[x]] < young:
            return -1
        least = listed_shares[:, x].sum()
        total += least
    best = -1
    score = 0.0
    for x in range(len(items)):
        i = items[x]
        if events[i] >= young or not allowed(i, open_items, seen, stamp):
            continue
        p = 0.0
        for s in range(shares.shape[0]):
            p += shares[s, x]
        if p > score or (best >= 0 and p == score and keys[i] < keys[items[best]]):
            best = x
            score = p
    return best if best >= 0 and least - score <= price * total else -1


class Newcomers:
    """The last stage before explanation. Holds nothing but what it was given; only reads."""

    def __init__(self, config: Config, history: History) -> None:
        self.config, self.history = config, history

    def seat(
        self, ranked: Reranked, items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], query: Query, n: int
    ) -> Reranked:  # fmt: skip
        """The list with a newcomer in its last place, if there is a candidate (`items` (m,), `shares` (S, m)) worth its price.

        Lists that are not full, or whose last line a rule or variety has put there, stay as they are.
        """
        if self.config.newcomer_price == 0 or n < SHORTEST or len(ranked.items) < n or ranked.notes[-1]:
            return ranked
        place = int(_seat(
            items, shares, ranked.items, ranked.shares, self.history.item_events, self.config.newcomer_events,
            self.config.newcomer_price, self.history.items.keys, query.open, query.seen, query.stamp,
        ))  # fmt: skip
        if place < 0:
            return ranked
        listed, parts = ranked.items.copy(), ranked.shares.copy()
        listed[-1], parts[:, -1] = items[place], shares[:, place]
        return Reranked(listed, parts, [*ranked.notes[:-1], NOTE], ranked.price)
