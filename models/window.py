"""Kernels of `models.history`: windows of events, and profiles derived from them."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.kernel import allocating_kernel, kernel
from models.rows import Array, reserve
from models.takers import join, leave

EVENT: Final = np.dtype(
    [("ts", "<i8"), ("key", "<u8"), ("item", "<i4"), ("rating", "<i2"), ("kind", "u1"), ("spare", "u1")], align=True
)
"""One remembered event, 24 bytes: time (ms), hash of its id, item (`DEAD`: a tombstone), thousandths of a star, kind."""
PROFILE: Final = np.dtype([("item", "<i4"), ("weight", "<u2"), ("count", "<u2")], align=True)
"""One positive item of a user, 8 bytes: the largest weight among its positive events (1/256) and their number. Small, because
every list reads some hundred profiles; times stand in the window."""
ENTRY: Final = np.dtype([("item", "<i4"), ("weight", "<i4"), ("count", "<i4"), ("verdict", "<i4")], align=True)
WEIGHT_ONE: Final = 256
DEAD: Final = -1


@kernel
def find(data: Array, rows: Array, user: int, key: np.uint64) -> int:
    """Position of the event with this key in the user's window, or -1. The newest are looked at first."""
    start = rows[user].start
    for k in range(rows[user].size - 1, -1, -1):
        if data[start + k].key == key:
            return k
    return -1


@kernel
def admit(data: Array, rows: Array, user: int, key: np.uint64, ts: int, bound: int) -> int:
    """0 fresh, 1 known, 2 retracted, 3 too old (see `History.admit`)."""
    at = find(data, rows, user, key)
    start = rows[user].start
    if at >= 0:
        return 2 if data[start + at].item < 0 else 1
    if rows[user].size >= bound and ts < data[start].ts:
        return 3
    return 0


@kernel
def insert(
    data: Array, rows: Array, free: Array, user: int, item: int, ts: int, key: np.uint64, kind: int, rating: int
) -> None:  # fmt: skip
    """Put an event behind all that are not newer."""
    size = rows[user].size
    if not reserve(data, rows, free, user, size + 1):
        raise MemoryError("room was not made before the step")
    start = rows[user].start
    k = start + size
    while k > start and data[k - 1].ts > ts:
        data[k] = data[k - 1]
        k -= 1
    data[k].ts = ts
    data[k].key = key
    data[k].item = item
    data[k].rating = rating
    data[k].kind = kind
    data[k].spare = 0
    rows[user].size = size + 1


@kernel
def remove(data: Array, rows: Array, user: int, position: int, remember: bool) -> None:
    """Take an event out, or turn it into a tombstone."""
    start = rows[user].start
    if remember:
        data[start + position].item = -1
        data[start + position].rating = 0
        data[start + position].kind = 0
        return
    for k in range(start + position, start + rows[user].size - 1):
        data[k] = data[k + 1]
    rows[user].size -= 1


@kernel
def holds(data: Array, rows: Array, user: int, item: int) -> bool:
    """Whether one of the entries in a user's row, of a window or a profile, is about an item."""
    start = rows[user].start
    for k in range(rows[user].size - 1, -1, -1):  # noqa: SIM110  generators do not compile
        if data[start + k].item == item:
            return True
    return False


