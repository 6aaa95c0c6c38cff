"""Kernels of the walk through the user's peers; see `models.sources.peers`."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.kernel import ahead_in, allocating_kernel, inlined, is_wide, kernel, prefetch
from models.rows import Array
from models.side_by_side import WIDTH, add, add_product
from models.sources.choosing import choose_allowed, first_keys, threshold

LANES: Final = WIDTH - 1
"""The most lanes there can be: their sums stand side by side, and there is one more of an item (see `add_up`)."""
COLUMNS: Final = 2 * WIDTH
"""Numbers that are kept per item, all in one cache line (see `best`)."""
TIES: Final = 2
"""At most so many times K peers count, where they are as near as the K-th."""
MARK: Final = 16
"""Bits of a count of peers: those of all lanes are one number, which a float64 holds exactly."""
MASKS: Final = 1 << LANES
"""Sets of lanes, one bit each."""
_AT_ONCE: Final = 32
"""Places of a profile that are looked at without asking after each whether it was the one."""
_LATER, _SOON, _ITEMS = 16, 3, 32
"""Peers so many places ahead are asked for, and nearer ones for so many items, the newest (see `_ask_for`)."""


# ------------------------------------------------------------------------------------------------ meeting
@kernel
def most(profile: Array, length: int, rows: Array) -> int:
    """How many peers there can be."""
    total = 0
    for x in range(max(0, len(profile) - length), len(profile)):
        total += rows[profile[x].item].size
    return total


@allocating_kernel
def meet(
    profile: Array, lengths: Array, decays: Array, rare: Array, events: int, takers: Array, inverse_root: Array,
    data: Array, rows: Array, profile_rows: Array, place_of: Array, users: Array, sizes: Array, match: Array, shared: Array,
    reached: Array, before: int,
) -> int:  # fmt: skip
    """Give every peer a place, in the order in which they are met, and add up what they share in all lanes. Returns their number.

    `reached[lane]` is the number of those that the lane looks at. `place_of[v]` holds for `v` if `users[place_of[v]]` is v, so
    that nothing has to be cleared but the `before` sums of the last time. No branch on whether a peer is new: it could not be
    predicted.
    """
    shared[:before] = 0.0
    reached[:] = 0
    ages = np.ones(LANES)
    parts = np.zeros(WIDTH)
    n = np.uint64(0)
    far = ahead_in(place_of)
    for back in range(min(lengths.max(), len(profile))):
        own = profile[len(profile) - 1 - back]
        j = own.item
        rarity = np.log((events + 1.0) / takers[j])
        for lane in range(LANES):
            parts[lane] = 0.0
            if back < lengths[lane]:
                parts[lane] = ages[lane] * (rarity if rare[lane] else own.weight / 256.0 * inverse_root[j])
                ages[lane] *= decays[lane]
        row = data[rows[j].start : rows[j].start + rows[j].size]
        for c in range(len(row)):
            if c + far < len(row):
                prefetch(place_of, row[c + far])
                prefetch(profile_rows, row[c + far])
            v = np.uint64(row[c])
            users[n] = v
            match[n] = j
            sizes[n] = profile_rows[v].size
            place = np.uint64(place_of[v])
            known = (place < n) & (users[place] == v)
            place = place if known else n
            place_of[v] = place
            add(shared, place, parts)
            n += np.uint64(not known)
        for lane in range(LANES):
            if back < lengths[lane]:
                reached[lane] = n
    return int(n)


# ------------------------------------------------------------------------------------------------ choosing
@allocating_kernel
def _lowest(weights: Array, users: Array, keys: Array, k: int) -> float:
    """The least weight that counts: that of the `k`-th nearest, at least the smallest number above 0. Where more than `TIES` k
    would, those of them whose keys are not the smallest lose their weight."""
    least = np.nextafter(0.0, 1.0)
    positive = 0
    for place in range(len(weights)):
        positive += weights[place] > 0.0
    if positive <= k:
        return float(least)
    low, high = threshold(weights, k, k)
    near = 0
    for place in range(len(weights)):
        near += weights[place] >= low
    if near > TIES * k:  # then those between the bounds are all equal, and their keys decide
        tied = np.empty(near, keys.dtype)
        n = 0
        for place in range(len(weights)):
            if low <= weights[place] < high:
                tied[n] = keys[users[place]]
                n += 1
        last = first_keys(tied[:n], TIES * k - (near - n))
        for place in range(len(weights)):
            if low <= weights[place] < high and keys[users[place]] > last:
                weights[place] = 0.0
    return float(max(low, least))


@allocating_kernel
def nearest(
    user: int, met: int, users: Array, sizes: Array, shared: Array, reached: Array, norms: Array, keys: Array, most: Array,
    near: Array,
) -> int:  # fmt: skip
    """The places of all peers that count in some lane into `near`, in the order of their keys; their number. `shared` becomes the
    weights of those, 0 in lanes where they do not count."""
    weights = np.empty((LANES, met))
    lows = np.empty(LANES)
    for place in range(met):
        others = users[place] != user
        for lane in range(LANES):  # nothing is shared in lanes that do not reach as far
            weights[lane, place] = shared[place, lane] * norms[lane, sizes[place]] * others
    for lane in range(LANES):
        lows[lane] = _lowest(weights[lane, : reached[lane]], users, keys, most[lane])
    n = 0
    for place in range(met):
        near[n] = place
        n += (weights[0, place] >= lows[0]) | (weights[1, place] >= lows[1]) | (weights[2, place] >= lows[2])
    for x in range(n):
        for lane in range(LANES):
            weight = weights[lane, near[x]]
            shared[near[x], lane] = weight if weight >= lows[lane] else 0.0
    _by_key(near[:n], users, keys)
    return n


@allocating_kernel
def _by_key(places: Array, users: Array, keys: Array) -> None:
    """Put places in the order of their users' keys. Those are hashes: with as many drawers as there are places, next to nothing
    is left to sort."""
    n = len(places)
    bits = 1
    while (1 << bits) < n:
        bits += 1
    drawers = 1 << bits
    shift = np.uint64(64 - bits)
    ends = np.zeros(drawers + 1, np.int64)
    loose = np.empty(n, keys.dtype)
    for x in range(n):
        loose[x] = keys[users[places[x]]]
        ends[np.int64(loose[x] >> shift) + 1] += 1
    for d in range(drawers):
        ends[d + 1] += ends[d]
    held = np.empty(n, keys.dtype)
    sorted_places = np.empty(n, places.dtype)
    for x in range(n):
        drawer = np.int64(loose[x] >> shift)
        held[ends[drawer]] = loose[x]
        sorted_places[ends[drawer]] = places[x]
        ends[drawer] += 1
    for x in range(n):
        key = held[x]
        place = sorted_places[x]
        at = x
        while at > 0 and held[at - 1] > key:
            held[at] = held[at - 1]
            places[at] = places[at - 1]
            at -= 1
        held[at] = key
        places[at] = place


# ------------------------------------------------------------------------------------------------ what they have
@kernel
def clear(score: Array, touched: Array, count: int) -> None:
    """Set the scores of the touched items to 0, and the peers that speak for them."""
    far = ahead_in(score)
    for x in range(count):
        if x + far < count:
            prefetch(score, touched[x + far])
        for lane in range(LANES + 1):
            score[touched[x], lane] = 0.0


@inlined
def _place(row: Array, item: int) -> int:
    """Where an item stands in a profile that holds it: most probably far behind, but where cannot be predicted, so that it pays
    to look at some places more than are needed (see `_AT_ONCE`)."""
    end = len(row)
    place = -1
    while place < 0 and end > 0:
        begin = max(0, end - _AT_ONCE)
        for q in range(begin, end):
            place = q if row[q].item == item else place
        end = begin
    return max(0, place)


@inlined
def _add(
    row: Array, begin: int, end: int, place: int, fade: Array, at: int, span: int, weights: Array, score: Array, touched: Array,
    n: int,
) -> int:  # fmt: skip
    """Add the places `begin` to `end` of a peer's profile to the scores of their items. The `span` rows of `fade` from `at` on
    are those for the lanes in which the peer counts. Returns the number of touched items."""
    middle = span // 2
    for q in range(max(0, begin), min(end, len(row))):
        i = np.uint64(row[q].item)
        touched[np.uint64(n)] = i
        n += score[i, LANES] == 0.0
        add_product(score, i, fade, at + min(max(q - place + middle, 0), span - 1), weights)
    return n


@inlined
def _ask_for(x: int, near: Array, users: Array, profiles: Array, profile_rows: Array, score: Array) -> None:
    """Ask for the profile of a peer some places ahead, and for the scores of the items of the next one's if they are not at hand:
    that is as much work as adding up."""
    if x + _LATER < len(near):
        later = profile_rows[users[near[x + _LATER]]]
        prefetch(profiles, later.start)
        prefetch(profiles, later.start + later.size - 1)
    if is_wide(score) and 0 <= x + _SOON < len(near):
        soon = profile_rows[users[near[x + _SOON]]]
        for q in range(max(0, soon.size - _ITEMS), soon.size):
            prefetch(score, profiles[soon.start + q].item)


@kernel
def add_up(
    profiles: Array, profile_rows: Array, near: Array, users: Array, match: Array, shared: Array, fade: Array, reach: Array,
    bounded: Array, newest: int, weights: Array, score: Array, touched: Array,
) -> int:  # fmt: skip
    """Scores of all items that the nearest have, in all lanes; their number. `near` are places, `shared` weights. Beyond the
    lanes stand the peers that speak for an item. `fade` (`MASKS` span, WIDTH): `span` rows by distance for each set of lanes."""
    n = 0
    span = len(fade) // MASKS
    weights[LANES] = 1.0
    everywhere = is_wide(profiles)
    for x in range(-_LATER if everywhere else 0, len(near)):
        if everywhere:
            _ask_for(x, near, users, profiles, profile_rows, score)
        if x < 0:
            continue
        at = near[x]
        v = users[at]
        row = profiles[profile_rows[v].start : profile_rows[v].start + profile_rows[v].size]
        place = _place(row, match[at])
        cut = max(0, len(row) - newest)
        for old in range(1 + (cut > 0)):  # what is newer than the bound, then what is older, for lanes without one
            mask = 0
            far = -1
            for lane in range(LANES):
                weights[lane] = 0.0
                if shared[at, lane] > 0.0 and not (old and bounded[lane]):
                    weights[lane] = shared[at, lane]
                    mask |= 1 << lane
                    far = max(far, reach[lane])
            begin = max(place - far, 0 if old else cut)
            end = min(place + far + 1, cut if old else len(row))
            n = _add(row, begin, end, place, fade, mask * span, span, weights, score, touched, n)
    return n


@allocating_kernel
def best(
    score: Array, touched: Array, count: int, shares: Array, takers: Array,
    open_items: Array, seen: Array, stamp: int, keys: Array, k: int, items: Array, scores: Array, candidates: Array,
) -> None:  # fmt: skip
    """Divide all scores by n_i^share: the factors of all lanes stand in a row of `score` behind the scores and the peers that
    speak for the item, and last the n_i they are of. The best `k` allowed items of each lane into the rows of `items` and
    `scores`, their numbers into `candidates`."""
    values = np.empty((LANES, count))
    far = ahead_in(score)
    for x in range(count):
        if x + far < count:
            prefetch(score, touched[x + far])
            prefetch(takers, touched[x + far])
        i = touched[x]
        if score[i, COLUMNS - 1] != takers[i]:
            score[i, COLUMNS - 1] = takers[i]
            for lane in range(LANES):
                score[i, LANES + 1 + lane] = float(takers[i]) ** -shares[lane]
        for lane in range(LANES):
            score[i, lane] *= score[i, LANES + 1 + lane]
            values[lane, x] = score[i, lane]
    for lane in range(LANES):
        candidates[lane] = choose_allowed(
            values[lane], touched[:count], open_items, seen, stamp, keys, k, items[lane], scores[lane]
        )  # fmt: skip


@kernel
def speakers(score: Array, lane: int, items: Array, out: Array) -> None:
    """How many of a lane's nearest speak for each of `items` into `out` (n, 1)."""
    for x in range(len(items)):
        out[x, 0] = (int(score[items[x], LANES]) >> (MARK * lane)) & ((1 << MARK) - 1)
