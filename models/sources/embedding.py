"""Embedding: what comes next, given a weighted mean of what came before.

Vectors are learned once and asked twice, with a longer and a shorter memory: `embedding` as they are trained, `embedding_last`
with hardly more than the last item in its context, for what somebody is after changes faster than who they are.

Two vectors per item, learned online by sampled softmax: score(i) = bias_i + context . out_i, context = mean of the input
vectors of the newest items, each weighing a fixed part of the next newer one (FISM, Kabbur, Ning & Karypis 2013, as context of
Rendle, Freudenthaler & Schmidt-Thieme's FPMC 2010). Each positive event is one step; steps on random places of the profiles of
users who were active before (experience replay) keep what was learned from being overwritten; a step that is hurried does
without them.

What gradient steps have learned depends on the order of arrival and cannot be taken back: it is no part of the exact state. A
user who is forgotten leaves the replays; what their events have moved in the vectors of items stays.

find() looks at the `embedding_scan` items taken most recently; score() knows all. Output vectors of those stand here a second
time, as bytes and side by side: in a large catalogue walking through thousands of rows all over the memory would take a large
part of a list's time. Bytes choose three times as many as are wanted, and those are compared by their vectors. The shorter memory
looks among the same ones: it puts them in another order, and what the last item alone leads to, others find as well (`sequence`,
`neighbours_session`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from models.kept import Value
from models.kernel import allocating_kernel, kernel
from models.rows import Array, grown
from models.sources import embedding_kernels as kernels
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, Step, allowed, choose
from models.sources.choosing import foremost

_REPLAY_USERS: Final = 65_536
"""Users of the newest positive events, among whom replays choose."""
_WIDER: Final = 3
"""So many times the candidates wanted are chosen by bytes."""
_SPREAD: Final = 20.0
"""A score of exp(-20) of the best is as good as none."""


@kernel
def _allowed(items: Array, open_items: Array, seen: Array, stamp: int, out: Array) -> int:
    """Those that are allowed into `out` (which may be where they stand); how many."""
    n = 0
    for x in range(len(items)):
        out[n] = items[x]
        n += allowed(items[x], open_items, seen, stamp)
    return n


@allocating_kernel
def _chosen(
    out: Array, bias: Array, context: Array, ids: Array, keys: Array, k: int, items: Array, scores: Array
) -> tuple[int, float]:  # fmt: skip
    """The best `k` of `ids` by their vectors, with their scores; how many, and the affinity of the best."""
    affinity = np.empty(len(ids), np.float32)
    kernels.affinities(out, bias, context, ids, affinity)
    values = np.empty(len(ids))
    for x in range(len(ids)):
        values[x] = affinity[x]
    count = choose(values, ids, keys, k, items, scores)
    if count == 0:
        return 0, 0.0
    top = scores[0]
    for x in range(count):
        scores[x] = np.exp(max(scores[x] - top, -_SPREAD))
    return count, top


@allocating_kernel
def _find(
    into: Array, out: Array, bias: Array, alive: Array, profile: Array, context_items: int, decay: float, recent: Array,
    recent_place: Array, stale: Array, changed: Array, coarse: Array, scales: Array, context: Array, open_items: Array,
    seen: Array, stamp: int, keys: Array, k: int, ids: Array, items: Array, scores: Array,
) -> tuple[int, int, float]:  # fmt: skip
    """Candidates among `recent`: how many are compared by their vectors (into `ids`, as long as `recent`), how many are chosen
    of those, and the affinity of the best. `context` becomes that of the profile; -1 chosen: it has none."""
    if kernels.context_of(into, profile, len(profile), context_items, decay, alive, context) == 0.0:
        return 0, -1, 0.0
    kernels.follow(out, bias, recent_place, stale, changed, coarse, scales)
    n = len(recent)
    m = 0
    if n > 2 * _WIDER * k:
        about = np.empty(n)
        kernels.along(coarse[:n], scales, context, about)
        m = foremost(about, recent, _WIDER * k, _WIDER * k + k, np.empty(n), ids)
        m = _allowed(ids[:m], open_items, seen, stamp, ids)
    if m < k:
        m = _allowed(recent, open_items, seen, stamp, ids)
    count, top = _chosen(out, bias, context, ids[:m], keys, k, items, scores)
    return m, count, top


@allocating_kernel
def _find_among(
    into: Array, out: Array, bias: Array, alive: Array, profile: Array, context_items: int, decay: float, context: Array,
    keys: Array, k: int, ids: Array, items: Array, scores: Array,
) -> tuple[int, float]:  # fmt: skip
    """As `_find`, of given items."""
    if kernels.context_of(into, profile, len(profile), context_items, decay, alive, context) == 0.0:
        return -1, 0.0
    return _chosen(out, bias, context, ids, keys, k, items, scores)


@allocating_kernel
def _score(out: Array, bias: Array, alive: Array, context: Array, top: float, items: Array, scores: Array) -> None:
    known = np.empty(len(items), np.int32)
    places = np.empty(len(items), np.int32)
    n = 0
    for x in range(len(items)):
        scores[x] = 0.0
        if items[x] < len(alive) and alive[items[x]] != 0:
            known[n] = items[x]
            places[n] = x
            n += 1
    affinity = np.empty(n, np.float32)
    kernels.affinities(out, bias, context, known[:n], affinity)
    for x in range(n):
        scores[places[x]] = np.exp(min(max(affinity[x] - top, -_SPREAD), 0.0))


class Embedding(Source):
    """See the module. A step costs (negatives + context) * dim multiplications, some microseconds."""

    name = "embedding"
    grounds = Grounds("leads_to", item=True)
    family = Family.COLLABORATIVE
    kept = ("into", "out", "bias", "alive", "random", "_recent", "_recent_place", "_past", "_counters")
    scratch = (
        "_scratch", "_context", "_top", "_known", "_settings", "_stale", "_changed", "_coarse", "_scales", "_near", "_stamp",
    )  # fmt: skip
    gradient = True

    @classmethod
    def build(cls, state: State) -> list[Source]:
        longer = cls(state)
        return [longer, EmbeddingLast(state, longer)]

    def __init__(self, state: State) -> None:
        super().__init__(state)
        config = self.config
        self.bound = config.embedding_items
        dim = config.embedding_dim
        self.into: npt.NDArray[np.float32] = np.zeros((16, dim), np.float32)
        self.out: npt.NDArray[np.float32] = np.zeros((16, dim), np.float32)
        self.bias: npt.NDArray[np.float32] = np.zeros(16, np.float32)
        self.alive: npt.NDArray[np.uint8] = np.zeros(16, np.uint8)
        """Per item: 1 once it has vectors."""
        self.random: npt.NDArray[np.uint64] = np.array([config.seed * 2 + 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self._recent: npt.NDArray[np.int32] = np.full(min(config.embedding_scan, self.bound), -1, np.int32)
        self._recent_place: npt.NDArray[np.int32] = np.full(16, -1, np.int32)
        self._coarse: npt.NDArray[np.int8] = np.zeros((len(self._recent), dim), np.int8)
        self._scales: npt.NDArray[np.float32] = np.zeros((len(self._recent), 2), np.float32)
        """By place in `_recent`: output vector in bytes, its scale and the bias."""
        self._stale: npt.NDArray[np.uint8] = np.zeros(16, np.uint8)
        """Per item: 1 where its vector has changed since it became bytes, or it had no place among the recent ones."""
        self._changed: npt.NDArray[np.int32] = np.zeros(18, np.int32)
        """How many are so, which, and a place to spare."""
        self._past: npt.NDArray[np.int32] = np.zeros(1024, np.int32)
        self._counters: npt.NDArray[np.int64] = np.zeros(3, np.int64)
        """Place in `_recent` for the next new item, items there, positive events so far."""
        self._scratch: npt.NDArray[np.float32] = np.zeros((2, dim), np.float32)
        self._settings = (
            config.embedding_context, config.embedding_decay, config.embedding_rate,
            config.embedding_replay_rate, config.embedding_shrink, config.embedding_negatives,
        )  # fmt: skip
        self._context: npt.NDArray[np.float32] = np.zeros(dim, np.float32)
        self._known, self._top = False, 0.0
        self._near: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._stamp = -1
        """What is near the context of the query with this stamp, see `near`."""

    def ensure(self, users: int, items: int) -> None:
        items = min(items, self.bound)
        if items > len(self.alive):
            self.into, self.out = grown(self.into, items, self.bound), grown(self.out, items, self.bound)
            self.bias, self.alive = grown(self.bias, items, self.bound), grown(self.alive, items, self.bound)
            old = len(self._recent_place)
            self._recent_place = grown(self._recent_place, items, self.bound)
            self._recent_place[old:] = -1
            self._stale = grown(self._stale, items, self.bound)
            self._changed = grown(self._changed, len(self._stale) + 2)

    def restore(self, saved: Mapping[str, Value]) -> None:
        super().restore(saved)
        self._stale = np.zeros(len(self.alive), np.uint8)
        self._changed = np.zeros(len(self.alive) + 2, np.int32)
        recent = self._recent[: self._counters.item(kernels.RECENT)]
        self._stale[recent], self._changed[0], self._changed[1 : 1 + len(recent)] = 1, len(recent), recent

    # -------------------------------------------------------------------------------------------- learning
    def taught(self, step: Step) -> None:
        if step.item >= self.bound or not step.teaches:
            return
        if self._counters.item(kernels.TAUGHT) == len(self._past) < _REPLAY_USERS:
            self._past = grown(self._past, len(self._past) + 1, _REPLAY_USERS)
        profiles = self.history.profiles
        kernels.taught(
            self.into, self.out, self.bias, self.alive, profiles.data, profiles.rows, step.user, step.item,
            self.history.items.keys, self._past, _REPLAY_USERS, self._recent, self._recent_place, self._stale, self._changed,
            self._counters, self.random, self._scratch, 0 if step.hurried else self.config.embedding_replays, *self._settings,
        )  # fmt: skip

    def forget_item(self, item: int) -> None:
        if item < len(self.alive):
            self.alive[item] = 0

    # -------------------------------------------------------------------------------------------- asking
    def find(self, query: Query, found: Found) -> int:
        config = self.config
        recent = self._recent[: self._counters.item(kernels.RECENT)]
        near = np.empty(len(recent), np.int32)
        compared, count, self._top = _find(
            self.into, self.out, self.bias, self.alive, query.profile, config.embedding_context, config.embedding_decay,
            recent, self._recent_place, self._stale, self._changed, self._coarse, self._scales, self._context, query.open,
            query.seen, query.stamp, self.history.items.keys, query.k, near, found.items, found.scores,
        )  # fmt: skip
        self._near, self._stamp = near[:compared], query.stamp
        self._known = count >= 0
        return max(count, 0)

    def near(self, query: Query) -> npt.NDArray[np.int32]:
        """What `find` compares by vectors: at least `query.k` items, where there are so many. In no order."""
        if query.stamp != self._stamp:
            self.find(query, Found(np.empty(query.k, np.int32), np.empty(query.k)))
        return self._near

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        if self._known:
            _score(self.out, self.bias, self.alive, self._context, self._top, items, out)
        else:
            out[:] = 0.0

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        self.pulls(query, items, self.config.embedding_decay, room)

    def pulls(self, query: Query, items: npt.NDArray[np.int32], decay: float, room: Room) -> None:
        """The items of the context that pull hardest towards each item, by their part of context . out_i."""
        kernels.pulls(
            self.into, self.out, self.alive, query.profile, self.config.embedding_context, decay, items,
            room.fraction, room.item,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------- housekeeping

    def sizes(self) -> dict[str, tuple[int, int]]:
        return {"embedded_items": (int(self.alive.sum()), self.bound)}


class EmbeddingLast(Source):
    """The shorter memory: the vectors of another source, which learns and holds all there is. Costs no learning."""

    name = "embedding_last"
    grounds = Grounds("leads_to", item=True)
    family = Family.COLLABORATIVE
    echo_of = Embedding.name
    scratch = ("longer", "_context", "_top", "_known")

    def __init__(self, state: State, longer: Embedding) -> None:
        super().__init__(state)
        self.longer = longer
        self._context: npt.NDArray[np.float32] = np.zeros(self.config.embedding_dim, np.float32)
        self._known, self._top = False, 0.0

    def find(self, query: Query, found: Found) -> int:
        config, longer = self.config, self.longer
        near = longer.near(query)
        count, self._top = _find_among(
            longer.into, longer.out, longer.bias, longer.alive, query.profile, config.embedding_context,
            config.embedding_last_decay, self._context, self.history.items.keys, query.k, near, found.items, found.scores,
        )  # fmt: skip
        self._known = count >= 0
        return max(count, 0)

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        if self._known:
            _score(self.longer.out, self.longer.bias, self.longer.alive, self._context, self._top, items, out)
        else:
            out[:] = 0.0

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        self.longer.pulls(query, items, self.config.embedding_last_decay, room)
