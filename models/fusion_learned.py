"""Fusion learned online: which source to trust, for whom and how far, learned from what users take next.

*Features.* Each source gives a candidate four: v = score / (its largest score among the candidates), sqrt(v),
log(1 + 1000 v) / 7 and 10 / (10 + r) with r the candidate's place by this source (0 is the first; what lies behind the source's
own list gets one common place). The candidate itself gives three, centred over the candidates: log(1 + events), log(1 + age),
log(1 + time since it was last taken), both times counted in positive events.

*Model.* Two learners give a candidate s = f . (w_shared + sum of w_c over contexts c of the request), p = softmax(s) over the
candidates: listwise (ListNet with one relevant item, Cao et al. 2007). `models.contexts` says what contexts are. Both start as a
sum of scores and reciprocal ranks of all sources alike, without those that are echoes of others (`Source.echo_of`), and every
positive event whose item was a candidate is one step of each, on its own g = d log p(taken) / dw, tested before it is learned.

The quick one knows all contexts:

    w_shared += fusion_rate * A^-1 g,  A = fusion_prior * I + the sum of g g', fading with `fusion_horizon` events
    w_c      += fusion_context_rate * g / sqrt(1 + sum of g^2)  for each context c of the request

The first is the online Newton step (Hazan, Agarwal & Kale 2007) with exponential forgetting: features of one source, and sources
among themselves, are so much alike that steps along single weights are slow to tell them apart. A is kept (and so is positive
definite whatever happens), its inverse follows by rank-one updates (Sherman & Morrison 1950) and is worked out anew every
`REFRESH` steps. The second is AdaGrad (Duchi et al. 2011), for contexts see too few events for a matrix each.

The steady one takes steps of AdaGrad throughout, `fusion_steady_rate` long, forgets nothing, and of the contexts knows only how
much is known of the user. Lists go by the mean of both scores: the two err in different ways, and what either believes alone,
after a few odd events or too late, counts half.

*Personal.* Each kind of a source's four features has one more, the sum over the sources of t times it, with t what the user has
shown of whom to trust (`models.personal`): people differ in which source knows them, and how much that counts is learned like any
weight, from 0. For the score it is as if each weight of a source had t times that of its kind added.

*Shares.* An item's score is p, the estimated probability that the user takes it rather than another candidate. It is divided
among the sources in proportion to what each adds to s, where it adds.

*Falling back.* The discounted gain of the learned ranking and of every source alone is averaged over the last events; while the
learned one is clearly below the best source, that source alone ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models import fusion_kernels as kernels
from models.config import Config
from models.contexts import HISTORIES, HISTORY, SHARED, Contexts
from models.fusion import Union
from models.fusion_kernels import OWN, PER_SOURCE, PERSONAL
from models.kept import Kept, Misfit, Value
from models.personal import Personal
from models.rows import grown
from models.sources.base import Query, Source

_FIRST_SQUARES: Final = 1.0
_FIRST_STEADY: Final = 0.1
REFRESH: Final = 32
"""Steps from one inversion of A to the next: rounding errors of the updates between cannot grow."""
_JUDGED: Final = 10
"""Places of a list that count for the gain."""


def _first(rows: int, speaks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Weights before the first event: the score and the reciprocal rank of each source that `speaks` (S,) alike."""
    weights: npt.NDArray[np.float64] = np.zeros((rows, PER_SOURCE * len(speaks) + OWN + PERSONAL))
    weights[SHARED, 0 : PER_SOURCE * len(speaks) : PER_SOURCE] = 0.5 * speaks
    weights[SHARED, 1 : PER_SOURCE * len(speaks) : PER_SOURCE] = 1.0 * speaks
    return weights


