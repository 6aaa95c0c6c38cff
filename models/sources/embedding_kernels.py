"""Kernels of the next-item embedding. All numbers are float32.

Sums may be re-associated here (see `loose_kernel`): what they learn is no part of the exact state.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.dot import dot
from models.kernel import allocating_kernel, allocating_loose_kernel, inlined, is_wide, kernel, loose_kernel, prefetch
from models.rows import Array
from models.sources.accumulator import blank, offer

IN_RATE: Final = 3.0
"""Input vectors learn faster: each takes part in the context of many targets, but only by its small weight in it."""
BIAS_RATE: Final = 0.2
_LINE: Final = 16
"""Numbers in a cache line."""
_AHEAD: Final = 12
"""Vectors that are asked for before they are compared."""
NEXT, RECENT, TAUGHT = 0, 1, 2
"""Places in `counters`, see `taught`."""


@loose_kernel
def draw(state: Array, bound: int) -> int:
    """A number below `bound` from the generator in `state[0]` (xorshift64*, Vigna 2016)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return int(np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(33)) % bound)


@loose_kernel
def born(into: Array, out: Array, bias: Array, item: int, seed: Array) -> None:
    """First vectors of an item: uniform noise of standard deviation 0.1 and 0.05."""
    for a in range(into.shape[1]):
        into[item, a] = (np.float32(draw(seed, 1 << 24)) / np.float32(1 << 23) - np.float32(1)) * np.float32(0.1732)
        out[item, a] = (np.float32(draw(seed, 1 << 24)) / np.float32(1 << 23) - np.float32(1)) * np.float32(0.0866)
    bias[item] = 0


@loose_kernel
def context_of(into: Array, profile: Array, end: int, items: int, decay: float, alive: Array, context: Array) -> float:
    """Mean of the input vectors of the `items` profile entries before `end`, the newest first, each weighing `decay` of the next
    newer one. Returns the sum of the weights, 0 if there is no such vector."""
    context[:] = 0
    total = np.float32(0)
    weight = np.float32(1)
    for x in range(end - 1, max(-1, end - 1 - items), -1):
        j = profile[x].item
        if j < len(alive) and alive[j] != 0:
            for a in range(into.shape[1]):
                context[a] += weight * into[j, a]
            total += weight
        weight *= np.float32(decay)
    if total > 0:
        for a in range(into.shape[1]):
            context[a] /= total
    return float(total)


@inlined
def mark(item: int, stale: Array, changed: Array) -> None:
    """Note, once, that the bytes of an item are to be made (see `follow`). The first of `changed` is the number of the rest."""
    changed[1 + changed[0]] = item
    changed[0] += stale[item] == 0
    stale[item] = 1


@loose_kernel
def step(
    into: Array, out: Array, bias: Array, alive: Array, profile: Array, place: int, items: int, decay: float,
    rate: float, shrink: float, negatives: int, random: Array, pool: Array, stale: Array, changed: Array, scratch: Array,
    ids: Array, score: Array,
) -> None:  # fmt: skip
    """One step of sampled softmax: the item at `place` of a profile against `negatives` items of `pool`, given those before it.

    Rendle & Freudenthaler's FPMC with Kabbur, Ning & Karypis' FISM as its context; `scratch` is (2, dim), `ids` and `score` have
    `negatives` + 1 places.
    """
    dim = into.shape[1]
    context, gradient = scratch[0], scratch[1]
    target = profile[place].item
    total = context_of(into, profile, place, items, decay, alive, context)
    if total == 0 or target >= len(alive) or alive[target] == 0:
        return
    ids[0] = target
    count = 1
    for _ in range(negatives):
        j = pool[draw(random, len(pool))]
        if j != target:  # it would take part of its own probability away, and so be pushed without end
            ids[count] = j
            count += 1
    highest = np.float32(-1e9)
    for x in range(count):
        s = bias[ids[x]]
        for a in range(dim):
            s += context[a] * out[ids[x], a]
        score[x] = s
        highest = max(highest, s)
    mass = np.float32(0)
    for x in range(count):
        score[x] = np.exp(score[x] - highest)
        mass += score[x]
    gradient[:] = 0
    keep = np.float32(1 - rate * shrink)
    for x in range(count):
        j = ids[x]
        error = (np.float32(1) if x == 0 else np.float32(0)) - score[x] / mass
        by = np.float32(rate) * error
        for a in range(dim):
            gradient[a] += error * out[j, a]
            out[j, a] = out[j, a] * keep + by * context[a]
        bias[j] += np.float32(BIAS_RATE) * by
        mark(j, stale, changed)
    into_rate = np.float32(rate * IN_RATE / total)
    weight = np.float32(1)
    for x in range(place - 1, max(-1, place - 1 - items), -1):
        j = profile[x].item
        if j < len(alive) and alive[j] != 0:
            by = into_rate * weight
            keep = np.float32(1) - np.float32(rate * shrink) * weight
            for a in range(dim):
                into[j, a] = into[j, a] * keep + by * gradient[a]
        weight *= np.float32(decay)


@loose_kernel
def place_of(profile: Array, item: int) -> int:
    """Where the item stands in a profile, or -1."""
    for x in range(len(profile) - 1, -1, -1):
        if profile[x].item == item:
            return x
    return -1


