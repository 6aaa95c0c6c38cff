"""Choosing the best of many: what the kernels of most sources share."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.kernel import ahead_in, allocating_kernel, inlined, is_wide, kernel, prefetch
from models.rows import Array

_LONG: Final = 512
"""Longer lists are made with a heap."""
_MANY: Final = 2048
"""Values that are at hand anyway: it does not pay to spare looking at some."""
_SAMPLE: Final = 128
"""Of many values so many tell how large those wanted are."""
_WIDER: Final = 2
"""So many times the items wanted are chosen before it is asked which of them may be in the list."""


@kernel
def allowed(item: int, open_items: Array, seen: Array, stamp: int) -> bool:
    """Whether an item may be in the list."""
    return bool(open_items[item] != 0 and seen[item] != stamp)


@kernel
def push(items: Array, scores: Array, keys: Array, n: int, k: int, item: int, score: float) -> int:
    """Offer an item to the heap of the best k (the worst on top; equal scores: the smaller key is better). Returns its size."""
    if n < k:
        c = n
        n += 1
    elif score > scores[0] or (score == scores[0] and keys[item] < keys[items[0]]):
        # sift the hole at the root down to a leaf's place
        c = 0
        while 2 * c + 1 < n:
            d = 2 * c + 1
            if d + 1 < n and (scores[d + 1] < scores[d] or (scores[d + 1] == scores[d] and keys[items[d + 1]] > keys[items[d]])):
                d += 1
            if not (scores[d] < score or (scores[d] == score and keys[items[d]] > keys[item])):
                break
            items[c] = items[d]
            scores[c] = scores[d]
            c = d
        items[c] = item
        scores[c] = score
        return n
    else:
        return n
    while c > 0:
        p = (c - 1) // 2
        if not (scores[p] > score or (scores[p] == score and keys[items[p]] < keys[item])):
            break
        items[c] = items[p]
        scores[c] = scores[p]
        c = p
    items[c] = item
    scores[c] = score
    return n


@kernel
def settle(items: Array, scores: Array, keys: Array, n: int) -> None:
    """Turn the heap of `push` into a list, the best first."""
    for end in range(n - 1, 0, -1):
        item = items[end]
        score = scores[end]
        items[end] = items[0]
        scores[end] = scores[0]
        c = 0
        while 2 * c + 1 < end:
            d = 2 * c + 1
            if d + 1 < end and (
                scores[d + 1] < scores[d] or (scores[d + 1] == scores[d] and keys[items[d + 1]] > keys[items[d]])
            ):
                d += 1
            if not (scores[d] < score or (scores[d] == score and keys[items[d]] > keys[item])):
                break
            items[c] = items[d]
            scores[c] = scores[d]
            c = d
        items[c] = item
        scores[c] = score


@kernel
def _floor(values: Array, k: int, sample: Array) -> float:
    """A value that most probably `k` of many reach, and not many more: by an even sample of them."""
    stride = len(values) // _SAMPLE
    share = k * _SAMPLE // len(values)
    rank = min(share + 3 + 2 * int(np.sqrt(float(share))), len(sample))
    sample[:rank] = -np.inf
    for x in range(_SAMPLE):
        value = values[x * stride]
        at = rank - 1
        if value > sample[at]:
            while at > 0 and sample[at - 1] < value:
                sample[at] = sample[at - 1]
                at -= 1
            sample[at] = value
    return float(sample[rank - 1])


@kernel
def _bisected(values: Array, k: int, most: int) -> tuple[float, float]:
    """See `threshold`."""
    low = values[0]
    high = values[0]
    for x in range(len(values)):
        low = min(low, values[x])
        high = max(high, values[x])
    high = np.nextafter(high, np.inf)
    above = len(values)
    rounds = 0
    while above > most:
        middle = 0.5 * (low + high)
        count = 0
        for x in range(len(values)):
            count += values[x] >= middle
        if count >= k:
            low = middle
            above = count
        else:
            high = middle
        rounds += 1
        if rounds % 16 == 0:
            least = np.inf
            largest = -np.inf
            for x in range(len(values)):
                if low <= values[x] < high:
                    least = min(least, values[x])
                    largest = max(largest, values[x])
            low = least
            if least == largest:
                break
            high = min(high, np.nextafter(largest, np.inf))
    return low, high


@allocating_kernel
def threshold(values: Array, k: int, most: int) -> tuple[float, float]:
    """Bounds (low, high) with: at least `k` values are >= low, fewer than `k` are >= high, and at most `most` are >= low unless
    those below `high` are all equal. Bisection: counting has no branches, and 20 rounds of it are cheaper than a heap. Of many
    values only those are counted that can be among the first, as far as a sample tells."""
    n = len(values)
    if n <= max(_MANY, 8 * most):
        return _bisected(values, k, most)
    floor = _floor(values, k, np.empty(_SAMPLE // 2))
    upper = np.empty(n)
    m = 0
    for x in range(n):
        upper[m] = values[x]
        m += values[x] >= floor
    return _bisected(upper[:m] if m >= k else values, k, most)


@allocating_kernel
def foremost(values: Array, ids: Array, k: int, most: int, held: Array, held_ids: Array) -> int:
    """Those of `ids` with the best `k` values, and more, into `held` and `held_ids` (n,), in no order; how many: at most `most`
    unless some are equal. Many are walked through once, keeping those that can be among the first as far as a sample tells."""
    n = len(values)
    m = np.uint64(0)
    if n > _MANY:
        floor = _floor(values, k, np.empty(_SAMPLE // 2))
        for x in range(n):
            held[m] = values[x]
            held_ids[m] = ids[x]
            m += np.uint64(values[x] >= floor)
    if m < np.uint64(k):
        held[:n] = values
        held_ids[:n] = ids
        m = np.uint64(n)
    among = int(np.int64(m))
    low, _ = _bisected(held[:among], k, most)
    m = np.uint64(0)
    for x in range(among):
        value = held[x]
        held[m] = value
        held_ids[m] = held_ids[x]
        m += np.uint64(value >= low)
    return int(np.int64(m))


@kernel
def first_keys(keys: Array, wanted: int) -> np.uint64:
    """The largest of the `wanted` smallest keys, which are hashes: evenly spread."""
    low = np.uint64(0)
    high = np.uint64(0xFFFFFFFFFFFFFFFF)
    while low < high:
        middle = low + (high - low) // np.uint64(2)
        count = 0
        for x in range(len(keys)):
            count += keys[x] <= middle
        if count == wanted:
            return middle
        if count > wanted:
            high = middle
        else:
            low = middle + np.uint64(1)
    return low


@allocating_kernel
def _ranked(values: Array, ids: Array, keys: Array, k: int, items: Array, scores: Array) -> None:
    """The best `k` in order. A place is the number of those that are better: n^2 comparisons, without a branch in sight."""
    n = len(values)
    places = np.empty(n, np.int64)
    total = 0
    for x in range(n):
        better = 0
        for y in range(n):
            better += values[y] > values[x]
        places[x] = better
        total += better
    if 2 * total != n * (n - 1):  # some are equal, and stand in one place
        standing = np.zeros(n, np.int64)
        for x in range(n):
            standing[places[x]] += 1
        for x in range(n):
            if standing[places[x]] > 1:
                for y in range(n):
                    places[x] += (values[y] == values[x]) & (keys[y] < keys[x])
    for x in range(n):
        if places[x] < k:
            items[places[x]] = ids[x]
            scores[places[x]] = values[x]


@allocating_kernel
def choose(values: Array, ids: Array, keys: Array, k: int, items: Array, scores: Array) -> int:
    """The best `k` of `ids` by `values` (n,), equal ones by the smaller key, into `items` and `scores`, the best first; returns
    how many. `keys` is by id, no two the same."""
    n = len(values)
    if k > _LONG:
        m = 0
        for x in range(n):
            m = push(items, scores, keys, m, k, ids[x], values[x])
        settle(items, scores, keys, m)
        return m
    chosen = np.empty(n, np.int32)
    most = k + k // 8 + 8
    m = 0
    if n <= most:
        for x in range(n):
            chosen[x] = x
        m = n
    else:
        low, high = threshold(values, k, most)
        for x in range(n):
            chosen[m] = x
            m += values[x] >= low
        if m > most:  # too many equal ones: their keys decide
            above = 0
            tied = np.empty(m, keys.dtype)
            for x in range(m):
                tied[x - above] = keys[ids[chosen[x]]]
                above += values[chosen[x]] >= high
            last = first_keys(tied[: m - above], k - above)
            count = m
            m = 0
            for x in range(count):
                chosen[m] = chosen[x]
                m += (values[chosen[x]] >= high) | (keys[ids[chosen[x]]] <= last)
    held = np.empty(m)
    held_ids = np.empty(m, ids.dtype)
    held_keys = np.empty(m, keys.dtype)
    for x in range(m):
        held[x] = values[chosen[x]]
        held_ids[x] = ids[chosen[x]]
        held_keys[x] = keys[held_ids[x]]
    _ranked(held, held_ids, held_keys, k, items, scores)
    return min(m, k)


@inlined
def _only_allowed(
    values: Array, ids: Array, open_items: Array, seen: Array, stamp: int, held: Array, held_ids: Array
) -> int:  # fmt: skip
    """Those that have a value above 0 and are allowed, into `held` and `held_ids` (which may be where they stand); how many."""
    m = np.uint64(0)
    for x in range(len(values)):
        i = np.uint64(ids[x])
        held[m] = values[x]
        held_ids[m] = i
        m += np.uint64((values[x] > 0.0) & (open_items[i] != 0) & (seen[i] != stamp))
    return int(np.int64(m))


@allocating_kernel
def choose_allowed(
    values: Array, ids: Array, open_items: Array, seen: Array, stamp: int, keys: Array, k: int, items: Array, scores: Array
) -> int:  # fmt: skip
    """As `choose`, of those that have a value above 0 and are allowed. To ask whether they are is to look all over the memory, so
    of many in a large catalogue it is asked only of the best."""
    n = len(values)
    wanted = _WIDER * k
    held = np.empty(n)
    held_ids = np.empty(n, ids.dtype)
    if n > 2 * wanted and is_wide(seen):
        among = foremost(values, ids, wanted, wanted + wanted // 4, held, held_ids)
        m = _only_allowed(held[:among], held_ids[:among], open_items, seen, stamp, held, held_ids)
        if m >= k:
            return choose(held[:m], held_ids[:m], keys, k, items, scores)
    m = _only_allowed(values, ids, open_items, seen, stamp, held, held_ids)
    return choose(held[:m], held_ids[:m], keys, k, items, scores)


@allocating_kernel
def best_of(
    score: Array, touched: Array, count: int, open_items: Array, seen: Array, stamp: int, keys: Array, k: int,
    items: Array, scores: Array,
) -> int:  # fmt: skip
    """The best `k` allowed of the first `count` touched items into `items` and `scores`, the best first; returns how many."""
    values = np.empty(count)
    far = ahead_in(score)
    for x in range(count):
        if x + far < count:
            prefetch(score, touched[x + far])
        values[x] = score[touched[x]]
    return choose_allowed(values, touched[:count], open_items, seen, stamp, keys, k, items, scores)


@allocating_kernel
def best_scaled(
    score: Array, scale: Array, touched: Array, count: int, open_items: Array, seen: Array, stamp: int, keys: Array, k: int,
    items: Array, scores: Array,
) -> int:  # fmt: skip
    """As `best_of`, once all scores have been multiplied by their items' `scale`."""
    values = np.empty(count)
    far = ahead_in(score)
    for x in range(count):
        if x + far < count:
            prefetch(score, touched[x + far])
            prefetch(scale, touched[x + far])
        i = touched[x]
        values[x] = score[i] * scale[i]
        score[i] = values[x]
    return choose_allowed(values, touched[:count], open_items, seen, stamp, keys, k, items, scores)
