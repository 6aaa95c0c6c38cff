"""Who has an item: for each item the users whose profile holds it, in the order in which they came to it."""

from __future__ import annotations

import numpy as np

from models.kept import Kept
from models.kernel import kernel
from models.rows import Array, RowPool, reserve


@kernel
def join(data: Array, rows: Array, free: Array, item: int, user: int, bound: int) -> bool:
    """Put a user at the end of an item's row; the oldest leaves when `bound` are there. Whether one had to leave."""
    size = rows[item].size
    full = size >= bound or not reserve(data, rows, free, item, size + 1)
    start = rows[item].start
    if not full:
        data[start + size] = user
        rows[item].size = size + 1
        return False
    for k in range(start, start + size - 1):
        data[k] = data[k + 1]
    if size > 0:
        data[start + size - 1] = user
    return True


@kernel
def leave(data: Array, rows: Array, item: int, user: int) -> None:
    """Take a user out of an item's row."""
    start = rows[item].start
    size = rows[item].size
    for k in range(start + size - 1, start - 1, -1):
        if data[k] == user:
            for x in range(k, start + size - 1):
                data[x] = data[x + 1]
            rows[item].size = size - 1
            return


class Takers(Kept):
    """At most `bound` users per item, the most recent to come, and `max_cells` in all (4 bytes each)."""

    kept = ("pool", "displaced")

    def __init__(self, bound: int, max_cells: int) -> None:
        self.bound = bound
        self.pool = RowPool(np.int32, max_cells)
        self.displaced = 0
        """Users who had to leave an item's row because of a bound."""

    def ensure(self, items: int) -> None:
        """Make place for so many items."""
        self.pool.rows_for(items)

    def make_room(self) -> None:
        """One more user must find memory, or one will be displaced."""
        self.pool.room_for(2 * self.bound)

    def join(self, item: int, user: int) -> None:
        """The item has come into the user's profile."""
        pool = self.pool
        self.make_room()
        self.displaced += join(pool.data, pool.rows, pool.free, item, user, self.bound)

    def leave(self, item: int, user: int) -> None:
        """The item has left the user's profile."""
        leave(self.pool.data, self.pool.rows, item, user)

    def row(self, item: int) -> Array:
        """The users of an item, the newest last. A view."""
        return self.pool.row(item)
