"""EASE: a regression of every item on all others, for the items that matter most.

Steck (2019), Embarrassingly Shallow Autoencoders: with G = X'X the counts of items taken together (n_i on the diagonal) and
P = (G + lambda I)^-1, the weights that best predict who takes j from what else they take are B_ij = -P_ij / P_jj, B_jj = 0.

score(j) = max(0, sum over the user's newest L items i of decay^age(i) * weight(i) * B_ij)

Costs grow with the cube of the number of items, so it is fitted for the `ease_items` that most users have, and anew whenever
their counts have changed by a fifth, or `ease_every` times. Where those items are less than `ease_share` of all that is in
profiles, the catalogue has outgrown the method: it retires, costs nothing, and comes back when that changes.

When it is fitted depends on the order of arrival: it is no part of the exact state, although it is made of nothing else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, Step, allowed, blank, offer, push, settle

_FIRST = 50
"""Changes before the first fit."""


@kernel
def _gram(data: Array, rows: Array, items: Array, slot: Array, takers: Array, ridge: float, out: Array) -> None:
    """G + lambda I of `items` (n,) into `out` (n, n); `slot[item]` is the item's place among them, or -1."""
    out[:] = 0.0
    for s in range(len(items)):
        i = items[s]
        for c in range(rows[i].start, rows[i].start + rows[i].cap):
            if data[c].count != 0 and slot[data[c].item] >= 0:
                out[s, slot[data[c].item]] = data[c].count
        out[s, s] = takers[i] + ridge


@kernel
def _symmetric(out: Array) -> None:
    """A pair that a bound has let go on one side counts as gone on both."""
    for s in range(len(out)):
        for z in range(s):
            low = min(out[s, z], out[z, s])
            out[s, z] = low
            out[z, s] = low


@kernel
def _weigh(inverse: Array, out: Array) -> None:
    """B from the lower triangle of P."""
    for i in range(len(out)):
        for j in range(i):
            out[i, j] = -inverse[i, j] / inverse[j, j]
            out[j, i] = -inverse[i, j] / inverse[i, i]
        out[i, i] = 0.0


