"""Kernels of `models.rating_neighbours`: opinions read from the windows, similarities of users and of items in one walk.

An *opinion* is a user's newest rating of an item among the events of the window, in thousandths of a star.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.kernel import kernel
from models.rows import Array

OPINION: Final = np.dtype([("item", "<i8"), ("rating", "<i8")])
PERSON: Final = np.dtype(
    [("user", "<i4"), ("common", "<i4"), ("rating", "<f8"), ("mean", "<f8"), ("cosine", "<f8"), ("pearson", "<f8")], align=True
)
"""Another rater of the item: items rated in common, their rating of the item and mean (stars), similarities to the user."""
THING: Final = np.dtype(
    [("item", "<i4"), ("common", "<i4"), ("rating", "<f8"), ("mean", "<f8"), ("cosine", "<f8"), ("adjusted", "<f8")], align=True
)
"""Another item the user has rated: raters in common, the user's rating of it and its mean (stars), similarities to the item."""
SUMS: Final = np.dtype([("dot", "<i8"), ("common", "<i8"), ("product", "<f8"), ("left", "<f8"), ("right", "<f8")])

FLAT: Final = 1e-9
"""Deviations whose lengths multiply to less than this (stars squared) have no direction: the similarity is 0."""


@kernel
def opinion(data: Array, rows: Array, user: int, item: int) -> int:
    """The user's newest rating of the item, 0 if there is none."""
    start = rows[user].start
    for k in range(start + rows[user].size - 1, start - 1, -1):
        if data[k].item == item and data[k].rating > 0:
            return int(data[k].rating)
    return 0


@kernel
def opinions(data: Array, rows: Array, user: int, met: Array, clock: Array, out: Array) -> int:
    """Write the user's opinions into `out`, the newest first; their number. `met` (per item) holds older readings of `clock`."""
    clock[0] += 1
    now = clock[0]
    count = 0
    start = rows[user].start
    for k in range(start + rows[user].size - 1, start - 1, -1):
        item = data[k].item
        if data[k].rating > 0 and item >= 0 and met[item] != now:
            met[item] = now
            out[count].item = item
            out[count].rating = data[k].rating
            count += 1
    return count


@kernel
def direction(product: float, left: float, right: float) -> float:
    """Cosine of two vectors of deviations from their inner product and squared lengths."""
    length = np.sqrt(left * right)
    return product / length if length > FLAT else 0.0


@kernel
def compare(
    data: Array, rows: Array, raters: Array, user: int, item: int, item_sum: Array, item_count: Array, item_squares: Array,
    place: Array, met: Array, clock: Array, own: Array, theirs: Array, sums: Array, people: Array, things: Array,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Compare the user with the raters of the item, and the item with what the user has rated, in one walk over the raters'
    windows. `place` (per item) is all 0 before and after; `user` -1 has no opinions.

    Returns the number of `people` and of `things` written, the number of the user's opinions and their sum.
    """
    held = opinions(data, rows, user, met, clock, own) if user >= 0 else 0
    total = 0
    squares = 0
    for k in range(held):
        rating = own[k].rating
        place[own[k].item] = k + 1
        total += rating
        squares += rating * rating
        sums[k].dot = 0
        sums[k].common = 0
        sums[k].product = 0.0
        sums[k].left = 0.0
        sums[k].right = 0.0
    mean = total / held / 1000 if held else 0.0
    others = 0
    for p in range(len(raters)):
        other = raters[p]
        count = opinions(data, rows, other, met, clock, theirs)
        their_total = 0
        their_squares = 0
        of_item = 0
        for x in range(count):
            rating = theirs[x].rating
            their_total += rating
            their_squares += rating * rating
            if theirs[x].item == item:
                of_item = rating
        their_mean = their_total / count / 1000
        above = of_item / 1000 - their_mean
        dot = 0
        common = 0
        product = 0.0
        left = 0.0
        right = 0.0
        for x in range(count):
            k = place[theirs[x].item] - 1
            if k >= 0:
                rating = theirs[x].rating
                mine = own[k].rating / 1000 - mean
                deviation = rating / 1000 - their_mean
                dot += rating * own[k].rating
                common += 1
                product += mine * deviation
                left += mine * mine
                right += deviation * deviation
                sums[k].dot += rating * of_item
                sums[k].common += 1
                sums[k].product += above * deviation
                sums[k].left += above * above
                sums[k].right += deviation * deviation
        if other != user:
            people[others].user = other
            people[others].common = common
            people[others].rating = of_item / 1000
            people[others].mean = their_mean
            people[others].cosine = dot / (np.sqrt(float(squares)) * np.sqrt(float(their_squares))) if held else 0.0
            people[others].pearson = direction(product, left, right)
            others += 1
    kept = 0
    for k in range(held):
        j = own[k].item
        place[j] = 0
        if j != item and item_count[j] > 0:
            things[kept].item = j
            things[kept].common = sums[k].common
            things[kept].rating = own[k].rating / 1000
            things[kept].mean = item_sum[j] / item_count[j] / 1000
            things[kept].cosine = 0.0
            if sums[k].dot > 0:
                things[kept].cosine = sums[k].dot / (np.sqrt(float(item_squares[item])) * np.sqrt(float(item_squares[j])))
            things[kept].adjusted = direction(sums[k].product, sums[k].left, sums[k].right)
            kept += 1
    return others, kept, held, total
