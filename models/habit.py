"""Do people come back to items they have? Learned from the stream, so that nobody has to say whether a list may hold them.

The rate is a moving average over the last positive events of users who were known before: 1 for an event whose item has an
earlier event of the same kind in the user's window (a click after a click; a purchase of what was clicked is no return), else 0.
"""

from __future__ import annotations

from typing import Final

from models.history import History
from models.kept import Kept
from models.kernel import kernel
from models.rows import Array
from models.sources.base import Step

MEMORY: Final = 1000
"""Events that the average looks back."""
DOUBT: Final = 200
"""The first so many events move the rate as little as if so many had come before, all of them new items."""


@kernel
def _returns(data: Array, rows: Array, user: int, item: int, kind: int) -> int:
    """Whether (1, 0) the user's window holds an event of this kind on the item; -1 where it holds none at all."""
    start = rows[user].start
    for k in range(start + rows[user].size - 1, start - 1, -1):
        if data[k].item == item and data[k].kind == kind:
            return 1
    return 0 if rows[user].size > 0 else -1


class Habit(Kept):
    """Follows the fold (see `fold.Follower`). A moving average depends a little on the order in which users come: it is no part
    of the exact state."""

    kept = ("rate", "events")
    gradient = True
    shared = True

    def __init__(self, history: History, returning: float) -> None:
        self.history = history
        self.returning = returning
        """From this rate on, lists hold the user's own items as well."""
        self.rate = 0.0
        self.events = 0

    @property
    def returns(self) -> bool:
        """Whether people come back often enough."""
        return self.rate >= self.returning

    def before(self, step: Step) -> None:
        if step.sign < 0 or not step.positive:
            return
        windows = self.history.windows
        again = _returns(windows.data, windows.rows, step.user, step.item, step.kind)
        if again < 0:
            return
        self.events += 1
        self.rate += (again - self.rate) / min(max(self.events, DOUBT), MEMORY)

    def ensure(self, users: int, items: int) -> None:
        """Nothing grows."""

    def after(self, step: Step) -> None:
        """Nothing."""

    def taught(self, step: Step) -> None:
        """Nothing."""

    def forget_user(self, user: int) -> None:
        """A rate belongs to nobody."""

    def forget_item(self, item: int) -> None:
        """A rate belongs to no item."""
