"""The replicated item vectors: what is said about an item, as a point on the unit sphere."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np
import numpy.typing as npt

from models.coarse import Coarse
from models.config import Config
from models.events import ItemVector
from models.kept import Kept, Value
from models.kernel import kernel
from models.rows import Array, grown

FIXED = 1 << 30
"""The sum of all vectors is kept in integers of 2**-30, so that it is the same in whatever order they came."""


@kernel
def _rows_of(row_of: Array, items: Array, rows: Array) -> None:
    for x in range(len(items)):
        rows[x] = row_of[items[x]] if items[x] < len(row_of) else -1


class Vectors(Kept):
    """Unit vectors by item, the newest last, at most `max_vectors`; beyond that the one not changed for longest leaves.

    Rows `0 .. count-1` of `matrix` (count, dim) are in no order; `row_of[item]` is an item's row or -1, `item_of[row]` its item.
    """

    kept = (
        "model", "dim", "count", "version", "evicted", "matrix", "item_of", "row_of", "total", "snippets", "recent",
    )  # fmt: skip
    scratch = ("coarse", "_mean", "_newest")

    def __init__(self, config: Config) -> None:
        self.bound = config.max_vectors
        self.model: str | None = None
        self.dim = 0
        self.count = 0
        self.version = 0
        """Changes with every change."""
        self.evicted = 0
        self.matrix: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.coarse = Coarse()
        self.item_of: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self.row_of: npt.NDArray[np.int32] = np.full(16, -1, np.int32)
        self.total: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.snippets: dict[int, str] = {}
        self.recent: dict[int, None] = {}
        """Items by the time of their last change, the newest last."""
        self._mean: npt.NDArray[np.float32] | None = None
        self._newest: dict[int, npt.NDArray[np.int64]] = {}

    def put(self, item: int, entry: ItemVector) -> bool:
        """Take in the newest vector of an item; an empty one removes it. True if something changed.

        Raises:
            ValueError: another model's vector, a wrong length, numbers that are not finite or not a direction.
        """
        if not entry.vector:
            return self.drop(item)
        vector = self._vector(entry)
        if item >= len(self.row_of):
            wider = np.full(max(item + 1, 2 * len(self.row_of)), -1, np.int32)
            wider[: len(self.row_of)] = self.row_of
            self.row_of = wider
        row = int(self.row_of[item])
        if row >= 0 and np.array_equal(self.matrix[row], vector) and self.snippets.get(item, "") == entry.snippet:
            return False
        if row < 0:
            if self.count >= self.bound:
                self.drop(next(iter(self.recent)))
                self.evicted += 1
            row = self.count
            self.count += 1
            self.matrix = grown(self.matrix, self.count, self.bound)
            self.item_of = grown(self.item_of, self.count, self.bound)
            self.row_of[item], self.item_of[row] = row, item
        else:
            self.total -= _fixed(self.matrix[row])
        self.matrix[row] = vector
        self.total += _fixed(vector)
        if entry.snippet:
            self.snippets[item] = entry.snippet[:500]
        else:
            self.snippets.pop(item, None)
        self.recent.pop(item, None)
        self.recent[item] = None
        self._changed(row)
        return True

    def drop(self, item: int) -> bool:
        """Nothing is said about the item any more. True if something was."""
        row = int(self.row_of[item]) if item < len(self.row_of) else -1
        if row < 0:
            return False
        self.total -= _fixed(self.matrix[row])
        last = self.count - 1
        self.matrix[row] = self.matrix[last]
        moved = self.item_of[last]
        self.item_of[row] = moved
        self.row_of[moved] = row
        self.row_of[item] = -1
        self.count = last
        del self.recent[item]
        self.snippets.pop(item, None)
        self._changed(row)
        return True

    def rows_of(self, items: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Row of each item, -1 for those without vector."""
        rows = np.empty(len(items), np.int64)
        _rows_of(self.row_of, items, rows)
        return rows

    def along(
        self, rows: npt.NDArray[np.int64], direction: npt.NDArray[np.float32], out: npt.NDArray[np.float64]
    ) -> None:  # fmt: skip
        """Cosines of the vectors at `rows` with a unit vector, see `Coarse.along`."""
        self.coarse.along(rows, direction, self.mean(), out)

    def newest(self, count: int) -> npt.NDArray[np.int64]:
        """Rows of the `count` items whose vectors changed last (all, in no order, where there are no more); to be read only."""
        rows = self._newest.get(count)
        if rows is None:
            if self.count <= count:
                rows = np.arange(self.count)
            else:
                rows = self.row_of[np.fromiter(islice(reversed(self.recent), count), np.int64)].astype(np.int64)
            self._newest = {count: rows}
        return rows

    def has(self, item: int) -> bool:
        """Whether the item has a vector."""
        return item < len(self.row_of) and self.row_of[item] >= 0

    def mean(self) -> npt.NDArray[np.float32]:
        """Mean of all vectors, (dim,): what every text has in common. To be read only."""
        if self._mean is None:
            self._mean = (self.total / (FIXED * max(1, self.count))).astype(np.float32)
        return self._mean

    def restore(self, saved: Mapping[str, Value]) -> None:
        super().restore(saved)
        self._forget_derived()
        self.coarse = Coarse()
        self.coarse.follow(self.matrix)

    def _changed(self, row: int) -> None:
        self.version += 1
        self._forget_derived()
        self.coarse.follow(self.matrix, row, row + 1)

    def _forget_derived(self) -> None:
        self._mean, self._newest = None, {}

    def _vector(self, entry: ItemVector) -> npt.NDArray[np.float32]:
        if self.model is not None and entry.model != self.model:
            raise ValueError(f"a vector of model {entry.model!r} among vectors of {self.model!r}: they cannot be mixed")
        if len(entry.vector) % 4:
            raise ValueError(f"item {entry.item_id!r}: {len(entry.vector)} bytes are no float32 vector")
        vector = np.frombuffer(entry.vector, "<f4")
        if self.dim and len(vector) != self.dim:
            raise ValueError(f"item {entry.item_id!r}: a vector of {len(vector)} numbers among vectors of {self.dim}")
        norm = float(np.sqrt(np.square(vector, dtype=np.float64).sum()))
        if not np.isfinite(norm) or norm == 0.0:
            raise ValueError(f"item {entry.item_id!r}: a vector needs finite numbers, not all of them 0")
        if self.model is None:
            self.model, self.dim = entry.model, len(vector)
            self.matrix = np.zeros((16, self.dim), np.float32)
            self.total = np.zeros(self.dim, np.int64)
        return (vector / norm).astype(np.float32)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"vectors": (self.count, self.bound)}


def _fixed(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    rounded: npt.NDArray[np.float64] = np.rint(vector.astype(np.float64) * FIXED)
    return rounded.astype(np.int64)
