"""What is said about items by the catalogue: availability and categories. Decides which items may be recommended at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.events import Item
from models.history import History
from models.interning import Interner
from models.kept import Kept
from models.rows import RowPool, grown, reserve

LISTED = 1
AVAILABLE = 2
REMOVED = 4


class Catalogue(Kept):
    """Entries of the catalogue and the `open` flag of every item.

    An item is open if it is known (from an event in some window or from the catalogue), available and not removed. An item
    without entry is available. A removed one stays closed until it comes back by an entry.
    """

    kept = ("categories", "flags", "open", "of_item", "newest", "listed")

    def __init__(self, config: Config, history: History) -> None:
        self.history = history
        self.categories = Interner(config.max_categories)
        self.flags: npt.NDArray[np.uint8] = np.zeros(16, np.uint8)
        self.open: npt.NDArray[np.uint8] = np.zeros(16, np.uint8)
        self.of_item = RowPool(np.int32, 64 * config.max_items)
        """Row per item: its categories."""
        self.newest = RowPool(np.int32, 2 * config.max_categories * config.category_items)
        """Row per category: its items, those that were listed last at the end, at most `category_items`."""
        self.listed = 0
        """Places in all rows of `newest` together."""
        self._newest_bound = config.category_items

    def ensure(self, item: int) -> None:
        """Make place for an item."""
        if item >= len(self.flags):
            self.flags = grown(self.flags, item + 1)
            self.open = grown(self.open, item + 1)
            self.of_item.rows_for(len(self.flags))

    def refresh(self, item: int) -> None:
        """Work out again whether the item is open (after its flags or its number of events have changed)."""
        flags = self.flags[item]
        known = flags & LISTED or self.history.item_events[item] > 0
        available = flags & AVAILABLE or not flags & LISTED
        self.open[item] = bool(known and available and not flags & REMOVED)

    def put(self, item: int, entry: Item) -> bool:
        """Take in the newest entry of an item. True if something changed."""
        categories = self._categories(entry)
        flags = LISTED | (AVAILABLE if entry.available else 0)
        if self.flags[item] == flags and np.array_equal(self.of_item.row(item), categories):
            return False
        self.flags[item] = flags
        self._leave_categories(item)
        self._join_categories(item, categories)
        self.refresh(item)
        return True

    def remove(self, item: int) -> bool:
        """The item is no longer sold. True if something changed."""
        if self.flags[item] == REMOVED:
            return False
        self.flags[item] = REMOVED
        self._leave_categories(item)
        self.refresh(item)
        return True

    def is_sold(self, item: int) -> bool:
        """Whether the catalogue has an entry for the item."""
        return bool(self.flags[item] & LISTED)

    def forget(self, item: int) -> None:
        """This index will stand for another item."""
        self._leave_categories(item)
        self.flags[item] = self.open[item] = 0

    def _categories(self, entry: Item) -> npt.NDArray[np.int32]:
        """Indices of the entry's distinct categories in their order; those beyond `max_categories` are left out."""
        found: dict[int, None] = {}
        for name in entry.categories[:64]:
            if self.categories.get(name) >= 0 or not self.categories.full:
                index = self.categories.add(name)
                self.newest.rows_for(index + 1)
                found[index] = None
        return np.array(list(found), np.int32)

    def _leave_categories(self, item: int) -> None:
        for category in self.of_item.row(item):
            self.listed -= _discard(self.newest, int(category), item)
        self.of_item.rows[item]["size"] = 0

    def _join_categories(self, item: int, categories: npt.NDArray[np.int32]) -> None:
        if len(categories) and not _fill(self.of_item, item, categories):
            return
        for category in categories:
            row = int(category)
            held = self.newest.row(row)
            kept = held[len(held) - self._newest_bound + 1 :] if len(held) >= self._newest_bound else held
            before = len(held)
            if _fill(self.newest, row, np.append(kept, np.int32(item))):
                self.listed += len(kept) + 1 - before

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"categories": (len(self.categories), self.categories.bound)}


def _fill(pool: RowPool, row: int, values: npt.NDArray[np.int32]) -> bool:
    """Make `values` the content of a row; False (and an empty row) if the pool's bound forbids it."""
    pool.room_for(max(4, 1 << int(len(values) - 1).bit_length()))
    pool.rows[row]["size"] = 0
    if not reserve(pool.data, pool.rows, pool.free, row, len(values)):
        return False
    start = pool.rows[row]["start"]
    pool.data[start : start + len(values)] = values
    pool.rows[row]["size"] = len(values)
    return True


def _discard(pool: RowPool, row: int, value: int) -> int:
    """Take `value` out of a row; how often it was there."""
    held = pool.row(row)
    kept = held[held != value]
    pool.data[pool.rows[row]["start"] : pool.rows[row]["start"] + len(kept)] = kept
    pool.rows[row]["size"] = len(kept)
    return len(held) - len(kept)
