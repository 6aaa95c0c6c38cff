"""Kernels of the learned fusion; the formulas are those of `models.fusion_learned`.

Features lie side by side, (4 S + 7, n or more), and so do scores, ranks and shares, (S, n or more): whatever is done with them
walks through the first n, the candidates. Kernels are given whole arrays, for of a slice a compiler does not know that one number
lies beside the other.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.contexts import SHARED
from models.kernel import allocating_kernel, allocating_loose_kernel, dividing_kernel, kernel, loose_kernel, prefetch
from models.logarithm import log
from models.rows import Array

PER_SOURCE: Final = 4
OWN: Final = 3
PERSONAL: Final = 4
"""Features of a candidate that say what it is to this user by whom they trust: one for each kind of a source's."""
_LOG: Final = 1.0 / 7.0
_RANK: Final = 10.0
_OWN_SCALE: Final = 0.2


@dividing_kernel
def features(scores: Array, ranks: Array, items: Array, behind: float, clock: int, events: Array, first: Array, last: Array,
             out: Array) -> None:  # fmt: skip
    """Features of all candidates into `out` (see the module)."""
    count = len(items)
    sources = scores.shape[0]
    for x in range(count):  # they lie all over the memory, and are looked at last
        prefetch(events, items[x])
        prefetch(first, items[x])
        prefetch(last, items[x])
    for s in range(sources):
        at = PER_SOURCE * s
        top = _highest(scores[s], count)
        if top > 0.0:
            _scaled(scores[s], top, count, out[at])
            _ranked(scores[s], ranks[s], behind, count, out[at + 1])
            _rooted(out[at], count, out[at + 2])
            _logged(out[at], 1000.0, _LOG, count, out[at + 3])
        else:
            for a in range(at, at + PER_SOURCE):
                out[a, :count] = 0.0
    at = PER_SOURCE * sources
    for x in range(count):
        i = items[x]
        out[at, x] = events[i]
        out[at + 1, x] = clock - first[i]
        out[at + 2, x] = clock - last[i]
    for a in range(at, at + OWN):
        _logged(out[a], 1.0, 1.0, count, out[a])
        total = 0.0
        for x in range(count):
            total += out[a, x]
        for x in range(count):
            out[a, x] = _OWN_SCALE * (out[a, x] - total / count)


@kernel
def _highest(scores: Array, count: int) -> float:
    """The largest of four largest: one comparison does not wait for the other."""
    a = b = c = d = 0.0
    fours = count - count % 4
    for x in range(0, fours, 4):
        a = max(a, scores[x])
        b = max(b, scores[x + 1])
        c = max(c, scores[x + 2])
        d = max(d, scores[x + 3])
    for x in range(fours, count):
        a = max(a, scores[x])
    return max(a, b, c, d)


@dividing_kernel
def _scaled(scores: Array, top: float, count: int, out: Array) -> None:
    for x in range(count):
        out[x] = scores[x] / top


@dividing_kernel
def _ranked(scores: Array, ranks: Array, behind: float, count: int, out: Array) -> None:
    for x in range(count):
        place = ranks[x] - 1.0 if ranks[x] > 0 else behind
        out[x] = _RANK / (_RANK + place) if scores[x] > 0.0 else 0.0


@kernel
def _rooted(values: Array, count: int, out: Array) -> None:
    for x in range(count):
        out[x] = np.sqrt(values[x])


@dividing_kernel
def _logged(values: Array, times: float, scale: float, count: int, out: Array) -> None:
    """scale log(1 + times v)."""
    for x in range(count):
        out[x] = log(1.0 + times * values[x]) * scale


@allocating_kernel
def together(weights: Array, rows: Array) -> Array:
    """The shared weights and those of the rows, added up."""
    total: Array = weights[SHARED].copy()
    for row in rows:
        total += weights[row]
    return total


@allocating_kernel
def mean(quick: Array, steady: Array, rows: Array) -> Array:
    """Of both learners' weights in the contexts of these rows, of which the steady one knows the first."""
    mean: Array = (together(quick, rows) + together(steady, rows[:1])) / 2.0
    return mean


@allocating_kernel
def share_out(
    features: Array, count: int, quick: Array, steady: Array, rows: Array, trust: Array, p: Array, shares: Array
) -> None:  # fmt: skip
    """p of the candidates, and of it each source's share, for a user with this `trust` (4 S,) in the contexts of these rows."""
    own = _personally(mean(quick, steady, rows), trust)
    softmax(features, count, own, p)
    _divide(features, count, own, p, shares)


@allocating_kernel
def _personally(together: Array, trust: Array) -> Array:
    """Weights of the features of sources, and of those of the candidate itself, for a user with this `trust`: those of the
    personal features are in them."""
    count = len(trust) + OWN
    own: Array = together[:count].copy()
    for k in range(len(trust)):
        own[k] += together[count + k % PER_SOURCE] * trust[k]
    return own


@kernel
def personal(features: Array, count: int, trust: Array) -> None:
    """The personal features: for each kind the sum of what the sources say, each as far as the user trusts it."""
    behind = len(trust) + OWN
    for a in range(PERSONAL):
        features[behind + a, :count] = 0.0
    for k in range(len(trust)):
        row = behind + k % PER_SOURCE
        for x in range(count):
            features[row, x] += trust[k] * features[k, x]


