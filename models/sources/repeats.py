"""Repeats: the user's own items, where people come back to what they had (see `models.habit`).

score(i) = sqrt(number of its positive events in the window) * decay^(newer items of the profile)

The shape follows Anderson, Kumar, Tomkins & Vassilvitskii (WWW 2014): what is consumed again depends on recency first and on
frequency less than linearly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import kernel
from models.rows import Array
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, allowed, push, settle


@kernel
def _score(profile: Array, decay: float, scores: Array) -> None:
    weight = 1.0
    for x in range(len(profile) - 1, -1, -1):
        scores[x] = weight * np.sqrt(float(profile[x].count))
        weight *= decay


@kernel
def _find(
    profile: Array, own: Array, open_items: Array, seen: Array, stamp: int, keys: Array, k: int, items: Array, scores: Array
) -> int:  # fmt: skip
    m = 0
    for x in range(len(profile)):
        i = profile[x].item
        if own[x] > 0.0 and allowed(i, open_items, seen, stamp):
            m = push(items, scores, keys, m, k, i, own[x])
    settle(items, scores, keys, m)
    return m


@kernel
def _lookup(profile: Array, own: Array, items: Array, out: Array) -> None:
    for x in range(len(items)):
        out[x] = 0.0
        for p in range(len(profile)):
            if profile[p].item == items[x]:
                out[x] = own[p]


@kernel
def _times(profile: Array, items: Array, out: Array) -> None:
    """How often the user took each of the items."""
    for x in range(len(items)):
        out[x, 0] = 0
        for p in range(len(profile)):
            if profile[p].item == items[x]:
                out[x, 0] = profile[p].count


class Repeats(Source):
    """See the module. Reads the profile, counts nothing of its own."""

    name = "repeats"
    grounds = Grounds("again", pieces=False, item=True, number=True)
    family = Family.COLLABORATIVE
    scratch = ("_own",)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._own: npt.NDArray[np.float64] = np.zeros(self.config.window_events)

    def find(self, query: Query, found: Found) -> int:
        if not query.repeats:
            return 0
        own = self._own[: len(query.profile)]
        _score(query.profile, self.config.repeats_decay, own)
        return int(_find(
            query.profile, own, query.open, query.seen, query.stamp, self.history.items.keys, query.k, found.items, found.scores
        ))  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        if not query.repeats:
            out[:] = 0.0
            return
        _lookup(query.profile, self._own, items, out)

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        room.item[: len(items), 0] = items
        _times(query.profile, items, room.number)
