"""Fusion learned online: which source to trust, for whom and how far, learned from what users take next.

*Features.* Each source gives a candidate four: v = score / (its largest score among the candidates), sqrt(v),
log(1 + 1000 v) / 7 and 10 / (10 + r) with r the candidate's place by this source (0 is the first; what lies behind the source's
own list gets one common place). The candidate itself gives three, centred over the candidates: log(1 + events), log(1 + age),
log(1 + time since it was last taken), both times counted in positive events.

*Model.* s = f . (w_shared + sum of w_c over the contexts c of the request), p = softmax(s) over the candidates: listwise (ListNet
with one relevant item, Cao et al. 2007). `models.contexts` says what contexts are. It starts as a sum of scores and reciprocal
ranks of all sources alike, and every positive event whose item was a candidate is one step on g = d log p(taken) / dw, tested
before it is learned:

    w_shared += fusion_rate * A^-1 g,  A = fusion_prior * I + the sum of g g', fading with `fusion_horizon` events
    w_c      += fusion_context_rate * g / sqrt(sum of g^2)  for each context c of the request

The first is the online Newton step (Hazan, Agarwal & Kale 2007) with exponential forgetting: features of one source, and sources
among themselves, are so much alike that steps along single weights are slow to tell them apart. A is kept (and so is positive
definite whatever happens), its inverse follows by rank-one updates (Sherman & Morrison 1950) and is worked out anew every
`REFRESH` steps. The second is AdaGrad (Duchi et al. 2011), for contexts see too few events for a matrix each.

*Shares.* An item's score is p, the estimated probability that the user takes it rather than another candidate. It is divided
among the sources in proportion to what each adds to s, where it adds.

*Falling back.* The discounted gain of the learned ranking and of every source alone is averaged over the last events; while the
learned one is clearly below the best source, that source alone ranks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.contexts import SHARED, Contexts
from models.fusion import Union
from models.kept import Kept
from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Query, Source

PER_SOURCE: Final = 4
OWN: Final = 3
_LOG: Final = 1.0 / 7.0
_RANK: Final = 10.0
_OWN_SCALE: Final = 0.2
_FIRST_SQUARES: Final = 1.0
REFRESH: Final = 32
"""Steps from one inversion of A to the next: rounding errors of the updates between cannot grow."""
_JUDGED: Final = 10
"""Places of a list that count for the gain."""


@kernel
def _features(scores: Array, ranks: Array, items: Array, behind: float, clock: int, events: Array, first: Array, last: Array,
              out: Array) -> None:  # fmt: skip
    """Features of all candidates into `out` (n, 4 S + 3)."""
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
            out[x, at] = v
            if v > 0.0:
                out[x, at + 1] = _RANK / (_RANK + (r - 1 if r > 0 else behind))
                out[x, at + 2] = np.sqrt(v)
                out[x, at + 3] = np.log(1.0 + 1000.0 * v) * _LOG
            else:
                out[x, at + 1] = 0.0
                out[x, at + 2] = 0.0
                out[x, at + 3] = 0.0
    at = PER_SOURCE * sources
    mean = np.zeros(OWN)
    for x in range(count):
        i = items[x]
        out[x, at] = np.log(1.0 + events[i])
        out[x, at + 1] = np.log(1.0 + (clock - first[i]))
        out[x, at + 2] = np.log(1.0 + (clock - last[i]))
        for a in range(OWN):
            mean[a] += out[x, at + a]
    for x in range(count):
        for a in range(OWN):
            out[x, at + a] = _OWN_SCALE * (out[x, at + a] - mean[a] / count)


@kernel
def _together(weights: Array, rows: Array) -> Array:
    """The shared weights and those of the rows, added up."""
    total: Array = weights[SHARED].copy()
    for row in rows:
        total += weights[row]
    return total


@kernel
def _softmax(features: Array, count: int, together: Array, out: Array) -> None:
    """p of the candidates into `out` (n,)."""
    width = features.shape[1]
    highest = -1e300
    for x in range(count):
        s = 0.0
        for k in range(width):
            s += features[x, k] * together[k]
        out[x] = s
        highest = max(highest, s)
    mass = 0.0
    for x in range(count):
        out[x] = np.exp(out[x] - highest)
        mass += out[x]
    for x in range(count):
        out[x] /= mass


@kernel
def _learn(
    features: Array, count: int, weights: Array, squares: Array, rows: Array, taken: int, p: Array, rate: float,
    context_rate: float, matrix: Array, inverse: Array, keep: float, prior: float,
) -> None:  # fmt: skip
    """One step towards p(taken) = 1: of Newton on the shared weights, of AdaGrad on those of the rows."""
    width = features.shape[1]
    g = np.zeros(width)
    for x in range(count):
        error = (1.0 if x == taken else 0.0) - p[x]
        for k in range(width):
            g[k] += error * features[x, k]
    _follow(matrix, inverse, g, keep, prior)
    for k in range(width):
        weights[SHARED, k] += rate * np.dot(inverse[k], g)
    for row in rows:
        for k in range(width):
            squares[row, k] += g[k] * g[k]
            weights[row, k] += context_rate * g[k] / np.sqrt(squares[row, k])


@kernel
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


@kernel
def _divide(features: Array, count: int, together: Array, p: Array, shares: Array) -> None:
    """p of each candidate divided among the sources that add to its score."""
    sources = shares.shape[0]
    for x in range(count):
        total = 0.0
        knowing = 0
        for s in range(sources):
            part = 0.0
            for a in range(PER_SOURCE):
                part += features[x, PER_SOURCE * s + a] * together[PER_SOURCE * s + a]
            part = max(part, 0.0)
            shares[s, x] = part
            total += part
            knowing += features[x, PER_SOURCE * s] > 0.0
        for s in range(sources):
            if total > 0.0:
                shares[s, x] *= p[x] / total
            else:
                shares[s, x] = p[x] / knowing if features[x, PER_SOURCE * s] > 0.0 else 0.0


@kernel
def _alone(scores: Array, source: int, shares: Array) -> None:
    """Only one source has a share: its score as a part of the sum of its scores."""
    total = 0.0
    for x in range(scores.shape[1]):
        total += scores[source, x]
    for s in range(scores.shape[0]):
        for x in range(scores.shape[1]):
            shares[s, x] = scores[s, x] / total if s == source and total > 0.0 else 0.0


class Side(Kept):
    """What is learned for lists of one kind. `weights` (rows, 4 S + 3): row 0 is shared, the others belong to contexts."""

    kept = ("weights", "squares", "matrix", "inverse", "steps", "gains", "tested")

    def __init__(self, config: Config, sources: int, rows: int) -> None:
        width = PER_SOURCE * sources + OWN
        self.config = config
        self.weights: npt.NDArray[np.float64] = np.zeros((rows, width))
        self.weights[SHARED, 0 : width - OWN : PER_SOURCE] = 0.5
        self.weights[SHARED, 1 : width - OWN : PER_SOURCE] = 1.0
        self.squares: npt.NDArray[np.float64] = np.full((rows, width), _FIRST_SQUARES)
        self.matrix: npt.NDArray[np.float64] = config.fusion_prior * np.eye(width)
        """A of the module, (4 S + 3, 4 S + 3)."""
        self.inverse: npt.NDArray[np.float64] = np.eye(width) / config.fusion_prior
        self.steps = 0
        self.gains: npt.NDArray[np.float64] = np.zeros(sources + 1)
        """Moving average of the gain of each source alone, and of the learned ranking last."""
        self.memory = config.fusion_memory
        self.tested = 0

    def learn(
        self, features: npt.NDArray[np.float64], n: int, rows: npt.NDArray[np.int64], taken: int, p: npt.NDArray[np.float64]
    ) -> None:
        """One step: candidate `taken` of `n` was taken, `p` were the probabilities."""
        config = self.config
        if self.steps % REFRESH == 0 and self.steps:
            self.inverse = np.linalg.inv(self.matrix).astype(np.float64)
        self.steps += 1
        _learn(
            features, n, self.weights, self.squares, rows, taken, p, config.fusion_rate, config.fusion_context_rate,
            self.matrix, self.inverse, 1.0 - 1.0 / config.fusion_horizon, config.fusion_prior,
        )  # fmt: skip

    def judge(self, ranks: npt.NDArray[np.int64]) -> None:
        """Average the gain: `ranks` (S + 1,) are the places of the taken item by each source and by the learned ranking, -1 for
        none."""
        listed = (ranks >= 0) & (ranks < _JUDGED)
        gain = np.where(listed, 1.0 / np.log2(np.maximum(ranks, 0) + 2.0), 0.0)
        self.tested += 1
        self.gains += (gain - self.gains) / min(self.tested, self.memory)

    def fallback(self) -> int | None:
        """The source that ranks alone because the learned ranking is clearly worse, or None."""
        if self.tested < self.memory or len(self.gains) < 2:
            return None
        best = int(np.argmax(self.gains[:-1]))
        # the average of `memory` gains of at most 1, most of them 0, has a standard error of at most sqrt(mean / memory)
        margin = 2.0 * float(np.sqrt(max(self.gains[best], 1e-9) / self.memory))
        return best if self.gains[-1] < self.gains[best] - margin else None


class Learned(Kept):
    """See the module. Lists with the user's own items and lists without them are different problems, each has its `Side`."""

    complete = True
    learns = True
    kept = ("new", "again", "contexts", "clock", "events", "first", "last")
    scratch = ("_features", "_p", "_shares")
    gradient = True

    def __init__(self, config: Config, sources: list[Source]) -> None:
        self.behind = 2.0 * config.candidates
        self.count = len(sources)
        self.contexts = Contexts(config.context_values)
        self.new, self.again = (Side(config, len(sources), self.contexts.count) for _ in range(2))
        self.clock = 0
        """Positive events so far."""
        self.events: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.first: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.last: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._features: npt.NDArray[np.float64] = np.zeros((0, self.new.weights.shape[1]))
        self._p: npt.NDArray[np.float64] = np.zeros(0)
        self._shares: npt.NDArray[np.float64] = np.zeros((len(sources), 0))

    def side(self, query: Query) -> Side:
        return self.again if query.repeats else self.new

    # -------------------------------------------------------------------------------------------- asking
    def shares(self, union: Union, query: Query) -> npt.NDArray[np.float64]:
        n, side = self._look(union), self.side(query)
        best = side.fallback()
        shares = self._shares[:, :n]
        if best is not None and union.counts[best] > 0:
            _alone(union.scores, best, shares)
            return shares
        together = _together(side.weights, self.contexts.rows(query))
        _softmax(self._features, n, together, self._p)
        _divide(self._features, n, together, self._p, shares)
        return shares

    # -------------------------------------------------------------------------------------------- learning
    def learn(self, union: Union, query: Query, taken: int) -> None:
        """Test, then learn."""
        n, side = self._look(union), self.side(query)
        places = np.flatnonzero(union.items == taken)
        if not len(places):
            side.judge(np.full(self.count + 1, -1))
            return
        self.contexts.meet(query)
        place, rows = int(places[0]), self.contexts.rows(query)
        _softmax(self._features, n, _together(side.weights, rows), self._p)
        own = self._p[:n]
        side.judge(np.append(union.ranks[:, place] - 1, int((own > own[place]).sum())))
        side.learn(self._features, n, rows, place, self._p)

    def note(self, taken: int) -> None:
        if self.events[taken] == 0:
            self.first[taken] = self.clock
        self.events[taken] += 1
        self.last[taken] = self.clock
        self.clock += 1

    def _look(self, union: Union) -> int:
        """Features of the union's candidates; their number."""
        n = union.n
        if n > len(self._p):
            size = max(n, 2 * len(self._p), 64)
            self._features, self._p = np.zeros((size, self._features.shape[1])), np.zeros(size)
            self._shares = np.zeros((self.count, size + 1))  # a slice is never the whole: kernels compile for one memory layout
        if n:
            _features(
                union.scores, union.ranks, union.items, self.behind, self.clock, self.events, self.first, self.last,
                self._features,
            )  # fmt: skip
        return n

    def ensure(self, items: int) -> None:
        self.events, self.first, self.last = grown(self.events, items), grown(self.first, items), grown(self.last, items)

    def forget_item(self, item: int) -> None:
        if item < len(self.events):
            self.events[item] = self.first[item] = self.last[item] = 0