@loose_kernel
def pull(features: Array, count: int, taken: int, p: Array, out: Array) -> None:
    """d log p(taken) / dw of the first features, as many as `out` has."""
    for k in range(len(out)):
        expected = 0.0
        for x in range(count):
            expected += p[x] * features[k, x]
        out[k] = features[k, taken] - expected


@kernel
def softmax(features: Array, count: int, together: Array, out: Array) -> None:
    """p of the candidates into `out` (n,)."""
    out[:count] = 0.0
    for k in range(len(together)):
        weight = together[k]
        for x in range(count):
            out[x] += features[k, x] * weight
    highest = -1e300
    for x in range(count):
        highest = max(highest, out[x])
    mass = 0.0
    for x in range(count):
        out[x] = np.exp(out[x] - highest)
        mass += out[x]
    for x in range(count):
        out[x] /= mass


@allocating_kernel
def learn(
    features: Array, count: int, weights: Array, squares: Array, rows: Array, taken: int, p: Array, rate: float,
    context_rate: float, matrix: Array, inverse: Array, keep: float, prior: float,
) -> None:  # fmt: skip
    """One step towards p(taken) = 1: of Newton on the shared weights, of AdaGrad on those of the rows."""
    g = _gradient(features, count, taken, p)
    _follow(matrix, inverse, g, keep, prior)
    for k in range(len(g)):
        weights[SHARED, k] += rate * np.dot(inverse[k], g)
    for row in rows:
        _adapt(weights[row], squares[row], g, context_rate)


@kernel
def learn_steadily(
    features: Array, count: int, weights: Array, squares: Array, rows: Array, taken: int, p: Array, rate: float
) -> None:  # fmt: skip
    """One step of AdaGrad on the shared weights and on those of the rows."""
    g = _gradient(features, count, taken, p)
    _adapt(weights[SHARED], squares[SHARED], g, rate)
    for row in rows:
        _adapt(weights[row], squares[row], g, rate)


@allocating_loose_kernel
def _gradient(features: Array, count: int, taken: int, p: Array) -> Array:
    """d log p(taken) / dw of all features."""
    g = np.empty(features.shape[0])
    pull(features, count, taken, p, g)
    return g


@kernel
def _adapt(weights: Array, squares: Array, g: Array, rate: float) -> None:
    for k in range(len(g)):
        squares[k] += g[k] * g[k]
        weights[k] += rate * g[k] / np.sqrt(squares[k])


@allocating_kernel
def _follow(matrix: Array, inverse: Array, g: Array, keep: float, prior: float) -> None:
    """A = keep A + (1 - keep) prior I + g g'; its inverse follows without the part of the prior (see `REFRESH`)."""
    width = len(g)
    pull = np.dot(inverse, g)
    scale = keep + np.dot(g, pull)
    for i in range(width):
        for j in range(i + 1):
            inverse[i, j] = (inverse[i, j] - pull[i] * pull[j] / scale) / keep
            inverse[j, i] = inverse[i, j]
            matrix[i, j] = keep * matrix[i, j] + g[i] * g[j]
            matrix[j, i] = matrix[i, j]
        matrix[i, i] += (1.0 - keep) * prior


@allocating_kernel
def _divide(features: Array, count: int, together: Array, p: Array, shares: Array) -> None:
    """p of each candidate divided among the sources that add to its score."""
    sources = shares.shape[0]
    totals = np.zeros(count)
    for s in range(sources):
        at = PER_SOURCE * s
        _adds(features[at], features[at + 1], features[at + 2], features[at + 3], together[at : at + 4], totals, shares[s])
    for x in range(count):
        if totals[x] > 0.0:
            totals[x] = p[x] / totals[x]
            continue
        knowing = 0
        for s in range(sources):
            knowing += features[PER_SOURCE * s, x] > 0.0
        totals[x] = p[x] / max(knowing, 1)
        for s in range(sources):
            shares[s, x] = features[PER_SOURCE * s, x] > 0.0
    for s in range(sources):
        _times(totals, shares[s])


@kernel
def _adds(one: Array, two: Array, three: Array, four: Array, weights: Array, totals: Array, out: Array) -> None:
    """What a source's four features add to the scores, where they do."""
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for x in range(len(totals)):
        part = max(one[x] * a + two[x] * b + three[x] * c + four[x] * d, 0.0)
        out[x] = part
        totals[x] += part


@kernel
def _times(factors: Array, out: Array) -> None:
    for x in range(len(factors)):
        out[x] *= factors[x]


@kernel
def alone(scores: Array, count: int, source: int, shares: Array) -> None:
    """Only one source has a share: its score as a part of the sum of its scores."""
    total = 0.0
    for x in range(count):
        total += scores[source, x]
    for s in range(scores.shape[0]):
        for x in range(count):
            shares[s, x] = scores[s, x] / total if s == source and total > 0.0 else 0.0


@kernel
def fallback(gains: Array, tested: int, memory: int) -> int:
    """The source whose gain (S + 1,) is clearly above that of the learned ranking, the last; -1: there is none."""
    if tested < memory or len(gains) < 2:
        return -1
    best = int(np.argmax(gains[:-1]))
    # the average of `memory` gains of at most 1, most of them 0, has a standard error of at most sqrt(mean / memory)
    margin = 2.0 * np.sqrt(max(gains[best], 1e-9) / memory)
    return best if gains[-1] < gains[best] - margin else -1
