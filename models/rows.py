"""Rows of variable capacity in one pool: memory follows use, growth is by doubling, freed blocks are used again.

A pool is three arrays, which is also how kernels take it:

- `data`: the cells of all rows, any dtype;
- `rows`: per row `start`, `cap` (0 or a power of two >= 4), `size` (cells in use);
- `free`: `free[0, 0]` is the end of the used part of `data`, `free[0, 1]` the length of the longest list of free blocks so far;
  for size class c (capacity 2**(c + 1)) `free[c, 0]` is the number of free blocks and `free[c, 1:]` their starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.kept import Kept, Saved, Value, fitting
from models.kernel import kernel

Array = npt.NDArray[Any]

ROW: Final = np.dtype([("start", "<i8"), ("cap", "<i4"), ("size", "<i4")])
CLASSES: Final = 20
"""Capacities 4 .. 2**21."""
_SPARE: Final = 2048
"""Blocks that one kernel call may give back before the lists of free blocks are looked at again."""


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


@kernel
def give(free: Array, size_class: int, start: int) -> None:
    """Put a block back. A full list of free blocks loses it (see `_SPARE`)."""
    n = free[size_class, 0] + 1
    if n < free.shape[1]:
        free[size_class, n] = start
        free[size_class, 0] = n
        if n > free[0, 1]:
            free[0, 1] = n


@kernel
def take(free: Array, length: int, size_class: int) -> int:
    """Start of a block of 2**(size_class + 1) cells, or -1 if `data` (of `length` cells) has no room for it."""
    n = free[size_class, 0]
    if n > 0:
        free[size_class, 0] = n - 1
        return int(free[size_class, n])
    start = free[0, 0]
    if start + (2 << size_class) <= length:
        free[0, 0] = start + (2 << size_class)
        return int(start)
    larger = size_class + 1
    while larger < free.shape[0] and free[larger, 0] == 0:
        larger += 1
    if larger == free.shape[0]:
        return -1
    n = free[larger, 0]
    start = free[larger, n]
    free[larger, 0] = n - 1
    for c in range(larger - 1, size_class - 1, -1):  # split a larger block, the upper halves go back
        give(free, c, start + (2 << c))
    return int(start)


@kernel
def class_of(cells: int) -> int:
    """The smallest size class that holds so many cells."""
    size_class = 1
    while (2 << size_class) < cells:
        size_class += 1
    return size_class


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
    rows[r].cap = 2 << size_class
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
        self.free: Array = np.zeros((CLASSES + 1, 2 * _SPARE), np.int64)
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
        need: int = self.free.item(0, 0) + cells
        if len(self.data) < need and len(self.data) < self.max_cells:
            self.data = grown(self.data, min(need, self.max_cells), self.max_cells)
        if self.free.item(0, 1) + _SPARE > self.free.shape[1]:
            wider = np.zeros((CLASSES + 1, 2 * self.free.shape[1]), np.int64)
            wider[:, : self.free.shape[1]] = self.free
            self.free = wider
        return need <= len(self.data)

    def has_block(self, cells: int) -> bool:
        """Whether a block of so many cells can be taken, after growing within the bound."""
        return self.room_for(cells) or bool(self.free[class_of(cells) :, 0].any())

    def row(self, r: int) -> Array:
        """The used cells of row `r`, a view."""
        start, _, size = self.rows.item(r)  # as one tuple: by far the fastest way to read a record
        return self.data[start : start + size]

    def save(self) -> Saved:
        """Of the lists of free blocks as much as was ever in use; free blocks are wiped, they may be of somebody forgotten."""
        for size_class in range(1, CLASSES + 1):
            starts = self.free[size_class, 1 : self.free[size_class, 0] + 1]
            cells = starts[:, None] + np.arange(2 << size_class)
            self.data[cells.reshape(-1)] = np.zeros((), self.data.dtype)
        return {"data": self.data, "rows": self.rows, "free": self.free[:, : self._longest + 1], "width": self.free.shape[1]}

    def restore(self, saved: Mapping[str, Value]) -> None:
        self.data, self.rows = fitting("data", saved, self.data), fitting("rows", saved, self.rows)
        used = fitting("free", saved, self.free)
        self.free = np.zeros((CLASSES + 1, fitting("width", saved, 0)), np.int64)
        self.free[:, : used.shape[1]] = used

    @property
    def _longest(self) -> int:
        """Length of the longest list of free blocks so far."""
        return int(self.free[0, 1])
