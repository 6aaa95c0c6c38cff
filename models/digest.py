"""A fingerprint of the exact state: equal digests mean equal windows, counts, pairs and sums."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.history import History
from models.pairs import Pairs
from models.ratings import Ratings
from models.rows import Array
from models.window import DEAD

_USERS: Final = 65_536
_ITEMS: Final = 1_024
"""Rows looked at together: some hundred megabytes at the most. They are part of what is hashed, so leave them."""


def digest(history: History, pairs: Pairs | None, ratings: Ratings) -> str:
    """SHA-256, hexadecimal. Users and items are named by id and taken in the order of ids: it does not depend on the order
    in which users came. Tombstones are left out (a retracted event equals one that never happened), and so are the pairs of items
    whose row had to let some go (those are approximations).
    """
    sha = hashlib.sha256()
    items = np.array([i for i in history.items.sorted_indices() if history.item_events[i] > 0], np.int64)
    number: npt.NDArray[np.int32] = np.full(max(1, history.items.span), -1, np.int32)
    number[items] = np.arange(len(items), dtype=np.int32)
    _texts(sha, [history.items.name(i) for i in items.tolist()])
    for sums in (history.item_events, history.takers, ratings.item_sum, ratings.item_count):
        sha.update(sums[items].astype("<i8").tobytes())
    users = _alive(history, np.array(history.users.sorted_indices(), np.int64))
    for begin in range(0, len(users), _USERS):
        _windows(sha, history, users[begin : begin + _USERS], number)
    if pairs is not None:
        exact = items[pairs.overflowed[items] == 0]
        for begin in range(0, len(exact), _ITEMS):
            _pairs(sha, pairs, exact[begin : begin + _ITEMS], number)
    return sha.hexdigest()


def _texts(sha: Any, texts: list[str]) -> None:
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    sha.update(np.array([len(raw), *map(len, raw)], "<i8").tobytes() + b"".join(raw))


def _alive(history: History, users: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of whom something is left: others must neither be named nor move what is looked at together."""
    alive = np.zeros(len(users), np.bool_)
    for begin in range(0, len(users), _USERS):
        rows = history.windows.rows[users[begin : begin + _USERS]]
        owner, cells = _cells(rows["start"], rows["size"])
        alive[begin + owner[history.windows.data["item"][cells] != DEAD]] = True
    return users[alive]


def _windows(sha: Any, history: History, users: npt.NDArray[np.int64], number: npt.NDArray[np.int32]) -> None:
    """The events of users, each of whom has some, by time and id."""
    rows = history.windows.rows[users]
    owner, cells = _cells(rows["start"], rows["size"])
    events = history.windows.data[cells]
    live = events["item"] != DEAD
    owner, events = owner[live], events[live]
    order = np.lexsort((events["key"], events["ts"], owner))
    events = events[order]
    counts = np.bincount(owner, minlength=len(users))
    _texts(sha, [history.users.name(user) for user in users.tolist()])
    sha.update(counts.astype("<i8").tobytes())
    sha.update(number[events["item"]].astype("<i4").tobytes())
    for field, kind in (("ts", "<i8"), ("key", "<u8"), ("rating", "<i2"), ("kind", "u1")):
        sha.update(events[field].astype(kind).tobytes())


def _pairs(sha: Any, pairs: Pairs, items: npt.NDArray[np.int64], number: npt.NDArray[np.int32]) -> None:
    """The neighbours of items, in the order of their ids."""
    rows = pairs.pool.rows[items]
    owner, cells = _cells(rows["start"], rows["cap"])
    found = pairs.pool.data[cells]
    used = found["count"] != 0
    owner, others, counts = owner[used], number[found["item"][used]], found["count"][used]
    order = np.lexsort((others, owner))
    for column in (owner, others[order], counts[order]):
        sha.update(column.astype("<i4").tobytes())


def _cells(starts: Array, lengths: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of rows of cells one after another: the place of each cell's row among the given ones, and the index of the cell."""
    lengths = lengths.astype(np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - before[owner] + starts[owner]
