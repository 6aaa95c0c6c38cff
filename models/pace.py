"""How much one account, and one item, may teach what is learned by gradient steps.

Counts know by themselves what has been counted already; a gradient step does not, and a thousand of them in one direction carry
everything with them. So an event teaches (`Step.teaches`: fusion, embedding, factors) only within two allowances, both kept as
the time from which nothing would be owed any more (the leaky bucket as a meter, Turner 1986):

- its user's: `user_lessons` at once, and as many in each day of the log's own time (the high-water mark of event times, so that
  timestamps of an account's own choosing buy it nothing)
- its item's: the first `FIRST`, and `item_lessons` of all events from there on

An event that does not teach is learned all the same: windows, profiles and counts hold it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.history import Follower, History, Step
from models.kept import Kept
from models.rows import grown

DAY_MS: Final = 86_400_000
FIRST: Final = 64
"""Lessons about an item before its share counts."""


class Pace(Follower, Kept):
    """Follows the fold, before all who are taught (see `history.Follower`): 8 bytes a user and an item."""

    kept = ("asked", "_users", "_items")
    scratch = ("held_back",)
    gradient = True

    def __init__(self, config: Config, history: History) -> None:
        self.history = history
        self.asked = 0
        """Events so far."""
        self.held_back = {"user_pace": 0, "item_pace": 0}
        """Events that have not taught, by the allowance that was used up."""
        self._users: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        """Per user: the time (ms) from which nothing is owed."""
        self._items: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        """Per item: likewise, counted in events."""
        self._each_ms = DAY_MS // config.user_lessons if config.user_lessons else 0
        self._most_ms = self._each_ms * (config.user_lessons - 1)
        self._each = round(1.0 / config.item_lessons)
        self._most = self._each * (FIRST - 1)

    def before(self, step: Step) -> None:
        """Whether an event that is about to enter teaches."""
        if step.sign < 0:
            return
        self.asked = now = self.asked + 1
        user, item, now_ms = step.user, step.item, self.history.now_ms
        due_ms, due = self._users.item(user), self._items.item(item)
        if due_ms - now_ms > self._most_ms:
            step.teaches = False
            self.held_back["user_pace"] += 1
        elif due - now > self._most:
            step.teaches = False
            self.held_back["item_pace"] += 1
        else:
            self._users[user] = self._each_ms + (due_ms if due_ms > now_ms else now_ms)
            self._items[item] = self._each + (due if due > now else now)

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many users and items."""
        self._users, self._items = grown(self._users, users), grown(self._items, items)

    def forget_user(self, user: int) -> None:
        """The index will stand for somebody else, who owes nothing."""
        self._users[user] = 0

    def forget_item(self, item: int) -> None:
        """The index will stand for another item."""
        self._items[item] = 0
