"""Kernels of `sources.rated_cf`: who has rated what the user has rated, their opinions side by side, and two ways to add up.

Raters met for a query, the *peers*, stand in the order of their keys, and every sum goes over them in that order: it does not
depend on the order in which people came. Opinions of peer p are the cells `begins[p] .. begins[p + 1]` of two arrays, the item
and the deviation of the rating from the mean of all of the peer's opinions (stars).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.kernel import allocating_kernel, inlined, kernel
from models.rating_neighbours.kernels import direction, opinions
from models.rows import Array
from models.sources.accumulator import blank, offer
from models.sources.choosing import choose

PAIRED: Final = np.dtype([("common", "<i8"), ("product", "<f8"), ("left", "<f8"), ("right", "<f8")])
"""What the raters of one item say of another: how many rated both, inner product and squared lengths of the deviations."""
DIGITS: Final = 1e12
"""Weights of peers are rounded to so many parts of 1: what is 0, or equal, must not hang on the last bits."""
FAINT: Final = 1e-9
"""A score below it is what rounding leaves where opinions cancel: 0."""


# ------------------------------------------------------------------------------------------------ who, and what they think
@kernel
def most(own: Array, rater_rows: Array) -> int:
    """The raters of the items of opinions, those met twice counted twice."""
    total = 0
    for x in range(len(own)):
        total += rater_rows[own[x].item].size
    return int(total)


@allocating_kernel
def meet(
    own: Array, rater_data: Array, rater_rows: Array, window_rows: Array, keys: Array, place_of: Array, users: Array,
    crowd: Array, ends: Array,
) -> tuple[int, int]:  # fmt: skip
    """Write the distinct raters of the items of `own` into `users`, by key, and for each of these items their places there, in
    rising order, one item after the other, into `crowd`; `ends[x]` is where those of item x end. `place_of` (per user) is all 0
    before and after. Returns the number of peers and the number of events in all their windows.
    """
    count = 0
    cells = 0
    for x in range(len(own)):
        row = rater_rows[own[x].item]
        for r in range(row.start, row.start + row.size):
            user = rater_data[r]
            if place_of[user] == 0:
                place_of[user] = 1
                users[count] = user
                count += 1
                cells += window_rows[user].size
    met = users[:count].copy()
    order = np.argsort(keys[met])
    for p in range(count):
        users[p] = met[order[p]]
        place_of[users[p]] = p
    end = 0
    for x in range(len(own)):
        row = rater_rows[own[x].item]
        begin = end
        for r in range(row.start, row.start + row.size):
            crowd[end] = place_of[rater_data[r]]
            end += 1
        crowd[begin:end] = np.sort(crowd[begin:end])
        ends[x] = end
    for p in range(count):
        place_of[users[p]] = 0
    return count, int(cells)


@kernel
def read(
    data: Array, rows: Array, users: Array, met: Array, clock: Array, theirs: Array, begins: Array, items: Array,
    deviations: Array,
) -> None:  # fmt: skip
    """Write the opinions of the peers as cells (see the module)."""
    end = 0
    for p in range(len(users)):
        begins[p] = end
        count = opinions(data, rows, users[p], met, clock, theirs)
        total = 0
        for x in range(count):
            total += theirs[x].rating
        mean = total / count / 1000 if count else 0.0
        for x in range(count):
            items[end] = theirs[x].item
            deviations[end] = theirs[x].rating / 1000 - mean
            end += 1
    begins[len(users)] = end


# ------------------------------------------------------------------------------------------------ people
@kernel
def weigh(
    user: int, own: Array, mean: float, shrink: float, users: Array, begins: Array, items: Array, deviations: Array,
    place: Array, weights: Array,
) -> None:  # fmt: skip
    """w of each peer into `weights`, 0 for the user. `own` are all opinions of the user; `place` (per item) is all 0 before and
    after."""
    for k in range(len(own)):
        place[own[k].item] = k + 1
    for p in range(len(users)):
        common = 0
        product = 0.0
        left = 0.0
        right = 0.0
        for c in range(begins[p], begins[p + 1]):
            k = place[items[c]] - 1
            if k >= 0:
                mine = own[k].rating / 1000 - mean
                common += 1
                product += mine * deviations[c]
                left += mine * mine
                right += deviations[c] * deviations[c]
        weight = direction(product, left, right) * common / (common + shrink) if common else 0.0
        weights[p] = np.rint(weight * DIGITS) / DIGITS if users[p] != user else 0.0
    for k in range(len(own)):
        place[own[k].item] = 0


@allocating_kernel
def nearest(weights: Array, k: int) -> Array:
    """The places of the `k` largest weights above 0, in rising order; equal ones by place, which is by key."""
    near = np.flatnonzero(weights > 0.0)
    places = np.empty(min(k, len(near)), np.int64)
    if len(near):
        choose(weights[near], near, np.arange(len(weights)).astype(np.uint64), k, places, np.empty(len(places)))
    return np.sort(places)


@kernel
def listen(
    near: Array, weights: Array, begins: Array, items: Array, deviations: Array, score: Array, heard: Array, speaks: Array,
    touched: Array,
) -> int:  # fmt: skip
    """Add up what the nearest peers think of each item; `heard` counts those who have rated it, `speaks` those who speak for it.
    Returns how many items are touched."""
    n = 0
    for p in near:
        for c in range(begins[p], begins[p + 1]):
            i = items[c]
            touched[n] = i
            n += heard[i] == 0
            heard[i] += 1
            speaks[i] += deviations[c] > 0.0
            score[i] += weights[p] * deviations[c]
    _drop(score, touched, n)
    return n


# ------------------------------------------------------------------------------------------------ items
@inlined
def _beside(item: int, crowd: Array, begins: Array, items: Array, deviations: Array, sums: Array, touched: Array) -> int:
    """What the raters of one item think of all items into `sums`, all 0 before; returns how many items are touched."""
    n = 0
    for p in crowd:
        above = 0.0
        for c in range(begins[p], begins[p + 1]):
            if items[c] == item:
                above = deviations[c]
                break
        for c in range(begins[p], begins[p + 1]):
            i = items[c]
            deviation = deviations[c]
            touched[n] = i
            n += sums[i].common == 0
            sums[i].common += 1
            sums[i].product += above * deviation
            sums[i].left += above * above
            sums[i].right += deviation * deviation
    return n


@inlined
def _adjusted(sums: Array, i: int, shrink: float) -> float:
    """Adjusted cosine, shrunk, from the sums of an item that at least one has rated."""
    common = sums[i].common
    return float(direction(sums[i].product, sums[i].left, sums[i].right) * common / (common + shrink))


@inlined
def _wipe(sums: Array, touched: Array, n: int) -> None:
    for x in range(n):
        i = touched[x]
        sums[i].common = 0
        sums[i].product = 0.0
        sums[i].left = 0.0
        sums[i].right = 0.0


@kernel
def spread(
    own: Array, tastes: Array, shrink: float, crowd: Array, ends: Array, begins: Array, items: Array, deviations: Array,
    sums: Array, beside: Array, score: Array, heard: Array, touched: Array,
) -> int:  # fmt: skip
    """Add up the similarities of all items to those of `own`, each times its `tastes`; returns how many items are touched."""
    n = 0
    begin = 0
    for x in range(len(own)):
        count = _beside(own[x].item, crowd[begin : ends[x]], begins, items, deviations, sums, beside)
        begin = ends[x]
        for y in range(count):
            i = beside[y]
            if i != own[x].item:
                touched[n] = i
                n += heard[i] == 0
                heard[i] += 1
                score[i] += tastes[x] * _adjusted(sums, i, shrink)
        _wipe(sums, beside, count)
    _drop(score, touched, n)
    return n


@allocating_kernel
def because_of(
    own: Array, tastes: Array, positive_rating: int, shrink: float, crowd: Array, ends: Array, begins: Array, items: Array,
    deviations: Array, sums: Array, beside: Array, wanted: Array, fraction: Array, because: Array,
) -> None:  # fmt: skip
    """For each wanted item the items of the profile that speak most for it, as parts of all that speaks for it; what is unlike
    something disliked counts among the latter only, since no disliked item is part of a profile."""
    blank(fraction, because, len(wanted))
    totals = np.zeros(len(wanted))
    begin = 0
    for x in range(len(own)):
        j = own[x].item
        count = _beside(j, crowd[begin : ends[x]], begins, items, deviations, sums, beside)
        begin = ends[x]
        for w in range(len(wanted)):
            i = wanted[w]
            if i != j and sums[i].common > 0:
                part = tastes[x] * _adjusted(sums, i, shrink)
                if part > 0.0:
                    totals[w] += part
                    if own[x].rating >= positive_rating:
                        offer(fraction, because, w, part, j)
        _wipe(sums, beside, count)
    for w in range(len(wanted)):
        for e in range(fraction.shape[1]):
            fraction[w, e] = fraction[w, e] / totals[w] if totals[w] > 0.0 else 0.0


# ------------------------------------------------------------------------------------------------ scores
@inlined
def _drop(score: Array, touched: Array, n: int) -> None:
    """No score where nothing, or more against than for an item, is left."""
    for x in range(n):
        if score[touched[x]] < FAINT:
            score[touched[x]] = 0.0


@kernel
def clear(score: Array, heard: Array, speaks: Array, touched: Array, count: int) -> None:
    """Set the touched places to 0."""
    for x in range(count):
        score[touched[x]] = 0.0
        heard[touched[x]] = 0
        speaks[touched[x]] = 0
