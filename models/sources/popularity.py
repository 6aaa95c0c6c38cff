"""Popularity: of all time, and with several half-lives of event time.

*All time*: the number of users whose profile holds the item.
*Trends*: sum over the users of an item of the largest weight * 2^(-(now - t) / half-life) among the user's positive events of it.

So a user counts once for an item, whatever they do with it, as what they do counts most now. With `young_items`, accounts that
have done little else cannot lift an item alone: of those with fewer distinct items as many count in full as of the others, and of
what is beyond that a 64th. With n the users of an item (or what they are worth), y of them young:

    counts = n - y + min(y, n - y) + max(0, y - (n - y)) / 64

Trends are exact: an event is worth an integer that depends on its time and weight alone, as a multiple of the worth of an epoch
of four half-lives; when the high-water mark reaches the next epoch all are counted anew from the windows. So an event that is
taken back leaves nothing behind, and the order of events does not matter. The common factor 2^(-now / half-life) is left out:
it changes no order and no ratio.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Family, Found, Grounds, Query, Source, State, Step, gather, whole
from models.sources.boards import Board, best, update

_EPOCH = 4
"""Half-lives from one counting anew to the next."""
_ABOVE = 8
"""Half-lives by which an epoch's base lies before its begin: what is older loses precision, and after 22 more counts nothing."""
_COUNTS, _ALL, _YOUNG = 0, 1, 2
"""Rows of a trend's votes."""
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
def _ranks(everybody: int, young: int) -> int:
    """What an item counts by its users, in parts of 64: see the module."""
    others = everybody - young
    return 64 * (others + min(young, others)) + max(0, young - others)


@kernel
def _taken(
    profile: Array, profile_rows: Array, user: int, item: int, change: int, was_young: bool, is_young: bool,
    takers: Array, young: Array, members: Array, at: Array, floor: Array, floor_key: Array, counts: Array, keys: Array, span: int,
    bound: int,
) -> None:  # fmt: skip
    """An item has joined (`change` 1) or left (-1) the profile of a user; `takers` knows it already."""
    if was_young:
        young[item] += change
    counts[item] = _ranks(takers[item], young[item])
    update(members, at, floor, floor_key, counts, keys, item, span, bound)
    if was_young == is_young:
        return
    start = profile_rows[user].start
    for k in range(start, start + profile_rows[user].size):
        i = profile[k].item
        young[i] += 1 if is_young else -1
        counts[i] = _ranks(takers[i], young[i])
        update(members, at, floor, floor_key, counts, keys, i, span, bound)


@kernel
def _best(
    data: Array, rows: Array, user: int, item: int, ts: int, kind: int, weights: Array, positive_rating: int, half_life_ms: int,
    base: int,
) -> int:  # fmt: skip
    """What the best of the user's events of an item is worth, but for one of that time and kind."""
    best = 0
    start = rows[user].start
    for k in range(start + rows[user].size - 1, start - 1, -1):
        if data[k].item == item and (data[k].kind != 2 or data[k].rating >= positive_rating):
            if data[k].ts == ts and data[k].kind == kind:
                ts = -1
                continue
            best = max(best, worth(data[k].ts, weights[data[k].kind], half_life_ms, base))
    return best


@kernel
def _vote(votes: Array, item: int, value: int, young: bool) -> None:
    """Add to what an item has got."""
    votes[_ALL, item] += value
    if young:
        votes[_YOUNG, item] += value
    others = votes[_ALL, item] - votes[_YOUNG, item]
    votes[_COUNTS, item] = others + min(votes[_YOUNG, item], others) + (max(0, votes[_YOUNG, item] - others) >> 6)


@kernel
def _count(
    data: Array, rows: Array, user: int, item: int, ts: int, kind: int, sign: int, was_young: bool, is_young: bool,
    weights: Array, positive_rating: int, half_life_ms: int, base: int, votes: Array,
    members: Array, at: Array, floor: Array, floor_key: Array, keys: Array, span: int, bound: int,
) -> None:  # fmt: skip
    """An event of an item has entered (`sign` 1) or left (-1) its user's window; 0: it speaks for nothing."""
    counts = votes[_COUNTS]
    if sign != 0:
        value = worth(ts, weights[kind], half_life_ms, base)
        without = ts if sign > 0 else -1
        value -= _best(data, rows, user, item, without, kind, weights, positive_rating, half_life_ms, base)
        if value > 0:
            _vote(votes, item, sign * value, was_young)
            update(members, at, floor, floor_key, counts, keys, item, span, bound)
    if was_young == is_young:
        return
    start = rows[user].start
    for k in range(start, start + rows[user].size):
        i = data[k].item
        met = i < 0
        for before in range(start, k):
            met = met or data[before].item == i
            if met:
                break
        if not met:
            value = _best(data, rows, user, i, -1, 0, weights, positive_rating, half_life_ms, base)
            _vote(votes, i, -value, was_young)
            _vote(votes, i, value, is_young)
            update(members, at, floor, floor_key, counts, keys, i, span, bound)