@allocating_loose_kernel
def taught(
    into: Array, out: Array, bias: Array, alive: Array, data: Array, rows: Array, user: int, item: int, keys: Array,
    past: Array, most_past: int, recent: Array, recent_place: Array, stale: Array, changed: Array, counters: Array, random: Array,
    scratch: Array, replays: int, items: int, decay: float, rate: float, replay_rate: float, shrink: float, negatives: int,
) -> None:  # fmt: skip
    """Learn from a positive event: a step on the event itself and `replays` steps on random places in the profiles of users who
    were active before. `past` and `recent` are rings of their users and of items; `counters` see above."""
    if alive[item] == 0:
        born(into, out, bias, item, np.array([keys[item] | np.uint64(1)]))
        alive[item] = 1
        mark(item, stale, changed)
    if recent_place[item] < 0:
        place = counters[NEXT]
        if recent[place] >= 0:
            recent_place[recent[place]] = -1
        recent[place] = item
        recent_place[item] = place
        mark(item, stale, changed)
        counters[NEXT] = (place + 1) % len(recent)
        counters[RECENT] = max(counters[RECENT], place + 1)
    past[counters[TAUGHT] % most_past] = user
    counters[TAUGHT] += 1
    pool = recent[: counters[RECENT]]
    pasts = min(counters[TAUGHT], most_past)
    ids = np.empty(negatives + 1, np.int64)
    score = np.empty(negatives + 1, np.float32)
    profile = data[rows[user].start : rows[user].start + rows[user].size]
    place = place_of(profile, item)
    if place > 0:
        step(
            into, out, bias, alive, profile, place, items, decay, rate, shrink, negatives, random, pool, stale, changed,
            scratch, ids, score,
        )  # fmt: skip
    for _ in range(replays):
        other = past[draw(random, pasts)]
        size = rows[other].size
        if size < 2:
            continue
        profile = data[rows[other].start : rows[other].start + size]
        place = 1 + draw(random, size - 1)
        step(
            into, out, bias, alive, profile, place, items, decay, replay_rate, shrink, negatives, random, pool, stale, changed,
            scratch, ids, score,
        )  # fmt: skip


_BYTE: Final = 127.0


@kernel
def follow(
    out: Array, bias: Array, recent_place: Array, stale: Array, changed: Array, coarse: Array, scales: Array
) -> None:  # fmt: skip
    """Make the bytes of the marked items that are among the most recent ones."""
    marked = changed[0]
    changed[0] = 0
    for c in range(marked):
        i = changed[1 + c]
        stale[i] = 0
        x = recent_place[i]
        if x < 0:
            continue
        most = np.float32(0)
        for a in range(out.shape[1]):
            most = max(most, abs(out[i, a]))
        to = np.float32(_BYTE) / most if most > 0 else np.float32(0)
        for a in range(out.shape[1]):
            coarse[x, a] = np.int8(np.rint(out[i, a] * to))
        scales[x, 0] = most / np.float32(_BYTE)
        scales[x, 1] = bias[i]


@allocating_kernel
def along(coarse: Array, scales: Array, context: Array, result: Array) -> None:
    """As `affinities`, about: of the vectors that `follow` has made, with a context of 16 bits."""
    most = np.float32(1e-30)
    for a in range(len(context)):
        most = max(most, abs(context[a]))
    wide = np.float32(min(32767, (1 << 31) // (128 * len(context)) - 1))
    direction = np.empty(len(context), np.int16)
    for a in range(len(context)):
        direction[a] = np.int16(np.rint(context[a] * (wide / most)))
    scale = most / wide
    totals = np.empty(len(coarse), np.int32)
    for x in range(len(coarse)):
        totals[x] = dot(coarse, x, direction)
    for x in range(len(coarse)):
        result[x] = np.float64(scales[x, 1]) + np.float64(scale * scales[x, 0]) * totals[x]


@inlined
def ask_for(vectors: Array, row: int) -> None:
    """Ask for all of a vector (see `kernel.prefetch`), which lies in several cache lines."""
    vector = vectors[row]
    for a in range(0, len(vector), _LINE):
        prefetch(vector, a)


@loose_kernel
def affinities(out: Array, bias: Array, context: Array, items: Array, result: Array) -> None:
    """bias_i + context . out_i for each of `items`."""
    far = is_wide(out)
    for x in range(-_AHEAD if far else 0, len(items)):
        if far and x + _AHEAD < len(items):
            ask_for(out, items[x + _AHEAD])
        if x < 0:
            continue
        i = items[x]
        s = bias[i]
        for a in range(out.shape[1]):
            s += context[a] * out[i, a]
        result[x] = s


@loose_kernel
def pulls(
    into: Array, out: Array, alive: Array, profile: Array, items: int, decay: float, wanted: Array,
    fraction: Array, because: Array,
) -> None:  # fmt: skip
    """For each wanted item the items of the context with the largest parts of context . out_i where they speak for it, the newer
    first among equals."""
    blank(fraction, because, len(wanted))
    for x in range(len(wanted)):
        i = wanted[x]
        total = 0.0
        weight = 1.0
        for p in range(len(profile) - 1, max(-1, len(profile) - 1 - items), -1):
            j = profile[p].item
            if j < len(alive) and alive[j] != 0:
                pull = np.float32(0)
                for a in range(into.shape[1]):
                    pull += out[i, a] * into[j, a]
                part = float(weight * pull)
                total += max(part, 0.0)
                offer(fraction, because, x, part, j)
            weight *= decay
        for e in range(fraction.shape[1]):
            fraction[x, e] /= max(total, 1e-12)
