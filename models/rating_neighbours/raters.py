"""Who has rated an item, and the sums of what they gave it: follows every step of the history.

A user counts once per item, with the newest rating of it in the window. What is kept per item is what a walk over all windows
would give; means and similarities are derived from the windows when they are asked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.history import REVIEW, Follower, History, Step
from models.kept import Kept
from models.rating_neighbours.kernels import opinion
from models.rows import Array, grown
from models.takers import Takers


class Raters(Follower, Kept):
    """The `item_raters` most recent raters of each item, `max_events` in all (see `history.Follower` for the hooks).

    The sums go over all raters, also those that had to make place in the list of an item.
    """

    kept = ("of", "total", "count", "item_sum", "item_squares", "item_count")
    scratch = ("_old",)

    def __init__(self, config: Config, history: History) -> None:
        self.config, self.history = config, history
        self.of = Takers(config.item_raters, config.max_events)
        self.total = 0
        self.count = 0
        """Sum (thousandths of a star) and number of all opinions."""
        self.item_sum: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.item_squares: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.item_count: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._old = 0

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many items."""
        self.of.ensure(items)
        self.item_sum = grown(self.item_sum, items)
        self.item_squares = grown(self.item_squares, items)
        self.item_count = grown(self.item_count, items)

    def before(self, step: Step) -> None:
        """Remember what the user thought of the item so far."""
        self._old = self._opinion(step) if step.kind == REVIEW else 0

    def after(self, step: Step) -> None:
        """Count the change of the user's opinion."""
        if step.kind != REVIEW:
            return
        old, new, item = self._old, self._opinion(step), step.item
        one = (new > 0) - (old > 0)
        self.total += new - old
        self.count += one
        self.item_sum[item] += new - old
        self.item_squares[item] += new * new - old * old
        self.item_count[item] += one
        if one > 0:
            self.of.join(item, step.user)
        elif one < 0:
            self.of.leave(item, step.user)

    def row(self, item: int) -> Array:
        """The raters of an item, the most recent last. A view."""
        return self.of.row(item)

    def _opinion(self, step: Step) -> int:
        windows = self.history.windows
        return opinion(windows.data, windows.rows, step.user, step.item)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"rater_cells": (self.of.pool.used, self.of.pool.max_cells)}
