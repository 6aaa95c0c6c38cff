"""Where a list is asked for: which rows of weights the learned fusion adds up for one request.

Row 0 is shared by all. Every request also stands in one row of each of these groups:

- how much is known of the user: 0, 1-4, 5-19, 20 or more items
- how long ago the user did something: never, within 10 minutes, 1 hour, 36 hours, 8 days, longer
- the time of day, in blocks of four hours, and whether it is a weekend (UTC, of the event time of the request)
- what the request says of itself (device, country, ...): a row for each of the first `context_values` distinct name=value pairs
  that two users have brought: one account alone cannot take the rows of all others

A request that says nothing has no row of the last kind. All rows start at 0, so what has never been seen changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from models.interning import Interner
from models.kept import Kept, Misfit, Value, fitting
from models.kernel import kernel
from models.rows import Array
from models.sources.base import Query

SHARED: Final = 0
_MINUTE: Final = 60_000
_KNOWN: Final = (1, 5, 20)
_PAUSES: Final = tuple(minutes * _MINUTE for minutes in (0, 10, 60, 36 * 60, 8 * 24 * 60))
_DAY: Final = 24 * 60 * _MINUTE
_BLOCK: Final = 4 * 60 * _MINUTE

HISTORY: Final = 1
"""The first row that stands for how much is known of the user; `Contexts.rows` names it first."""
HISTORIES: Final = len(_KNOWN) + 1
_PAUSE: Final = HISTORY + HISTORIES
_HOUR: Final = _PAUSE + len(_PAUSES) + 1
_WEEKEND: Final = _HOUR + _DAY // _BLOCK
_VALUES: Final = _WEEKEND + 2


@kernel
def _groups(known: int, pause_ms: int, at_ms: int, rows: Array) -> None:
    """The first four rows of a request."""
    rows[0], rows[1] = HISTORY, _PAUSE
    for bound in _KNOWN:
        rows[0] += known >= bound
    for bound in _PAUSES:
        rows[1] += pause_ms >= bound
    rows[2] = _HOUR + at_ms % _DAY // _BLOCK
    rows[3] = _WEEKEND + ((at_ms // _DAY + 3) % 7 >= 5)  # the first day of Unix time was a Thursday, Monday is 0


class Values(Interner):
    """The name=value pairs that have rows of their own: a row is the index of its pair, and no pair is ever released."""

    shared = True

    def accept(self, saved: Mapping[str, Value]) -> None:
        """As many names as there are rows for at most, each once, in the order of their rows."""
        names, order = saved["names"], saved["order"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise Misfit("the names of contexts are not names, each of one row")
        if len(names) > self.bound or saved["free"] != []:
            raise Misfit(f"{len(names)} contexts with rows of their own, of {self.bound}")
        keys = fitting("keys", saved, self.keys)
        if not isinstance(order, np.ndarray) or order.tolist() != [*range(len(names))] or len(keys) < len(names):
            raise Misfit("the contexts are not in the order of their rows")


class Contexts(Kept):
    """See the module. `count` rows in all; values of requests get theirs when a second user is learned from who brings them."""

    kept = ("values",)
    gradient = True

    def __init__(self, values: int) -> None:
        self.values = Values(values)
        self.count = _VALUES + values

    def rows(self, query: Query) -> npt.NDArray[np.int64]:
        """The rows of a request besides the shared one: (4 or more,). Only reads."""
        places = [self.values.get(pair) for pair in _pairs(query.context)] if query.context else []
        rows: npt.NDArray[np.int64] = np.empty(4 + len(places), np.int64)
        _groups(len(query.profile), query.pause_ms, query.at_ms, rows)
        known = 4
        for place in places:
            if place >= 0:
                rows[known] = _VALUES + place
                known += 1
        return rows[:known]

    def meet(self, context: Mapping[str, str] | None, user: int, waiting: dict[str, int]) -> None:
        """Give the values of a request that is learned from rows of their own, as long as there are any. `waiting`: the newest
        pairs that one user alone has brought, as many as there are rows, and who it was."""
        if self.values.full:
            return
        for pair in _pairs(context):
            if self.values.get(pair) >= 0:
                continue
            if waiting.setdefault(pair, user) != user:
                del waiting[pair]
                self.values.add(pair)
                if self.values.full:
                    waiting.clear()
                    return
            elif len(waiting) > self.values.bound:
                del waiting[next(iter(waiting))]


def _pairs(context: Mapping[str, str] | None) -> list[str]:
    return [f"{name}={value}" for name, value in context.items()] if context else []
