"""A board: the items with the largest of many integer scores, kept ready while the scores change one at a time.

The board is exact and in order: whatever is not on it is not better than anything on it. When scores fall (events are taken back)
the board shrinks, and is made anew from all scores once half of it is gone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kept import Kept
from models.kernel import allocating_kernel, kernel
from models.rows import Array, grown
from models.sources.base import allowed

_SIZE, _HAS_FLOOR, _FLOOR = 0, 1, 2


@kernel
def _better(scores: Array, keys: Array, a: int, b: int) -> bool:
    return bool(scores[a] > scores[b] or (scores[a] == scores[b] and keys[a] < keys[b]))


@kernel
def _above_floor(scores: Array, keys: Array, floor: Array, floor_key: Array, item: int) -> bool:
    """Whether an item is better than everything that has ever been left off the board."""
    return bool(
        scores[item] > 0
        and (
            floor[_HAS_FLOOR] == 0
            or scores[item] > floor[_FLOOR]
            or (scores[item] == floor[_FLOOR] and keys[item] < floor_key[0])
        )
    )


@kernel
def _cut(members: Array, at: Array, floor: Array, floor_key: Array, scores: Array, keys: Array, bound: int) -> None:
    """Keep the best `bound` members of a full board in order; the best of the others becomes the floor."""
    for x in range(bound, floor[_SIZE]):
        at[members[x]] = -1
    floor[_SIZE] = bound
    floor[_HAS_FLOOR] = 1
    floor[_FLOOR] = scores[members[bound]]
    floor_key[0] = keys[members[bound]]


@allocating_kernel
def _order(members: Array, at: Array, floor: Array, scores: Array, keys: Array) -> None:
    """Put all members in order, the best first."""
    found = members[: floor[_SIZE]]
    found[:] = found[np.argsort(keys[found])]
    found[:] = found[np.argsort(-scores[found], kind="mergesort")]
    for x in range(len(found)):
        at[found[x]] = x


@kernel
def _rebuild(
    members: Array, at: Array, floor: Array, floor_key: Array, scores: Array, keys: Array, span: int, bound: int
) -> None:  # fmt: skip
    """Fill the board from all scores."""
    floor[_SIZE] = 0
    floor[_HAS_FLOOR] = 0
    for item in range(span):
        at[item] = -1
        if _above_floor(scores, keys, floor, floor_key, item):
            members[floor[_SIZE]] = item
            floor[_SIZE] += 1
            if floor[_SIZE] == len(members):
                _order(members, at, floor, scores, keys)
                _cut(members, at, floor, floor_key, scores, keys, bound)
    _order(members, at, floor, scores, keys)


@kernel
def update(
    members: Array, at: Array, floor: Array, floor_key: Array, scores: Array, keys: Array, item: int, span: int, bound: int
) -> None:  # fmt: skip
    """The score of one item has changed."""
    place = at[item]
    if not _above_floor(scores, keys, floor, floor_key, item):
        if place >= 0:
            floor[_SIZE] -= 1
            for x in range(place, floor[_SIZE]):
                members[x] = members[x + 1]
                at[members[x]] = x
            at[item] = -1
            if floor[_HAS_FLOOR] != 0 and floor[_SIZE] < bound // 2:
                _rebuild(members, at, floor, floor_key, scores, keys, span, bound)
        return
    if place < 0:
        place = floor[_SIZE]
        floor[_SIZE] += 1
    while place > 0 and _better(scores, keys, item, members[place - 1]):
        members[place] = members[place - 1]
        at[members[place]] = place
        place -= 1
    while place + 1 < floor[_SIZE] and _better(scores, keys, members[place + 1], item):
        members[place] = members[place + 1]
        at[members[place]] = place
        place += 1
    members[place] = item
    at[item] = place
    if floor[_SIZE] == len(members):
        _cut(members, at, floor, floor_key, scores, keys, bound)


@kernel
def best(
    members: Array, floor: Array, scores: Array, open_items: Array, seen: Array, stamp: int, k: int, items: Array, found: Array
) -> int:  # fmt: skip
    """The best `k` allowed items of the board into `items`, their scores into `found`."""
    m = 0
    for x in range(floor[_SIZE]):
        i = members[x]
        if m == k:
            break
        if allowed(i, open_items, seen, stamp):
            items[m] = i
            found[m] = float(scores[i])
            m += 1
    return m


class Board(Kept):
    """Up to 2 `bound` of the best items in order (equal scores by key). Derived from the scores, but not at once."""

    kept = ("members", "at", "floor", "floor_key")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.members: npt.NDArray[np.int32] = np.zeros(2 * bound, np.int32)
        self.at: npt.NDArray[np.int32] = np.full(16, -1, np.int32)
        self.floor: npt.NDArray[np.int64] = np.zeros(3, np.int64)
        self.floor_key: npt.NDArray[np.uint64] = np.zeros(1, np.uint64)

    def ensure(self, items: int) -> None:
        """Make place for so many items."""
        old = len(self.at)
        self.at = grown(self.at, items)
        self.at[old:] = -1

    def update(self, scores: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], item: int, span: int) -> None:
        """The score of one item has changed; `span` items have one."""
        update(self.members, self.at, self.floor, self.floor_key, scores, keys, item, span, self.bound)

    def rebuild(self, scores: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], span: int) -> None:
        """Many scores have changed."""
        _rebuild(self.members, self.at, self.floor, self.floor_key, scores, keys, span, self.bound)
