"""Counts of item pairs: for each item a small hash table of the items counted together with it.

A row is an open-addressing table (linear probing, load <= 3/4, capacity a power of two) whose empty cells are all 0, so that a
row can be added up without looking which cells are in use. Both directions of a pair are kept: reading never searches.

Bounds: `max_neighbours` per item, `max_pairs` cells in all. A full row lets its rarest eighth go and is marked in `overflowed`:
from then on it is an approximation and no part of the exact state.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.kept import Kept
from models.kernel import allocating_kernel, inlined, kernel, prefetch
from models.rows import Array, RowPool, class_of, give, grown, take

PAIR: Final = np.dtype([("item", "<i4"), ("count", "<i4")])
"""One neighbour: its index, and how many users have both. `count` 0: an empty cell."""


@inlined
def home(item: int, cap: int) -> int:
    """Where the search for an item begins (multiplicative hashing)."""
    return ((item * 2654435769) & 0xFFFFFFFF) * cap >> 32


@inlined
def lookup(data: Array, rows: Array, i: int, j: int) -> int:
    """How often `j` was counted together with `i`."""
    cap = rows[i].cap
    if cap == 0:
        return 0
    start = rows[i].start
    at = home(j, cap)
    while data[start + at].count != 0:
        if data[start + at].item == j:
            return int(data[start + at].count)
        at = (at + 1) & (cap - 1)
    return 0


@inlined
def ask_for(data: Array, rows: Array, i: int, j: int) -> None:
    """Say that `lookup` will be called soon (see `kernel.prefetch`)."""
    prefetch(data, rows[i].start + home(j, rows[i].cap))


@kernel
def neighbours(data: Array, rows: Array, i: int, out: Array) -> int:
    """Copy the used cells of a row into `out` (at least size + 1 cells) and return their number.

    Which cells are used cannot be predicted, so there is no branch on it: this is three times as fast as skipping empty cells.
    """
    start = rows[i].start
    row = data[start : start + rows[i].cap]
    n = np.uint64(0)
    for c in range(len(row)):
        out[n] = row[c]
        n += np.uint64(row[c].count != 0)
    return int(n)


@kernel
def _put(data: Array, start: int, cap: int, item: int, count: int) -> None:
    """Put a pair that is not there into a table with an empty cell."""
    at = home(item, cap)
    while data[start + at].count != 0:
        at = (at + 1) & (cap - 1)
    data[start + at].item = item
    data[start + at].count = count


@kernel
def _delete(data: Array, start: int, cap: int, at: int) -> None:
    """Empty a cell and close the gap: later cells of the same run move up, so that no search ends too early."""
    hole = at
    at = (at + 1) & (cap - 1)
    while data[start + at].count != 0:
        wanted = home(data[start + at].item, cap)
        if ((at - wanted) & (cap - 1)) >= ((at - hole) & (cap - 1)):
            data[start + hole] = data[start + at]
            hole = at
        at = (at + 1) & (cap - 1)
    data[start + hole].item = 0
    data[start + hole].count = 0


@kernel
def _rebuild(data: Array, start: int, cap: int, kept: Array, n: int) -> None:
    """Make the `n` pairs of `kept` the content of a table."""
    for k in range(start, start + cap):
        data[k].item = 0
        data[k].count = 0
    for k in range(n):
        _put(data, start, cap, kept[k].item, kept[k].count)


@allocating_kernel
def _shed(data: Array, rows: Array, i: int) -> int:
    """Let the rarest eighth of a row go (at least one pair; equally rare ones in the order of the table). Returns how many."""
    start = rows[i].start
    cap = rows[i].cap
    size = rows[i].size
    counts = np.empty(size, np.int32)
    n = 0
    for k in range(start, start + cap):
        if data[k].count != 0:
            counts[n] = data[k].count
            n += 1
    wanted = max(1, size // 8)
    limit = np.sort(counts)[wanted - 1]
    below = 0
    for k in range(n):
        below += counts[k] < limit
    ties = wanted - below
    kept = np.empty(size, data.dtype)
    n = 0
    for k in range(start, start + cap):
        count = data[k].count
        if count == 0 or count < limit:
            continue
        if count == limit and ties > 0:
            ties -= 1
            continue
        kept[n] = data[k]
        n += 1
    _rebuild(data, start, cap, kept, n)
    rows[i].size = n
    return int(size - n)


@kernel
def _grow(data: Array, rows: Array, free: Array, i: int) -> bool:
    """Double a table. False: `data` has no room."""
    cap = rows[i].cap
    size_class = class_of(max(4, 2 * cap))
    start = take(free, len(data), size_class)
    if start < 0:
        return False
    wider = max(4, 2 * cap)
    for k in range(start, start + wider):
        data[k].item = 0
        data[k].count = 0
    old = rows[i].start
    for k in range(old, old + cap):
        if data[k].count != 0:
            _put(data, start, wider, data[k].item, data[k].count)
    if cap > 0:
        give(free, class_of(cap), old)
    rows[i].start = start
    rows[i].cap = wider
    return True


@inlined
def bumped(data: Array, rows: Array, i: int, j: int, delta: int) -> bool:
    """Add to the count of `j` in the row of `i` if it is there and stays: what most changes are, done without a call."""
    cap = rows[i].cap
    if cap == 0:
        return False
    start = rows[i].start
    at = home(j, cap)
    while data[start + at].count != 0 and data[start + at].item != j:
        at = (at + 1) & (cap - 1)
    count = data[start + at].count
    if count == 0 or count + delta <= 0:
        return False
    data[start + at].count = count + delta
    return True


@kernel
def add(
    data: Array, rows: Array, free: Array, overflowed: Array, totals: Array, i: int, j: int, delta: int, bound: int, last: bool
) -> bool:
    """Add to the count of `j` in the row of `i`. False: memory is needed first (never with `last`, which sheds instead)."""
    cap = rows[i].cap
    start = rows[i].start
    if cap > 0:
        at = home(j, cap)
        while data[start + at].count != 0:
            if data[start + at].item == j:
                data[start + at].count += delta
                if data[start + at].count <= 0:
                    _delete(data, start, cap, at)
                    rows[i].size -= 1
                    totals[0] -= 1
                return True
            at = (at + 1) & (cap - 1)
    if delta < 0:
        return True  # the pair had been let go
    shed = 0
    if rows[i].size >= bound:
        shed = _shed(data, rows, i)
    elif 4 * (rows[i].size + 1) > 3 * cap and not _grow(data, rows, free, i):
        if not last:
            return False
        overflowed[i] = 1
        totals[1] += 1
        if cap == 0:
            return True
        shed = _shed(data, rows, i)
    if shed:
        overflowed[i] = 1
        totals[0] -= shed
        totals[1] += shed
    _put(data, rows[i].start, rows[i].cap, j, delta)
    rows[i].size += 1
    totals[0] += 1
    return True


@kernel
def count_pairs(
    data: Array, rows: Array, free: Array, overflowed: Array, totals: Array,
    item: int, profile: Array, begin: int, delta: int, bound: int, last: bool,
) -> int:  # fmt: skip
    """Add `delta` to all pairs of `item` with the other items of a profile, from place `begin`. Returns the place where memory
    ran out (to go on there; half a pair is never counted), or -1 when all is done."""
    for k in range(begin, len(profile)):
        j = profile[k].item
        prefetch(data, rows[j].start + home(item, rows[j].cap))
    for k in range(begin, len(profile)):
        j = profile[k].item
        if j == item:
            continue
        if not bumped(data, rows, item, j, delta) and not add(data, rows, free, overflowed, totals, item, j, delta, bound, last):
            return k
        if not bumped(data, rows, j, item, delta) and not add(data, rows, free, overflowed, totals, j, item, delta, bound, last):
            add(data, rows, free, overflowed, totals, item, j, -delta, bound, last)
            return k
    return -1


class Pairs(Kept):
    """The table and its growth."""

    kept = ("pool", "overflowed", "totals")

    def __init__(self, max_pairs: int, max_neighbours: int) -> None:
        self.pool = RowPool(PAIR, max_pairs)
        self.overflowed: npt.NDArray[np.uint8] = np.zeros(16, np.uint8)
        """Per item: 1 once a pair has been let go."""
        self.totals: npt.NDArray[np.int64] = np.zeros(2, np.int64)
        """Pairs held (both directions), pairs let go."""
        self.max_neighbours = max_neighbours

    def ensure(self, items: int) -> None:
        """Make place for so many items."""
        if items > len(self.overflowed):
            self.overflowed = grown(self.overflowed, items)
            self.pool.rows_for(len(self.overflowed))

    def count(self, item: int, profile: Array, delta: int) -> None:
        """Add `delta` to the pairs of `item` with every other item of `profile` (`PROFILE`)."""
        pool, begin, last = self.pool, 0, False
        pool.room_for(4)
        while begin >= 0:
            begin = count_pairs(
                pool.data, pool.rows, pool.free, self.overflowed, self.totals,
                item, profile, begin, delta, self.max_neighbours, last,
            )  # fmt: skip
            if begin >= 0:
                held = len(pool.data)
                pool.room_for(held)
                last = len(pool.data) == held

    def row(self, item: int) -> Array:
        """The neighbours of an item (`PAIR`), a copy in no order."""
        start, cap = int(self.pool.rows[item]["start"]), int(self.pool.rows[item]["cap"])
        cells = self.pool.data[start : start + cap]
        return cells[cells["count"] > 0]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"pair_cells": (self.pool.used, self.pool.max_cells)}
