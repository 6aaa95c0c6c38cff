"""Do people come back to items they have? Counted from the windows, so that nobody has to say whether a list may hold them.

Of a user's positive events, all but the first could have been returns: n_u of them. Those that have an earlier one of the same
kind on the same item are: r_u (a click after a click; a purchase of what was clicked is no return). With V = `VOICE`

    rate = sum over users of r_u / n_u * min(n_u, V)  /  max(sum over users of min(n_u, V), `DOUBT`)

So a user counts as at most V events: one account can move the rate by no more than V / max(..., `DOUBT`). Counts are integers (in
parts of 2**20) that follow each step of a window: the order of events does not matter, and what is taken back leaves nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.history import Follower, History
from models.kept import Kept
from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Step

VOICE: Final = 5
"""V: events that a user counts as, at most."""
DOUBT: Final = 200
"""Until so many events are counted, the others count as if they were no returns."""
_ONE: Final = 1 << 20


@kernel
def _again(data: Array, rows: Array, user: int, item: int, kind: int, positive_rating: int) -> int:
    """How many positive events of this kind on the item the user's window holds; 2 stands for more."""
    start = rows[user].start
    found = 0
    for k in range(start + rows[user].size - 1, start - 1, -1):
        if data[k].item == item and data[k].kind == kind and (kind != 2 or data[k].rating >= positive_rating):
            found += 1
            if found == 2:
                break
    return found


@kernel
def _count(
    data: Array, rows: Array, user: int, item: int, kind: int, positive_rating: int, sign: int, events: Array, returns: Array,
    sums: Array,
) -> None:  # fmt: skip
    """A positive event has entered (`sign` 1) or left (-1) its user's window."""
    _voice(events[user], returns[user], -1, sums)
    events[user] += sign
    if _again(data, rows, user, item, kind, positive_rating) > (sign > 0):
        returns[user] += sign
    _voice(events[user], returns[user], 1, sums)


@kernel
def _voice(events: int, returns: int, sign: int, sums: Array) -> None:
    """Count a user's part in or out."""
    n = events - 1
    if n > 0:
        counted = min(n, VOICE)
        sums[0] += sign * (returns * counted * _ONE // n)
        sums[1] += sign * counted


class Habit(Follower, Kept):
    """Follows the fold (see `history.Follower`): 8 bytes a user."""

    kept = ("_events", "_returns", "_sums")

    def __init__(self, history: History, returning: float) -> None:
        self.history = history
        self.returning = returning
        """From this rate on, lists hold the user's own items as well."""
        self._events: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        """Per user: positive events of the window."""
        self._returns: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self._sums: npt.NDArray[np.int64] = np.zeros(2, np.int64)
        """Returns as they count, in parts of 2**20, and events as they count."""

    @property
    def rate(self) -> float:
        """The part of events that return to an item."""
        return self._sums.item(0) / (_ONE * max(self.events, DOUBT))

    @property
    def events(self) -> int:
        """Events, as they count."""
        return self._sums.item(1)

    @property
    def returns(self) -> bool:
        """Whether people come back often enough."""
        returned, events = self._sums.tolist()
        return bool(returned >= self.returning * _ONE * max(events, DOUBT))

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many users."""
        self._events, self._returns = grown(self._events, users), grown(self._returns, users)

    def after(self, step: Step) -> None:
        """Count a positive event in or out."""
        if step.positive:
            windows = self.history.windows
            _count(
                windows.data, windows.rows, step.user, step.item, step.kind, self.history.positive_rating, step.sign,
                self._events, self._returns, self._sums,
            )  # fmt: skip
