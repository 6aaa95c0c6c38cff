"""A fingerprint of the exact state: equal digests mean equal windows, counts, pairs and sums."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from models.history import History
from models.pairs import Pairs
from models.ratings import Ratings
from models.window import DEAD


def digest(history: History, pairs: Pairs | None, ratings: Ratings) -> str:
    """SHA-256, hexadecimal. Users and items are named by id and taken in the order of ids: it does not depend on the order
    in which users came. Tombstones are left out (a retracted event equals one that never happened), and so are the pairs of items
    whose row had to let some go (those are approximations).
    """
    sha = hashlib.sha256()
    items = [i for i in history.items.sorted_indices() if history.item_events[i] > 0]
    number: npt.NDArray[np.int32] = np.full(max(1, history.items.span), -1, np.int32)
    number[items] = np.arange(len(items), dtype=np.int32)
    for i in items:
        _text(sha, history.items.name(i))
    for sums in (history.item_events, history.takers, ratings.item_sum, ratings.item_count):
        sha.update(sums[items].astype("<i8").tobytes())
    for user in history.users.sorted_indices():
        _window(sha, history, user, number)
    if pairs is not None:
        for i in items:
            _row(sha, pairs, i, number)
    return sha.hexdigest()


def _text(sha: Any, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    sha.update(len(data).to_bytes(4, "little") + data)


def _window(sha: Any, history: History, user: int, number: npt.NDArray[np.int32]) -> None:
    window = history.window(user)
    window = window[window["item"] != DEAD]
    if not len(window):
        return
    window = window[np.lexsort((window["key"], window["ts"]))]
    _text(sha, history.users.name(user))
    sha.update(len(window).to_bytes(4, "little"))
    sha.update(number[window["item"]].astype("<i4").tobytes())
    for field, kind in (("ts", "<i8"), ("key", "<u8"), ("rating", "<i2"), ("kind", "u1")):
        sha.update(window[field].astype(kind).tobytes())


def _row(sha: Any, pairs: Pairs, item: int, number: npt.NDArray[np.int32]) -> None:
    if pairs.overflowed[item]:
        return
    row = pairs.row(item)
    others = number[row["item"]]
    order = np.argsort(others)
    sha.update(len(row).to_bytes(4, "little"))
    sha.update(others[order].astype("<i4").tobytes() + row["count"][order].astype("<i4").tobytes())
