"""Rows of variable capacity in one pool: memory follows use, freed blocks are used again.

A pool is three arrays, which is also how kernels take it:

- `data`: the cells of all rows, any dtype;
- `rows`: per row `start`, `cap` (0 or one of 4, 6, 8, 12, 16, 24 ...), `size` (cells in use);
- `free`: `free[0, 0]` is the end of the used part of `data`, `free[0, 1]` the cells before it that are in no list; for size class
  c (capacity `cells_of(c)`) `free[c, 0]` is the number of free blocks and `free[c, 1:]` their starts.

Where `data` is too short, it grows by a quarter; where an eighth of it lies in free blocks, all rows are moved together first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.kept import Kept, Saved, Value, fitting
from models.kernel import allocating_kernel, kernel

Array = npt.NDArray[Any]

ROW: Final = np.dtype([("start", "<i8"), ("cap", "<i4"), ("size", "<i4")])
_LINE: Final = 64
"""Bytes of a cache line."""
CLASSES: Final = 39
"""Capacities 4 .. 2**21."""
LISTED: Final = 1024
"""Free blocks of one size class that are remembered, in large pools one in `_PER_LISTED` cells; others are found again when rows
are moved together."""
_PER_LISTED: Final = 2048


def grown(array: Array, length: int, bound: int | None = None) -> Array:
    """`array` with at least `length` entries along the first axis, doubling, new ones 0. The same object if it is long enough."""
    if length <= len(array):
        return array
    size = max(length, 2 * len(array), 16)
    if bound is not None:
        size = max(length, min(size, bound))
    out = np.zeros((size, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


def aligned(rows: int, columns: int) -> npt.NDArray[np.float64]:
    """All 0, (rows, columns), beginning where a cache line does: a row of 4 or 8 numbers lies in one."""
    raw = np.zeros(rows * columns * 8 + _LINE, np.uint8)
    begin = -raw.ctypes.data % _LINE
    return raw[begin : begin + rows * columns * 8].view(np.float64).reshape(rows, columns)


def listed(cells: int) -> int:
    """Free blocks of one size class that a pool of so many cells remembers."""
    return max(LISTED, cells // _PER_LISTED)


@kernel
def cells_of(size_class: int) -> int:
    """Capacity of the blocks of a size class."""
    return (2 + ((size_class - 1) & 1)) << ((size_class + 1) // 2)


@kernel
def class_of(cells: int) -> int:
    """The smallest size class that holds so many cells."""
    size_class = 1
    while cells_of(size_class) < cells:
        size_class += 1
    return size_class


@kernel
def give(free: Array, size_class: int, start: int) -> None:
    """Put a block back. A full list loses it (see `LISTED`)."""
    n = free[size_class, 0] + 1
    if n < free.shape[1]:
        free[size_class, n] = start
        free[size_class, 0] = n
    else:
        free[0, 1] += cells_of(size_class)


@kernel
def take(free: Array, length: int, size_class: int) -> int:
    """Start of a block of a size class, or -1 if `data` (of `length` cells) has no room for it."""
    n = free[size_class, 0]
    if n > 0:
        start = free[size_class, n]
        free[size_class, n] = 0  # whatever is in no list is 0, so that equal pools are equal in every number
        free[size_class, 0] = n - 1
        return int(start)
    start = free[0, 0]
    cells = cells_of(size_class)
    if start + cells <= length:
        free[0, 0] = start + cells
        return int(start)
    larger = size_class + 1
    while larger < free.shape[0] and free[larger, 0] == 0:
        larger += 1
    if larger == free.shape[0]:
        return -1
    n = free[larger, 0]
    start = free[larger, n]
    free[larger, n] = 0
    free[larger, 0] = n - 1
    rest = cells_of(larger) - cells  # of the larger block, goes back in the largest parts there are
    for c in range(larger - 1, 0, -1):
        while rest >= cells_of(c):
            rest -= cells_of(c)
            give(free, c, start + cells + rest)
    free[0, 1] += rest
    return int(start)


@kernel
def _wasted(free: Array) -> int:
    """Cells in free blocks."""
    total = free[0, 1]
    for c in range(1, free.shape[0]):
        total += free[c, 0] * cells_of(c)
    return int(total)


@kernel
def _move(data: Array, rows: Array, out: Array) -> int:
    """Move all rows together into `out`; returns the end of the used part."""
    end = 0
    for r in range(len(rows)):
        start = rows[r].start
        for k in range(rows[r].cap):
            out[end + k] = data[start + k]
        rows[r].start = end
        end += rows[r].cap
    return end


@allocating_kernel
def _wipe(data: Array, rows: Array, order: Array, end: int) -> None:
    """Empty all cells before `end` that belong to no row; `order` are the rows by their start."""
    begin = 0
    for r in order:
        if rows[r].cap > 0:
            data[begin : rows[r].start] = np.zeros(1, data.dtype)[0]
            begin = rows[r].start + rows[r].cap
    data[begin:end] = np.zeros(1, data.dtype)[0]


@kernel
def reserve(data: Array, rows: Array, free: Array, r: int, cells: int) -> bool:
    """Give row `r` room for `cells` cells, its content kept in order. False if `data` is too short."""
    cap = rows[r].cap
    if cells <= cap:
        return True
    size_class = class_of(cells)
    start = take(free, len(data), size_class)
    if start < 0:
        return False
    old = rows[r].start
    for k in range(rows[r].size):
        data[start + k] = data[old + k]
    if cap > 0:
        give(free, class_of(cap), old)
    rows[r].start = start
    rows[r].cap = cells_of(size_class)
    return True


@kernel
def release(rows: Array, free: Array, r: int) -> None:
    """Empty row `r` and give its block back."""
    if rows[r].cap > 0:
        give(free, class_of(rows[r].cap), rows[r].start)
    rows[r].start = 0
    rows[r].cap = 0
    rows[r].size = 0


class RowPool(Kept):
    """The arrays of a pool and their growth. At most `max_cells` cells."""

    kept = ("data", "rows", "free")

    def __init__(self, dtype: npt.DTypeLike, max_cells: int) -> None:
        self.data: Array = np.zeros(min(1024, max_cells), dtype)
        self.rows: Array = np.zeros(16, ROW)
        self.free: Array = np.zeros((CLASSES + 1, listed(len(self.data)) + 1), np.int64)
        self.max_cells = max_cells

    @property
    def used(self) -> int:
        """Cells handed out so far (free blocks included)."""
        return int(self.free[0, 0])

    @property
    def free_cells(self) -> int:
        """Cells at the end that have never been handed out."""
        return len(self.data) - self.used

    def rows_for(self, count: int) -> None:
        """Make place for `count` rows."""
        self.rows = grown(self.rows, count)

    def room_for(self, cells: int) -> bool:
        """Try to have `cells` free cells at the end, or as many as the bound allows; whether it succeeded."""
        if self.free.item(0, 0) + cells > len(self.data):
            self._make_room(cells)
        return bool(self.free.item(0, 0) + cells <= len(self.data))

    def _make_room(self, cells: int) -> None:
        wasted = int(_wasted(self.free))
        if 8 * wasted < self.used:
            if len(self.data) < self.max_cells:
                self._lengthen(min(max(self.used + cells, len(self.data) * 5 // 4), self.max_cells))
            return
        need, size = self.used - wasted + cells, len(self.data)
        if 4 * need > 3 * size:
            size = min(max(need, size * 5 // 4), self.max_cells)
        self.move_together(size)

    def _lengthen(self, cells: int) -> None:
        data, self.data = self.data, np.zeros(cells, self.data.dtype)
        self.data[: len(data)] = data
        self._list()

    def _list(self) -> None:
        """Have lists of free blocks as long as such a pool has them."""
        lists = self.free[:, : self._listed]
        self.free = np.zeros((CLASSES + 1, max(listed(len(self.data)) + 1, lists.shape[1])), np.int64)
        self.free[:, : lists.shape[1]] = lists

    def move_together(self, cells: int) -> None:
        """Have all rows without gaps in a pool of so many cells, or as many as they need."""
        out: Array = np.zeros(max(cells, self.used - int(_wasted(self.free))), self.data.dtype)
        end = int(_move(self.data, self.rows, out))
        self.data = out
        self.free = np.zeros((CLASSES + 1, listed(len(out)) + 1), np.int64)
        self.free[0, 0] = end

    @property
    def _listed(self) -> int:
        """Columns of `free` that are in use."""
        return max(2, int(self.free[1:, 0].max()) + 1)

    def has_block(self, cells: int) -> bool:
        """Whether a block of so many cells can be taken, after growing within the bound."""
        return self.room_for(cells) or bool(self.free[class_of(cells) :, 0].any())

    def row(self, r: int) -> Array:
        """The used cells of row `r`, a view."""
        start, _, size = self.rows.item(r)  # as one tuple: by far the fastest way to read a record
        return self.data[start : start + size]

    def save(self) -> Saved:
        """Of the lists of free blocks as much as is in use; free blocks are wiped, they may be of somebody forgotten."""
        _wipe(self.data, self.rows, np.argsort(self.rows["start"]), self.used)
        return {"data": self.data, "rows": self.rows, "free": self.free[:, : self._listed]}

    def restore(self, saved: Mapping[str, Value]) -> None:
        self.data, self.rows = fitting("data", saved, self.data), fitting("rows", saved, self.rows)
        self.free = fitting("free", saved, self.free)
        self._list()
