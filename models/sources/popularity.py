"""Popularity: of all time, and with several half-lives of event time.

*All time*: the number of users whose profile holds the item.
*Trends*: sum over the users of an item of the largest weight * 2^(-(now - t) / half-life) among the user's positive events of it.

So a user counts once for an item, whatever they do with it, as what they do counts most now. Trends are exact: an event is worth
an integer that depends on its time and weight alone, as a multiple of the worth of an epoch of four half-lives; when the
high-water mark reaches the next epoch all are counted anew from the windows. So an event that is taken back leaves nothing
behind, and the order of events does not matter. The common factor 2^(-now / half-life) is left out: it changes no order and no
ratio.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from models.kernel import allocating_kernel, kernel
from models.rows import Array, grown
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, Step, gather_first
from models.sources.boards import Board, best, update

_EPOCH = 4
"""Half-lives from one counting anew to the next."""
_ABOVE = 8
"""Half-lives by which an epoch's base lies before its begin: what is older loses precision, and after 22 more counts nothing."""
_BITS = 12
"""Fraction bits of 2**(part of a half-life). An event of weight 1 counts < 2**21 at the base and < 2**33 at the end of the epoch,
so that an int64 holds more than 10**8 such events of weight 3."""


@kernel
def worth(ts: int, weight: int, half_life_ms: int, base: int) -> int:
    """What an event counts: weight * 2**(ts / half-life - base), in fixed point."""
    age = ts // half_life_ms - base
    value = int(2.0 ** ((ts % half_life_ms) / half_life_ms) * (1 << _BITS)) * weight
    if age >= 0:
        return value << age
    return value >> min(-age, 62)


@kernel
def _is_good(event: Any, item: int, positive_rating: int) -> bool:
    """Whether an event speaks for an item."""
    return bool(event.item == item and (event.kind != 2 or event.rating >= positive_rating))


@kernel
def _others(
    data: Array, rows: Array, profile: Array, profile_rows: Array, user: int, item: int, ts: int, kind: int, entered: bool,
    weights: Array, positive_rating: int, half_life_ms: int, base: int,
) -> int:  # fmt: skip
    """What the user's events of an item are worth without the one that has just entered or left."""
    size = profile_rows[user].size
    if entered and size > 0:
        newest = profile[profile_rows[user].start + size - 1]
        if newest.item == item and newest.count == 1:
            return 0
    best = 0
    start = rows[user].start
    for k in range(start + rows[user].size - 1, start - 1, -1):
        if not _is_good(data[k], item, positive_rating):
            continue
        if entered and data[k].ts == ts and data[k].kind == kind:
            entered = False
            continue
        best = max(best, worth(data[k].ts, weights[data[k].kind], half_life_ms, base))
    return best


@kernel
def _count(
    data: Array, rows: Array, profile: Array, profile_rows: Array, user: int, item: int, ts: int, kind: int, sign: int,
    weights: Array, positive_rating: int, half_life_ms: int, base: int, members: Array, at: Array, floor: Array,
    floor_key: Array, counts: Array, keys: Array, span: int, bound: int,
) -> None:  # fmt: skip
    """A positive event of an item has entered (`sign` 1) or left (-1) its user's window."""
    value = worth(ts, weights[kind], half_life_ms, base)
    others = _others(
        data, rows, profile, profile_rows, user, item, ts, kind, sign > 0, weights, positive_rating, half_life_ms, base
    )  # fmt: skip
    if value > others:
        counts[item] += sign * (value - others)
        update(members, at, floor, floor_key, counts, keys, item, span, bound)


@allocating_kernel
def _recount(
    data: Array, rows: Array, users: int, weights: Array, positive_rating: int, half_life_ms: int, base: int, out: Array
) -> None:  # fmt: skip
    """Count what every user's best event of each item is worth."""
    out[:] = 0
    best = np.zeros(len(out), np.int64)
    for u in range(users):
        start = rows[u].start
        for k in range(start, start + rows[u].size):
            item = data[k].item
            if item >= 0 and _is_good(data[k], item, positive_rating):
                best[item] = max(best[item], worth(data[k].ts, weights[data[k].kind], half_life_ms, base))
        for k in range(start, start + rows[u].size):
            item = data[k].item
            if item >= 0:
                out[item] += best[item]
                best[item] = 0


class _Ranked(Source):
    """What both have in common: an integer per item and a board of the best."""

    family = Family.POPULARITY
    kept: ClassVar[tuple[str, ...]] = ("board",)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.board = Board(self.config.board_items)

    @property
    @abstractmethod
    def counts(self) -> npt.NDArray[np.int64]:
        """The integer per item by which items are ranked."""

    def ensure(self, users: int, items: int) -> None:
        self.board.ensure(items)

    def _changed(self, item: int) -> None:
        self.board.update(self.counts, self.history.items.keys, item, self.history.items.span)

    def find(self, query: Query, found: Found) -> int:
        return best(
            self.board.members, self.board.floor, self.counts, query.open, query.seen, query.stamp, query.k,
            found.items, found.scores,
        )  # fmt: skip

    @property
    def spread(self) -> Array | None:
        return self.counts

    def sizes(self) -> dict[str, tuple[int, int]]:
        return {f"{self.name}_board": (int(self.board.floor[0]), 2 * self.board.bound)}


class Popularity(_Ranked):
    """By the number of users who have an item, of all time."""

    name = "popularity"
    grounds = Grounds("popular", pieces=False, number=True)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        return self.history.takers

    def after(self, step: Step) -> None:
        if step.joined or step.left:
            self._changed(step.item)

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        gather_first(self.counts, items, room.number)


class Trending(_Ranked):
    """By the users of late, weighted by what they did; one instance per half-life."""

    name = "trending"
    kept = ("epoch", "_counts")

    def __init__(self, state: State, half_life_hours: float) -> None:
        super().__init__(state)
        self.name = f"trending_{half_life_hours:g}h"
        self.grounds = Grounds("trending", pieces=False, common=f"{half_life_hours:g} h")
        self.half_life_ms = max(1, round(half_life_hours * 3_600_000))
        self.epoch = 0
        self._counts: npt.NDArray[np.int64] = np.zeros(16, np.int64)

    @classmethod
    def build(cls, state: State) -> list[Source]:
        return [cls(state, hours) for hours in state.config.half_lives_hours]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        return self._counts

    def ensure(self, users: int, items: int) -> None:
        super().ensure(users, items)
        self._counts = grown(self._counts, items)

    def after(self, step: Step) -> None:
        epoch = self.history.now_ms // (_EPOCH * self.half_life_ms)
        if epoch != self.epoch:
            self.epoch = epoch
            self._recount()
        elif step.positive:
            board, history = self.board, self.history
            windows, profiles = history.windows, history.profiles
            _count(
                windows.data, windows.rows, profiles.data, profiles.rows, step.user, step.item, step.timestamp_ms, step.kind,
                step.sign, history.weights, history.positive_rating, self.half_life_ms, self._base, board.members, board.at,
                board.floor, board.floor_key, self._counts, history.items.keys, history.items.span, board.bound,
            )  # fmt: skip

    @property
    def _base(self) -> int:
        return _EPOCH * self.epoch - _ABOVE

    def _recount(self) -> None:
        history = self.history
        _recount(
            history.windows.data, history.windows.rows, history.users.span, history.weights, history.positive_rating,
            self.half_life_ms, self._base, self._counts,
        )  # fmt: skip
        self.board.rebuild(self._counts, history.items.keys, history.items.span)

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        """Nothing more than the half-life."""