@kernel
def _recount(
    data: Array, rows: Array, profile_rows: Array, users: int, least: int, weights: Array, positive_rating: int,
    half_life_ms: int, base: int, votes: Array,
) -> None:  # fmt: skip
    """Count what every user's best event of each item is worth; who has fewer than `least` items is young."""
    votes[:] = 0
    best = np.zeros(votes.shape[1], np.int64)
    for u in range(users):
        start = rows[u].start
        for k in range(start, start + rows[u].size):
            item = data[k].item
            if item >= 0 and (data[k].kind != 2 or data[k].rating >= positive_rating):
                best[item] = max(best[item], worth(data[k].ts, weights[data[k].kind], half_life_ms, base))
        for k in range(start, start + rows[u].size):
            item = data[k].item
            if item >= 0 and best[item] > 0:
                _vote(votes, item, best[item], profile_rows[u].size < least)
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

    def find(self, query: Query, found: Found) -> int:
        return best(
            self.board.members, self.board.floor, self.counts, query.open, query.seen, query.stamp, query.k,
            found.items, found.scores,
        )  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        gather(self.counts, items, out)

    def sizes(self) -> dict[str, tuple[int, int]]:
        return {f"{self.name}_board": (int(self.board.floor[0]), 2 * self.board.bound)}


class Popularity(_Ranked):
    """By the number of users who have an item, of all time. Counts are in parts of 64."""

    name = "popularity"
    kept = ("_counts", "young")

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._counts: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.young: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        """Of the users who have an item, those who have done little else."""

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        return self._counts

    def ensure(self, users: int, items: int) -> None:
        super().ensure(users, items)
        self._counts, self.young = grown(self._counts, items), grown(self.young, items)

    def after(self, step: Step) -> None:
        if step.joined or step.left:
            board, history = self.board, self.history
            _taken(
                history.profiles.data, history.profiles.rows, step.user, step.item, 1 if step.joined else -1, step.was_young,
                step.young, history.takers, self.young, board.members, board.at, board.floor, board.floor_key, self._counts,
                history.items.keys, history.items.span, board.bound,
            )  # fmt: skip

    def evidence(self, query: Query, items: npt.NDArray[np.int32]) -> Grounds:
        return Grounds("popular", whole(len(items)), number=self.history.takers[items].reshape(-1, 1))


class Trending(_Ranked):
    """By the users of late, weighted by what they did; one instance per half-life."""

    name = "trending"
    kept = ("epoch", "_votes")

    def __init__(self, state: State, half_life_hours: float) -> None:
        super().__init__(state)
        self.name = f"trending_{half_life_hours:g}h"
        self.half_life_hours = half_life_hours
        self.half_life_ms = max(1, round(half_life_hours * 3_600_000))
        self.epoch = 0
        self._votes: npt.NDArray[np.int64] = np.zeros((3, 16), np.int64)
        """Per item: what it counts, what all users' best events of it are worth, and those of the young among them."""

    @classmethod
    def build(cls, state: State) -> list[Source]:
        return [cls(state, hours) for hours in state.config.half_lives_hours]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        counts: npt.NDArray[np.int64] = self._votes[_COUNTS]
        return counts

    def ensure(self, users: int, items: int) -> None:
        super().ensure(users, items)
        self._votes = np.ascontiguousarray(grown(self._votes.T, items).T)

    def after(self, step: Step) -> None:
        history, board = self.history, self.board
        epoch = history.now_ms // (_EPOCH * self.half_life_ms)
        if epoch != self.epoch:
            self.epoch = epoch
            self._recount()
        elif step.positive or step.was_young != step.young:
            windows = history.windows
            _count(
                windows.data, windows.rows, step.user, step.item, step.timestamp_ms, step.kind, step.sign if step.positive else 0,
                step.was_young, step.young, history.weights, history.positive_rating, self.half_life_ms,
                _EPOCH * epoch - _ABOVE, self._votes, board.members, board.at, board.floor, board.floor_key,
                history.items.keys, history.items.span, board.bound,
            )  # fmt: skip

    def _recount(self) -> None:
        history = self.history
        _recount(
            history.windows.data, history.windows.rows, history.profiles.rows, history.users.span, self.config.young_items,
            history.weights, history.positive_rating, self.half_life_ms, _EPOCH * self.epoch - _ABOVE, self._votes,
        )  # fmt: skip
        self.board.rebuild(self.counts, history.items.keys, history.items.span)

    def evidence(self, query: Query, items: npt.NDArray[np.int32]) -> Grounds:
        return Grounds("trending", whole(len(items)), text=f"{self.half_life_hours:g} h")
