"""From fused shares to the list: the best items in a fixed order. Filters that hold for every list are applied before, by the
sources (`Query.open`, `Query.seen`), so that no candidate is wasted on what cannot be shown."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import kernel
from models.rows import Array
from models.sources.base import allowed


@kernel
def _best(
    items: Array, shares: Array, keys: Array, open_items: Array, seen: Array, stamp: int, order: Array, totals: Array
) -> int:  # fmt: skip
    """Places of the best candidates (at most len(order)), the best first; equal scores by key. Insertion: lists are short."""
    n = 0
    bound = len(order)
    for x in range(len(items)):
        total = 0.0
        for s in range(shares.shape[0]):
            total += shares[s, x]
        if total <= 0.0 or not allowed(items[x], open_items, seen, stamp):
            continue
        if n == bound and not _before(total, keys[items[x]], totals[n - 1], keys[items[order[n - 1]]]):
            continue
        place = n if n < bound else n - 1
        n = min(n + 1, bound)
        while place > 0 and _before(total, keys[items[x]], totals[place - 1], keys[items[order[place - 1]]]):
            totals[place] = totals[place - 1]
            order[place] = order[place - 1]
            place -= 1
        totals[place] = total
        order[place] = x
    return n


@kernel
def _before(score: float, key: np.uint64, other: float, other_key: np.uint64) -> bool:
    return bool(score > other or (score == other and key < other_key))


def best(
    items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64], n: int,
    open_items: npt.NDArray[np.uint8], seen: npt.NDArray[np.int64], stamp: int,
) -> npt.NDArray[np.int64]:  # fmt: skip
    """Places in `items` of the at most `n` best that may be shown and have a score above 0, the best first."""
    order, totals = np.empty(n, np.int64), np.empty(n)
    return order[: _best(items, shares, keys, open_items, seen, stamp, order, totals)]
