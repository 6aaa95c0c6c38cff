"""Click-through rate by cohort: how many of the items shown were clicked within a window after they were shown.

The clicks of an hour over what was shown in that hour is no such share: clicks trail, so the ratio is too low while traffic grows
and too high while it falls. Here every list that was shown is followed until its window is over, and only then counted, with what
was clicked of it until then. Summed over lists (and workers), clicked over shown is the share, by position or arm or whatever
the lists were grouped by.

A list is followed from the moment it was shown to a user. Time is that of the log, partition by partition: a click and the list
it belongs to are of one user, so of one partition. When a process stops or gives its partitions away, what it follows is
forgotten as a whole, shown and clicked alike, which costs data but shifts nothing. The same holds where the bound is reached: a
new list is then not followed at all.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from typing import Final, NamedTuple

from models.interning import key64

MAX_POSITION: Final = 1_000


class Shown(NamedTuple):
    """A list before somebody's eyes."""

    user_id: str
    list_id: str
    arm: str


class Closed(NamedTuple):
    """A list whose window is over. Bit p-1 of `shown` stands for position p (from 1), likewise in `clicked`."""

    arm: str
    origin: str
    shown: int
    clicked: int


_Key = tuple[int, str, str]  # hash of the user, list, origin: strangers share a list, and nobody's id is kept


class _Followed:
    __slots__ = ("arm", "clicked", "origin", "shown")

    def __init__(self, arm: str, origin: str) -> None:
        self.arm, self.origin = arm, origin
        self.shown = self.clicked = 0


class Cohorts:
    """Follows at most `max_lists` lists for `window_ms` each."""

    def __init__(self, window_ms: int, max_lists: int) -> None:
        if window_ms < 1 or max_lists < 1:
            raise ValueError(f"both must be at least 1: window_ms={window_ms}, max_lists={max_lists}")
        self.window_ms, self.max_lists = window_ms, max_lists
        self.left_out = 0
        """Lists that were not followed, because there were too many."""
        self._followed: dict[_Key, _Followed] = {}
        self._due: dict[int, list[tuple[int, int, _Key]]] = {}  # by partition: (when, number, list), a heap
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._followed)

    def shown(self, partition: int, to: Shown, origin: str, positions: Iterable[int], at_ms: int) -> None:
        """These positions (from 1) were shown; more of the list may be shown later. `origin`: who says so."""
        followed = self._follow(partition, to, origin, at_ms)
        if followed is not None:
            for position in positions:
                if position <= MAX_POSITION:
                    followed.shown |= 1 << (position - 1)

    def clicked(self, partition: int, to: Shown, origins: Iterable[str], position: int, at_ms: int) -> None:
        """A click on that position. It may be told before the position is said to be shown; it then waits for that."""
        if position > MAX_POSITION:
            return
        for origin in origins:
            followed = self._follow(partition, to, origin, at_ms)
            if followed is not None:
                followed.clicked |= 1 << (position - 1)

    def _follow(self, partition: int, to: Shown, origin: str, at_ms: int) -> _Followed | None:
        key = key64(to.user_id), to.list_id, origin
        followed = self._followed.get(key)
        if followed is None:
            if len(self._followed) >= self.max_lists:
                self.left_out += 1
                return None
            followed = self._followed[key] = _Followed(to.arm, origin)
            due = self._due.setdefault(partition, [])
            heapq.heappush(due, (at_ms + self.window_ms, next(self._numbers), key))
        return followed

    def close(self, partition: int, now_ms: int) -> list[Closed]:
        """The lists of the partition whose window ended before `now_ms`, each once, in that order; those of which nothing was
        shown are left out. To be called with the time of a record before what it says is told."""
        due, closed = self._due.get(partition, []), []
        while due and due[0][0] < now_ms:
            followed = self._followed.pop(heapq.heappop(due)[2])
            if followed.shown:
                closed.append(Closed(followed.arm, followed.origin, followed.shown, followed.clicked & followed.shown))
        return closed

    def forget(self) -> None:
        """Follow nothing of what was shown until now."""
        self._followed.clear()
        self._due.clear()