class Side(Kept):
    """What is learned for lists of one kind. Weights, (rows, 4 S + 7): row 0 is shared, the others belong to contexts."""

    kept = ("weights", "squares", "matrix", "inverse", "steady", "steady_squares", "steps", "gains", "tested")
    shared = True

    def __init__(self, config: Config, speaks: npt.NDArray[np.bool_], rows: int) -> None:
        sources = len(speaks)
        width = PER_SOURCE * sources + OWN + PERSONAL
        self.config = config
        self.weights = _first(rows, speaks)
        """Of the quick learner."""
        self.squares: npt.NDArray[np.float64] = np.full((rows, width), _FIRST_SQUARES)
        self.matrix: npt.NDArray[np.float64] = config.fusion_prior * np.eye(width)
        """A of the module, (4 S + 7, 4 S + 7)."""
        self.inverse: npt.NDArray[np.float64] = np.eye(width) / config.fusion_prior
        self.steady = _first(HISTORY + HISTORIES, speaks)
        """Weights of the steady learner: the first rows alone."""
        self.steady_squares: npt.NDArray[np.float64] = np.full(self.steady.shape, _FIRST_STEADY)
        self.steps = 0
        self.gains: npt.NDArray[np.float64] = np.zeros(sources + 1)
        """Moving average of the gain of each source alone, and of the learned ranking last."""
        self.memory = config.fusion_memory
        self.tested = 0

    def together(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What lists go by in these contexts, (4 S + 7,): the mean of both learners."""
        mean: npt.NDArray[np.float64] = kernels.mean(self.weights, self.steady, rows)
        return mean

    def accept(self, saved: Mapping[str, Value]) -> None:
        super().accept(saved)
        squares: Any = saved["squares"]
        steady: Any = saved["steady_squares"]
        counts = saved["steps"], saved["tested"]
        if squares.min() <= 0.0 or steady.min() <= 0.0 or any(not isinstance(count, int) or count < 0 for count in counts):
            raise Misfit("sums of squares are above 0, and counts are not below it")

    def learn(
        self, features: npt.NDArray[np.float64], n: int, rows: npt.NDArray[np.int64], taken: int, p: npt.NDArray[np.float64]
    ) -> None:
        """One step of each learner: candidate `taken` of `n` was taken. `p` (n or more,) is overwritten."""
        config = self.config
        if self.steps % REFRESH == 0 and self.steps:
            self.inverse = np.linalg.inv(self.matrix).astype(np.float64)
        self.steps += 1
        kernels.softmax(features, n, kernels.together(self.steady, rows[:1]), p)
        kernels.learn_steadily(features, n, self.steady, self.steady_squares, rows[:1], taken, p, config.fusion_steady_rate)
        kernels.softmax(features, n, kernels.together(self.weights, rows), p)
        kernels.learn(
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
        best = kernels.fallback(self.gains, self.tested, self.memory)
        return best if best >= 0 else None


class Learned(Kept):
    """See the module. Lists with the user's own items and lists without them are different problems, each has its `Side`."""

    complete = True
    learns = True
    kept = ("new", "again", "contexts", "trust_new", "trust_again", "waiting", "clock", "events", "first", "last")
    scratch = ("_features", "_p", "_shares", "_pull")
    gradient = True

    def __init__(self, config: Config, sources: list[Source]) -> None:
        self.behind = 2.0 * config.candidates
        self.count = len(sources)
        self.contexts = Contexts(config.context_values)
        self.waiting: dict[str, int] = {}
        """Values of requests that one user alone has brought, and which (see `Contexts.meet`): of this process, not shared."""
        speaks = np.array([not source.echo_of for source in sources])
        self.new, self.again = (Side(config, speaks, self.contexts.count) for _ in range(2))
        self.trust_new, self.trust_again = (Personal(config.personal_users, PER_SOURCE * len(sources)) for _ in range(2))
        self.clock = 0
        """Positive events so far."""
        self.events: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.first: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.last: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._features: npt.NDArray[np.float64] = np.zeros((self.new.weights.shape[1], 0))
        self._p: npt.NDArray[np.float64] = np.zeros(0)
        self._shares: npt.NDArray[np.float64] = np.zeros((len(sources), 0))
        self._pull: npt.NDArray[np.float64] = np.zeros(PER_SOURCE * len(sources))

    def side(self, query: Query) -> Side:
        return self.again if query.repeats else self.new

    def trust(self, query: Query) -> Personal:
        """What people have shown of the sources in lists of this kind."""
        return self.trust_again if query.repeats else self.trust_new

    # -------------------------------------------------------------------------------------------- asking
    def shares(self, union: Union, query: Query) -> npt.NDArray[np.float64]:
        n, side = self._look(union), self.side(query)
        best = side.fallback()
        if best is not None and union.counts[best] > 0:
            kernels.alone(union.score_rows, n, best, self._shares)
        else:
            kernels.share_out(
                self._features, n, side.weights, side.steady, self.contexts.rows(query), self.trust(query).of(query.key),
                self._p, self._shares,
            )  # fmt: skip
        return self._shares[:, :n]

    # -------------------------------------------------------------------------------------------- learning
    def learn(self, union: Union, query: Query, taken: int) -> None:
        """Test, then learn."""
        n, side = self._look(union), self.side(query)
        places = np.flatnonzero(union.items == taken)
        if not len(places):
            side.judge(np.full(self.count + 1, -1))
            return
        self.contexts.meet(query.context, query.user, self.waiting)
        place, rows, trust = int(places[0]), self.contexts.rows(query), self.trust(query)
        if trust.bound:  # else the personal features are 0, as they were made
            kernels.personal(self._features, n, trust.of(query.key))
        kernels.softmax(self._features, n, side.together(rows), self._p)
        own = self._p[:n]
        side.judge(np.append(union.ranks[:, place] - 1, int((own > own[place]).sum())))
        if trust.bound and query.user >= 0:
            kernels.pull(self._features, n, place, self._p, self._pull)
            trust.learn(query.key, self._pull)
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
            self._features, self._p = np.zeros((len(self._features), size)), np.zeros(size)
            self._shares = np.zeros((self.count, size + 1))  # a slice is never the whole: kernels compile for one memory layout
        if n:
            kernels.features(
                union.score_rows, union.rank_rows, union.items, self.behind, self.clock, self.events, self.first, self.last,
                self._features,
            )  # fmt: skip
        return n

    def ensure(self, items: int) -> None:
        self.events, self.first, self.last = grown(self.events, items), grown(self.first, items), grown(self.last, items)

    @property
    def trusts(self) -> tuple[Personal, Personal]:
        """Of lists without the user's own items, and with them."""
        return self.trust_new, self.trust_again

    def forget_user(self, key: int) -> None:
        for trust in self.trusts:
            trust.forget(key)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {
            "personal_users": (len(self.trust_new), self.trust_new.bound),
            "personal_users_again": (len(self.trust_again), self.trust_again.bound),
        }

    def forget_item(self, item: int) -> None:
        if item < len(self.events):
            self.events[item] = self.first[item] = self.last[item] = 0
