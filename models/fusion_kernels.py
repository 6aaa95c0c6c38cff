"""Kernels of the learned fusion; the formulas are those of `models.fusion_learned`.

Features lie side by side, (4 S + 7, n or more): whatever is done with them walks through the candidates.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.contexts import SHARED
from models.kernel import allocating_kernel, allocating_loose_kernel, kernel, loose_kernel
from models.rows import Array

PER_SOURCE: Final = 4
OWN: Final = 3
PERSONAL: Final = 4
"""Features of a candidate that say what it is to this user by whom they trust: one for each kind of a source's."""
_LOG: Final = 1.0 / 7.0
_RANK: Final = 10.0
_OWN_SCALE: Final = 0.2


@kernel
def features(scores: Array, ranks: Array, items: Array, behind: float, clock: int, events: Array, first: Array, last: Array,
              out: Array) -> None:  # fmt: skip
    """Features of all candidates into `out` (see the module)."""
    count = len(items)
    sources = scores.shape[0]
    for s in range(sources):
        top = 0.0
        for x in range(count):
            top = max(top, scores[s, x])
        for x in range(count):
            v = scores[s, x] / top if top > 0.0 else 0.0
            r = ranks[s, x]
            at = PER_SOURCE * s
            out[at, x] = v
            if v > 0.0:
                out[at + 1, x] = _RANK / (_RANK + (r - 1 if r > 0 else behind))
                out[at + 2, x] = np.sqrt(v)
                out[at + 3, x] = np.log(1.0 + 1000.0 * v) * _LOG
            else:
                out[at + 1, x] = 0.0
                out[at + 2, x] = 0.0
                out[at + 3, x] = 0.0
    at = PER_SOURCE * sources
    for x in range(count):
        i = items[x]
        out[at, x] = np.log(1.0 + events[i])
        out[at + 1, x] = np.log(1.0 + (clock - first[i]))
        out[at + 2, x] = np.log(1.0 + (clock - last[i]))
    for a in range(at, at + OWN):
        total = 0.0
        for x in range(count):
            total += out[a, x]
        for x in range(count):
            out[a, x] = _OWN_SCALE * (out[a, x] - total / count)


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
def personally(together: Array, trust: Array) -> Array:
    """Weights of the features of sources, and of those of the candidate itself, for a user with this `trust` (4 S,): those of the
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
def divide(features: Array, count: int, together: Array, p: Array, shares: Array) -> None:
    """p of each candidate divided among the sources that add to its score."""
    sources = shares.shape[0]
    totals = np.zeros(count)
    for s in range(sources):
        at = PER_SOURCE * s
        for x in range(count):
            part = 0.0
            for a in range(PER_SOURCE):
                part += features[at + a, x] * together[at + a]
            part = max(part, 0.0)
            shares[s, x] = part
            totals[x] += part
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
        for x in range(count):
            shares[s, x] *= totals[x]


@kernel
def alone(scores: Array, source: int, shares: Array) -> None:
    """Only one source has a share: its score as a part of the sum of its scores."""
    total = 0.0
    for x in range(scores.shape[1]):
        total += scores[source, x]
    for s in range(scores.shape[0]):
        for x in range(scores.shape[1]):
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
