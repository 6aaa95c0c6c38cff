"""Click-through rate by cohort: how many of the items shown were clicked within a window after they were shown.

The clicks of an hour over what was shown in that hour is no such share: clicks trail, so the ratio is too low while traffic grows
and too high while it falls. Here every list that was shown is followed until its window is over, and only then counted, with what
was clicked of it until then. Summed over lists (and workers), clicked over shown is the share, by position or arm or whatever
the lists were grouped by.

A list is followed from the moment it was shown to a user. Time is that of the log, partition by partition: a click and the list
it belongs to are of one user, so of one partition. When a process stops or gives its partitions away, what it follows is
forgotten as a whole, shown and clicked alike, which costs data but shifts nothing. The same holds where the bound is reached:
from then on a share of the lists is followed, chosen by their hash, so that it does not depend on what becomes of them.
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


_ALL: Final = 1 << 64
_Key = tuple[int, str]  # hash of user and list (strangers share a list, and nobody's id is kept), origin


class _Followed:
    __slots__ = ("arm", "clicked", "key", "shown")

    def __init__(self, arm: str, key: _Key) -> None:
        self.arm, self.key = arm, key
        self.shown = self.clicked = 0


class Cohorts:
    """Follows at most `max_lists` lists for `window_ms` each."""

    def __init__(self, window_ms: int, max_lists: int) -> None:
        if window_ms < 1 or max_lists < 1:
            raise ValueError(f"both must be at least 1: window_ms={window_ms}, max_lists={max_lists}")
        self.window_ms, self.max_lists = window_ms, max_lists
        self._followed: dict[_Key, _Followed] = {}
        self._due: dict[int, list[tuple[int, int, _Followed]]] = {}  # by partition: (when, number, list), a heap
        self._numbers = itertools.count()
        self._below = _ALL  # lists whose hash is below it are followed

    def __len__(self) -> int:
        return len(self._followed)

    @property
    def share(self) -> float:
        """Of the lists that are shown, so many are followed."""
        return self._below / _ALL

    def shown(self, partition: int, to: Shown, origin: str, positions: Iterable[int], at_ms: int) -> None:
        """These positions (from 1) were shown; more of the list may be shown later. `origin`: who says so."""
        followed = self._follow(partition, _number(to), to, origin, at_ms)
        if followed is not None:
            bits = 0
            for position in positions:
                if position <= MAX_POSITION:
                    bits |= 1 << (position - 1)
            followed.shown |= bits

    def clicked(self, partition: int, to: Shown, origins: Iterable[str], position: int, at_ms: int) -> None:
        """A click on that position. It may be told before the position is said to be shown; it then waits for that."""
        if position > MAX_POSITION:
            return
        number = _number(to)
        for origin in origins:
            followed = self._follow(partition, number, to, origin, at_ms)
            if followed is not None:
                followed.clicked |= 1 << (position - 1)

    def _follow(self, partition: int, number: int, to: Shown, origin: str, at_ms: int) -> _Followed | None:
        if number >= self._below:
            return None
        key = number, origin
        followed = self._followed.get(key)
        if followed is None:
            if len(self._followed) >= self.max_lists:
                self._follow_fewer()
                return self._follow(partition, number, to, origin, at_ms)
            followed = self._followed[key] = _Followed(to.arm, key)
            heapq.heappush(self._due.setdefault(partition, []), (at_ms + self.window_ms, next(self._numbers), followed))
        return followed

    def _follow_fewer(self) -> None:
        """Half as many, and those from now on: none of the others is counted."""
        self._below //= 2
        self._followed = {key: followed for key, followed in self._followed.items() if key[0] < self._below}

    def close(self, partition: int, now_ms: int) -> list[Closed]:
        """The lists of the partition whose window ended before `now_ms`, each once, in that order; those of which nothing was
        shown are left out. To be called with the time of a record before what it says is told."""
        due, closed = self._due.get(partition, ()), []
        while due and due[0][0] < now_ms:
            followed = heapq.heappop(due)[2]
            if self._followed.get(followed.key) is not followed:
                continue  # given up meanwhile
            del self._followed[followed.key]
            if followed.shown:
                closed.append(Closed(followed.arm, followed.key[1], followed.shown, followed.clicked & followed.shown))
        if self._below < _ALL and len(self._followed) < self.max_lists // 8:
            self._below *= 2
        return closed

    def forget(self) -> None:
        """Follow nothing of what was shown until now."""
        self._followed.clear()
        self._due.clear()


def _number(to: Shown) -> int:
    return key64(f"{to.user_id}\0{to.list_id}")
