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
"""Rows looked at together: some hundred megabytes at the most."""


def digest(history: History, pairs: Pairs | None, ratings: Ratings) -> str:
    """SHA-256, hexadecimal. Users and items are named by id and taken in the order of ids: it does not depend on the order
    in which users came. Tombstones are left out (a retracted event equals one that never happened), and so are the pairs of items
    whose row had to let some go (those are approximations).
    """
    columns = _Columns()
    items = np.array([i for i in history.items.sorted_indices() if history.item_events[i] > 0], np.int64)
    number: npt.NDArray[np.int32] = np.full(max(1, history.items.span), -1, np.int32)
    number[items] = np.arange(len(items), dtype=np.int32)
    columns.texts("items", [history.items.name(i) for i in items.tolist()])
    for name, sums in (("events", history.item_events), ("takers", history.takers), ("sums", ratings.item_sum)):
        columns.numbers(name, sums[items], "<i8")
    columns.numbers("ratings", ratings.item_count[items], "<i8")
    users = np.array(history.users.sorted_indices(), np.int64)
    for begin in range(0, len(users), _USERS):
        _windows(columns, history, users[begin : begin + _USERS], number)
    if pairs is not None:
        exact = items[pairs.overflowed[items] == 0]
        for begin in range(0, len(exact), _ITEMS):
            _pairs(columns, pairs, exact[begin : begin + _ITEMS], number)
    return columns.digest()


class _Columns:
    """Hashes of columns, each fed piece by piece: where one piece ends and the next begins does not show."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}

    def numbers(self, name: str, column: Array, kind: str) -> None:
        self._hash(name).update(column.astype(kind).tobytes())

    def texts(self, name: str, texts: list[str]) -> None:
        raw = [text.encode("utf-8", "surrogatepass") for text in texts]
        self.numbers(f"{name}.lengths", np.array([*map(len, raw)], np.int64), "<i8")
        self._hash(name).update(b"".join(raw))

    def digest(self) -> str:
        whole = hashlib.sha256()
        for name, one in sorted(self._hashes.items()):
            whole.update(name.encode() + b"\0" + one.digest())
        return whole.hexdigest()

    def _hash(self, name: str) -> Any:
        return self._hashes.setdefault(name, hashlib.sha256())


def _windows(columns: _Columns, history: History, users: npt.NDArray[np.int64], number: npt.NDArray[np.int32]) -> None:
    """The events of users, by time and id; those of whom nothing is left are not named."""
    rows = history.windows.rows[users]
    owner, cells = _cells(rows["start"], rows["size"])
    events = history.windows.data[cells]
    live = events["item"] != DEAD
    owner, events = owner[live], events[live]
    events = events[np.lexsort((events["key"], events["ts"], owner))]
    counts = np.bincount(owner, minlength=len(users))
    if not len(events):
        return
    columns.texts("users", [history.users.name(user) for user in users[counts > 0].tolist()])
    columns.numbers("users.events", counts[counts > 0], "<i8")
    columns.numbers("event.item", number[events["item"]], "<i4")
    for field, kind in (("ts", "<i8"), ("key", "<u8"), ("rating", "<i2"), ("kind", "u1")):
        columns.numbers(f"event.{field}", events[field], kind)


def _pairs(columns: _Columns, pairs: Pairs, items: npt.NDArray[np.int64], number: npt.NDArray[np.int32]) -> None:
    """The neighbours of items, in the order of their ids."""
    rows = pairs.pool.rows[items]
    owner, cells = _cells(rows["start"], rows["cap"])
    found = pairs.pool.data[cells]
    used = found["count"] != 0
    if not used.any():
        return
    owner, others, counts = number[items[owner[used]]], number[found["item"][used]], found["count"][used]
    order = np.lexsort((others, owner))
    for name, column in (("pair.item", owner), ("pair.other", others[order]), ("pair.count", counts[order])):
        columns.numbers(name, column, "<i4")


def _cells(starts: Array, lengths: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of rows of cells one after another: the place of each cell's row among the given ones, and the index of the cell."""
    lengths = lengths.astype(np.int64)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - before[owner] + starts[owner]
