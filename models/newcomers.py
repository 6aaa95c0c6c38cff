"""A place for newcomers, at a stated price.

A ranking learned from what people take buries items that few have met: they score low, are not shown, and stay unknown. So where
a list would hold no item with fewer than `newcomer_events` events, its last place goes to the most probable such candidate, but
only if that costs little: with p the learned fusion's probabilities,

    p(displaced) - p(newcomer) <= newcomer_price * (sum of p over the list)

The price bounds the hits expected to be lost in every single list. Where no candidate is that close, and in lists of fewer than
five places, everything stays as it is.

*Exploration.* If only the most probable newcomer were shown, nothing would be learned of the others. With a part e =
`newcomer_draw` of all requests the place is drawn among all N that are close enough, in proportion to p, so that the one seated
had the propensity

    (1 - e) [it is the most probable] + e * p / (sum of p over N)

which its line says: what is clicked there can be weighed by its inverse (Horvitz & Thompson 1952; Li et al., WSDM 2011). The draw
is a hash of the user, the time of the request and the number of events so far: the list of a state is always the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.history import History
from models.kernel import allocating_kernel, inlined, kernel
from models.rerank import Reranked, add_up
from models.rows import Array
from models.sources.base import Query, allowed

NOTE: Final = "newcomer"
SHORTEST: Final = 5
"""Shorter lists have no place to spare."""


@kernel
def _close(
    items: Array, shares: Array, listed: Array, listed_shares: Array, events: Array, young: int, price: float, keys: Array,
    open_items: Array, seen: Array, stamp: int, near: Array,
) -> tuple[int, float]:  # fmt: skip
    """Place in `items` of the most probable newcomer that is close enough to the last line, and the sum of p over all that are;
    each one's p into `near` (m,), 0 for others. -1: none is, or one is listed anyway."""
    total = 0.0
    least = 0.0
    for x in range(len(listed)):
        if events[listed[x]] < young:
            return -1, 0.0
        least = listed_shares[:, x].sum()
        total += least
    mass = 0.0
    best = -1
    add_up(shares, near)
    for x in range(len(items)):
        i, p = items[x], near[x]
        near[x] = 0.0
        if events[i] >= young or not allowed(i, open_items, seen, stamp):
            continue
        if p <= 0.0 or least - p > price * total:
            continue
        near[x] = p
        mass += p
        if best < 0 or p > near[best] or (p == near[best] and keys[i] < keys[items[best]]):
            best = x
    return best, mass


@allocating_kernel
def _at(depth: float, near: Array, items: Array, keys: Array, best: int) -> int:
    """The place at which the sum of `near`, taken in the order of the items' keys, passes `depth`."""
    held = np.flatnonzero(near)
    order = held[np.argsort(keys[items[held]])]
    passed = 0.0
    for x in order:
        passed += near[x]
        if passed > depth:
            return int(x)
    return best


@inlined
def _mixed(bits: np.uint64) -> np.uint64:
    """Numbers that differ in one bit become as different as any two: the last steps of SplitMix64 (Steele, Lea & Flood 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@kernel
def _lot(user: np.uint64, at_ms: int, events: int) -> float:
    """A number from 0 to 1 (which it never is) that this request in this state always has."""
    bits = _mixed(_mixed(_mixed(user) + np.uint64(at_ms)) + np.uint64(events))
    return float(bits >> np.uint64(11)) / 9007199254740992.0


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
        history, config = self.history, self.config
        near: npt.NDArray[np.float64] = np.empty(len(items))
        best, mass = _close(
            items, shares, ranked.items, ranked.shares, history.item_events, config.newcomer_events, config.newcomer_price,
            history.items.keys, query.open, query.seen, query.stamp, near,
        )  # fmt: skip
        if best < 0:
            return ranked
        place, draw, drawn = best, config.newcomer_draw, _lot(np.uint64(query.key), query.at_ms, history.events)
        if drawn < draw:  # drawn / draw is again a number from 0 to 1, and walks through the near ones in the order of their keys
            place = _at(drawn / draw * mass, near, items, history.items.keys, best)
        propensity = (1.0 - draw) * (place == best) + draw * near[place] / mass
        listed, parts = ranked.items.copy(), ranked.shares.copy()
        listed[-1], parts[:, -1] = items[place], shares[:, place]
        return Reranked(listed, parts, [*ranked.notes[:-1], NOTE], ranked.price, float(propensity))
