"""The kernel of list making under several wishes: one place after the other, the best choice given the places before it.

Among candidates in the order of their value (the score times the factors of the rules), each place goes to the x that maximises

    (1 - d - c) rel(x) - d max_{y in L} sim(x, y) - c (C(L + x) - C(L))

with L the list so far, rel the value divided by the largest one, d the `diversity` and c the `calibration`; equal ones by key.
With c = 0 this is maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998), with d = 0 the greedy optimisation of Steck
(RecSys 2018, eq. 6 and 7, near-optimal because C is submodular).

*Caps* are never broken except by pinned items. *The price* is bounded: x may only be chosen if the list can still be completed,
by taking the best remaining values that the caps allow, to one as long as, and with values in sum at least (1 - price) times
those of, the list that takes the best value everywhere. That completion is always open, so the bound holds for the finished list.
"""

from __future__ import annotations

import numpy as np

from models.calibration import divergence
from models.kernel import allocating_kernel, kernel
from models.rows import Array

PLAIN = 0
PINNED = 1
RULE = 2
VARIETY = 3
_TOLERANCE = 1e-12
"""Of sums of scores, relative: the same values are added in another order."""


@kernel
def _fits(x: int, starts: Array, members: Array, counts: Array, caps: Array) -> bool:
    """Whether the caps allow one more item like x."""
    for k in range(starts[x], starts[x + 1]):  # noqa: SIM110  a kernel: no generators
        if counts[members[k]] >= caps[members[k]]:
            return False
    return True


@allocating_kernel
def _complete(
    value: Array, taken: Array, extra: int, places: int, starts: Array, members: Array, counts: Array, caps: Array, scratch: Array
) -> tuple[int, float]:  # fmt: skip
    """Take `extra` (-1: none) and then the best values that fit, `places` in all: how many could be taken, and their sum."""
    scratch[:] = counts
    n = 0
    total = 0.0
    if extra >= 0:
        n = 1
        total = value[extra]
        for k in range(starts[extra], starts[extra + 1]):
            scratch[members[k]] += 1
    for x in range(len(value)):
        if n == places:
            break
        if not taken[x] and x != extra and _fits(x, starts, members, scratch, caps):
            n += 1
            total += value[x]
            for k in range(starts[x], starts[x + 1]):
                scratch[members[k]] += 1
    return n, total


@allocating_kernel
def _added(x: int, starts: Array, members: Array, target: Array, total: Array, categorised: int, scratch: Array) -> float:
    """C of the list with x."""
    size = starts[x + 1] - starts[x]
    scratch[:] = total
    for k in range(starts[x], starts[x + 1]):
        scratch[members[k]] += 1.0 / size
    return divergence(target, scratch, categorised + (1 if size > 0 else 0))


@allocating_kernel
def _choose(
    value: Array, keys: Array, top: float, taken: Array, nearest: Array, diversity: float, starts: Array, members: Array,
    target: Array, calibration: float, total: Array, categorised: int, counts: Array, caps: Array, places: int, length: int,
    floor: float,
) -> tuple[int, int]:  # fmt: skip
    """The candidate for the next place, and the first that fits (the one of the largest value); -1 where nothing fits.

    What is chosen can be completed to at least `length` of the `places` that are left, with values of at least `floor` in sum.
    """
    now = divergence(target, total, categorised) if calibration > 0.0 else 0.0
    scratch, scratch_counts = np.zeros(len(target)), np.zeros(len(caps), np.int64)
    first, chosen, best = -1, -1, 0.0
    for x in range(len(value)):
        if taken[x] or not _fits(x, starts, members, counts, caps):
            continue
        v = (1.0 - diversity - calibration) * (value[x] / top) - diversity * nearest[x]
        if calibration > 0.0:
            v -= calibration * (_added(x, starts, members, target, total, categorised, scratch) - now)
        if first < 0:
            first = x
        elif v < best or (v == best and keys[x] > keys[chosen]):
            continue
        else:
            count, rest = _complete(value, taken, x, places, starts, members, counts, caps, scratch_counts)
            if count < length or rest < floor:
                continue
        chosen, best = x, v
    return chosen, first


@kernel
def _note(chosen: int, first: int, scores: Array, taken: Array, starts: Array, members: Array, counts: Array, caps: Array) -> int:
    """Why this one stands here."""
    if chosen != first:
        return VARIETY
    for x in range(len(scores)):
        if not taken[x] and scores[x] > scores[chosen] and _fits(x, starts, members, counts, caps):
            return RULE
    return PLAIN


@allocating_kernel
def greedy(
    value: Array, scores: Array, keys: Array, pins: int, places: int, similar: Array, diversity: float,
    starts: Array, members: Array, target: Array, calibration: float, caps: Array, price: float, order: Array, notes: Array,
) -> tuple[int, float, float]:  # fmt: skip
    """Fill `order` with places in the arrays given and `notes` with why they stand there; the length of the list, the sum of the
    values it could have had and the sum it has (pinned items count in neither).

    The first `pins` entries are pinned; the others are in the order of their `value` (equal: by key). `scores` are before rules.
    `similar` (M, M) is only read with `diversity`, `target` (G,) only with `calibration`; `caps` (G,).
    """
    taken, nearest = np.zeros(len(value), np.bool_), np.zeros(len(value))
    counts, total, categorised = np.zeros(len(caps), np.int64), np.zeros(len(caps)), 0
    top = value[pins] if pins < len(value) and value[pins] > 0.0 else 1.0
    length, most, spent = 0, 0.0, 0.0
    for n in range(places):
        if n < pins:
            chosen = n
            notes[n] = PINNED
        else:
            if n == pins:
                length, most = _complete(value, taken, -1, places - n, starts, members, counts, caps, counts.copy())
            chosen, first = _choose(
                value, keys, top, taken, nearest, diversity, starts, members, target, calibration, total, categorised, counts,
                caps, places - n, length - (n - pins), (1.0 - price - _TOLERANCE) * most - spent,
            )  # fmt: skip
            if chosen < 0:
                return n, most, spent
            notes[n] = _note(chosen, first, scores, taken, starts, members, counts, caps)
            spent += value[chosen]
        order[n] = chosen
        taken[chosen] = True
        size = starts[chosen + 1] - starts[chosen]
        categorised += 1 if size > 0 else 0
        for k in range(starts[chosen], starts[chosen + 1]):
            counts[members[k]] += 1
            total[members[k]] += 1.0 / size
        if diversity > 0.0:
            for x in range(len(value)):
                nearest[x] = max(nearest[x], similar[chosen, x])
    return places, most, spent