@allocating_kernel
def derive(
    data: Array, rows: Array, profile: Array, profile_rows: Array, free: Array,
    slot: Array, entries: Array, weights: Array, positive_rating: int, user: int, item: int,
) -> int:  # fmt: skip
    """Make the user's profile from the window. 1 if `item` joined it, -1 if `item` left it, else 0.

    `slot` (per item) is all -1 before and after. The window is read from new to old: the first review met is the newest, and
    items are met in the order of their last positive event.
    """
    held = holds(profile, profile_rows, user, item)
    start = rows[user].start
    met = 0
    order = np.empty(rows[user].size, np.int32)
    positives = 0
    for k in range(start + rows[user].size - 1, start - 1, -1):
        i = data[k].item
        if i < 0:
            continue
        e = slot[i]
        if e < 0:
            e = met
            slot[i] = e
            entries[e].item = i
            entries[e].weight = 0
            entries[e].count = 0
            entries[e].verdict = 0
            met += 1
        good = data[k].kind != 2 or data[k].rating >= positive_rating
        if data[k].kind == 2 and entries[e].verdict == 0:
            entries[e].verdict = 1 if good else -1
        if good:
            if entries[e].count == 0:
                order[positives] = e
                positives += 1
            entries[e].count += 1
            entries[e].weight = max(entries[e].weight, weights[data[k].kind])
    kept = 0
    for p in range(positives):
        if entries[order[p]].verdict >= 0:
            order[kept] = order[p]
            kept += 1
    if not reserve(profile, profile_rows, free, user, kept):
        raise MemoryError("room was not made before the step")
    to = profile_rows[user].start
    for p in range(kept):
        e = order[kept - 1 - p]
        profile[to + p].item = entries[e].item
        profile[to + p].weight = entries[e].weight
        profile[to + p].count = entries[e].count
    profile_rows[user].size = kept
    for e in range(met):
        slot[entries[e].item] = -1
    still = holds(profile, profile_rows, user, item)
    return int(still) - int(held)


@kernel
def _follow(
    data: Array, rows: Array, profile: Array, profile_rows: Array, profile_free: Array, takers_data: Array, takers_rows: Array,
    takers_free: Array, slot: Array, entries: Array, weights: Array, takers: Array, inverse_root: Array, positive_rating: int,
    most_users: int, user: int, item: int,
) -> int:  # fmt: skip
    """Make the profile again and count what became of `item` in it. Returns as `enter`."""
    change = derive(
        data, rows, profile, profile_rows, profile_free, slot, entries, weights, positive_rating, user, item
    )  # fmt: skip
    if change == 0:
        return 0
    takers[item] += change
    inverse_root[item] = 1.0 / np.sqrt(float(takers[item])) if takers[item] > 0 else 0.0
    if change > 0 and join(takers_data, takers_rows, takers_free, item, user, most_users):
        return 2
    if change < 0:
        leave(takers_data, takers_rows, item, user)
    return change


@kernel
def enter(
    data: Array, rows: Array, free: Array, profile: Array, profile_rows: Array, profile_free: Array, takers_data: Array,
    takers_rows: Array, takers_free: Array, slot: Array, entries: Array, weights: Array, item_events: Array, takers: Array,
    inverse_root: Array, positive_rating: int, most_users: int,
    user: int, item: int, ts: int, key: np.uint64, kind: int, rating: int,
) -> int:  # fmt: skip
    """An event enters a window. 1 if its item joined the profile (2: and displaced the oldest of its `most_users` users), -1 if
    it left, else 0."""
    insert(data, rows, free, user, item, ts, key, kind, rating)
    item_events[item] += 1
    return _follow(
        data, rows, profile, profile_rows, profile_free, takers_data, takers_rows, takers_free, slot, entries, weights, takers,
        inverse_root, positive_rating, most_users, user, item,
    )  # fmt: skip


@kernel
def withdraw(
    data: Array, rows: Array, profile: Array, profile_rows: Array, profile_free: Array, takers_data: Array,
    takers_rows: Array, takers_free: Array, slot: Array, entries: Array, weights: Array, item_events: Array, takers: Array,
    inverse_root: Array, positive_rating: int, most_users: int, user: int, item: int, position: int, remember: bool,
) -> int:  # fmt: skip
    """The event at `position` leaves its window (see `remove`). Returns as `enter`."""
    remove(data, rows, user, position, remember)
    item_events[item] -= 1
    return _follow(
        data, rows, profile, profile_rows, profile_free, takers_data, takers_rows, takers_free, slot, entries, weights, takers,
        inverse_root, positive_rating, most_users, user, item,
    )  # fmt: skip