def _inverse(gram: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The inverse of a symmetric (n, n) matrix, which it may overwrite; only the lower triangle is to be read.

    By Cholesky, a quarter of the time of `np.linalg.inv`, which does it where the counts, cut short by bounds, are not
    positive definite.
    """
    factor, failed = lapack.spotrf(gram.T, lower=1)
    if not failed:
        inverse, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    return np.linalg.inv(gram) if failed else np.ascontiguousarray(inverse)


@kernel
def _find(
    profile: Array, length: int, decay: float, slot: Array, items: Array, weights: Array, score: Array, open_items: Array,
    seen: Array, stamp: int, keys: Array, k: int, found: Array, scores: Array,
) -> int:  # fmt: skip
    score[:] = 0.0
    age = 1.0
    known = 0
    for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        s = slot[profile[x].item]
        if s >= 0:
            part = np.float32(age * (profile[x].weight / 256.0))
            known += 1
            row = weights[s]
            for z in range(len(score)):
                score[z] += part * row[z]
        age *= decay
    if known == 0:
        return 0
    m = 0
    for z in range(len(score)):
        score[z] = max(score[z], np.float32(0.0))
        if items[z] >= 0 and score[z] > 0.0 and allowed(items[z], open_items, seen, stamp):
            m = push(found, scores, keys, m, k, items[z], np.float64(score[z]))
    settle(found, scores, keys, m)
    return m


@kernel
def _score(slot: Array, score: Array, wanted: Array, out: Array) -> None:
    for x in range(len(wanted)):
        s = slot[wanted[x]]
        out[x] = score[s] if s >= 0 else 0.0


@kernel
def _evidence(
    profile: Array, length: int, decay: float, slot: Array, weights: Array, wanted: Array, fraction: Array, because: Array
) -> None:  # fmt: skip
    """The profile items that speak most for each wanted item, as parts of all that speaks for it."""
    blank(fraction, because, len(wanted))
    for x in range(len(wanted)):
        z = slot[wanted[x]]
        age = 1.0
        total = 0.0
        for p in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
            s = slot[profile[p].item]
            if s >= 0:
                part = age * (profile[p].weight / 256.0) * weights[s, z]
                if part > 0.0:
                    total += part
                    offer(fraction, because, x, part, profile[p].item)
            age *= decay
        for e in range(fraction.shape[1]):
            fraction[x, e] = fraction[x, e] / total if total > 0.0 else 0.0


class Ease(Source):
    """See the module. Bound: `ease_items` squared * 4 bytes."""

    name = "ease"
    grounds = Grounds("together", item=True)
    family = Family.COLLABORATIVE
    together = True
    kept = ("items", "slot", "weights", "entries", "changes", "retired")
    scratch = ("_score",)
    gradient = True

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.pairs = state.together.pairs
        self.items: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        """The fitted items, (n,); -1: one that has been forgotten since."""
        self.slot: npt.NDArray[np.int32] = np.full(16, -1, np.int32)
        """Per item: its place among them, or -1."""
        self.weights: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        """B, (n, n)."""
        self.entries = 0
        """Items in all profiles."""
        self.changes = 0
        """Of profiles, since the last fit."""
        self.retired = False
        self._score: npt.NDArray[np.float32] = np.zeros(0, np.float32)

    # -------------------------------------------------------------------------------------------- learning
    def ensure(self, users: int, items: int) -> None:
        old = len(self.slot)
        self.slot = grown(self.slot, items)
        self.slot[old:] = -1

    def after(self, step: Step) -> None:
        if step.joined or step.left:
            self.changes += 1
            self.entries += 1 if step.joined else -1
            if self.changes >= _FIRST and self.changes >= min(self.config.ease_every, self.entries // 5):
                self._fit()

    def forget_item(self, item: int) -> None:
        place = self.slot[item]
        if place >= 0:
            self.items[place] = self.slot[item] = -1
            self.weights[place] = 0.0
            self.weights[:, place] = 0.0

    def _fit(self) -> None:
        """Choose the items and work out their weights, or retire."""
        self.changes = 0
        takers = self.history.takers[: self.history.items.span]
        self.slot[self.items[self.items >= 0]] = -1
        items = _most(takers, self.history.items.keys, self.config.ease_items)
        self.retired = bool(takers[items].sum() < self.config.ease_share * takers.sum())
        self.items = np.zeros(0, np.int32) if self.retired else items
        self.slot[self.items] = np.arange(len(self.items), dtype=np.int32)
        self.weights = self._regression() if len(self.items) else np.zeros((0, 0), np.float32)

    def _regression(self) -> npt.NDArray[np.float32]:
        pool, n = self.pairs.pool, len(self.items)
        gram = np.empty((n, n), np.float32)
        _gram(pool.data, pool.rows, self.items, self.slot, self.history.takers, self.config.ease_ridge, gram)
        _symmetric(gram)
        weights = np.empty((n, n), np.float32)
        _weigh(_inverse(gram), weights)
        return weights

    # -------------------------------------------------------------------------------------------- asking
    def find(self, query: Query, found: Found) -> int:
        if len(self._score) != len(self.items):
            self._score = np.zeros(len(self.items), np.float32)
        if not len(self.items):
            return 0
        return int(_find(
            query.profile, self.config.ease_context, self.config.ease_decay, self.slot, self.items, self.weights, self._score,
            query.open, query.seen, query.stamp, self.history.items.keys, query.k, found.items, found.scores,
        ))  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        if len(self.items) and len(query.profile):
            _score(self.slot, self._score, items, out)
        else:
            out[:] = 0.0

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        config = self.config
        _evidence(query.profile, config.ease_context, config.ease_decay, self.slot, self.weights, items, room.fraction, room.item)

    # -------------------------------------------------------------------------------------------- housekeeping
    def sizes(self) -> dict[str, tuple[int, int]]:
        return {"ease_items": (len(self.items), self.config.ease_items)}


def _most(takers: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], n: int) -> npt.NDArray[np.int32]:
    """The `n` items that most users have; equally many: the smaller key."""
    held = np.flatnonzero(takers)
    if len(held) > n:
        least = np.partition(takers[held], len(held) - n)[len(held) - n]
        held = held[takers[held] >= least]
    return held[np.lexsort((keys[held], -takers[held]))][:n].astype(np.int32)
