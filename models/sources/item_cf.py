"""ItemCF: items that the same people are positive about.

Cosine of Sarwar et al. (2001), Linden et al. (2003), for sets: sim(i, j) = C_ij / sqrt(n_i n_j), with C_ij the users whose
profile holds both (see `models.together`) and n_i those whose profile holds i.

score(i) = sum over the user's newest L items j of decay^age(j) * weight(j) * sim(i, j); age 0 is the newest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import ahead_in, is_wide, kernel, prefetch
from models.pairs import PAIR, ask_for, lookup, neighbours
from models.rows import Array
from models.sources.base import Accumulator, Family, Found, Grounds, Query, Room, Source, State, best_scaled, blank, offer


@kernel
def _find(
    profile: Array, length: int, decay: float, data: Array, rows: Array, inverse_root: Array,
    cells: Array, score: Array, touched: Array, count: Array, open_items: Array, seen: Array, stamp: int, keys: Array, k: int,
    items: Array, scores: Array,
) -> int:  # fmt: skip
    n = np.uint64(0)
    far = ahead_in(score)
    age = 1.0
    for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[x].item
        part = age * (profile[x].weight / 256.0) * inverse_root[j]
        age *= decay
        size = neighbours(data, rows, j, cells)
        for c in range(size):
            if c + far < size:
                prefetch(score, cells[c + far].item)
            i = np.uint64(cells[c].item)
            touched[n] = i
            n += np.uint64(score[i] == 0.0)
            score[i] += part * cells[c].count
    count[0] = n
    return best_scaled(score, inverse_root, touched, count[0], open_items, seen, stamp, keys, k, items, scores)


@kernel
def _evidence(
    profile: Array, length: int, decay: float, data: Array, rows: Array, inverse_root: Array,
    wanted: Array, score: Array, fraction: Array, because: Array, number: Array,
) -> None:  # fmt: skip
    """For each wanted item the profile items with the largest parts of its score, the newer first among equals."""
    blank(fraction, because, len(wanted))
    if is_wide(data):
        for p in range(max(0, len(profile) - length), len(profile)):
            for x in range(len(wanted)):
                ask_for(data, rows, profile[p].item, wanted[x])
    age = 1.0
    for p in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[p].item
        part = age * (profile[p].weight / 256.0) * inverse_root[j]
        age *= decay
        for x in range(len(wanted)):
            offer(fraction, because, x, part * lookup(data, rows, j, wanted[x]) * inverse_root[wanted[x]], j)
    for x in range(len(wanted)):
        total = score[wanted[x]]
        for e in range(fraction.shape[1]):
            fraction[x, e] = fraction[x, e] / total if total > 0.0 else 0.0
            number[x, e] = lookup(data, rows, because[x, e], wanted[x]) if because[x, e] >= 0 else 0


class ItemCF(Source):
    """See the module."""

    name = "item_cf"
    grounds = Grounds("similar_to", item=True, number=True)
    family = Family.COLLABORATIVE
    together = True
    scratch = ("_scratch", "_cells")

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.pairs = state.together.pairs
        self._scratch = Accumulator()
        self._cells: Array = np.zeros(self.config.max_neighbours + 1, PAIR)

    def ensure(self, users: int, items: int) -> None:
        self._scratch.ensure(items)

    def find(self, query: Query, found: Found) -> int:
        history, scratch, pool = self.history, self._scratch, self.pairs.pool
        scratch.reset()
        return _find(
            query.profile, self.config.item_cf_items, self.config.item_cf_decay, pool.data, pool.rows, history.inverse_root,
            self._cells, scratch.score, scratch.touched, scratch.count, query.open, query.seen, query.stamp, history.items.keys,
            query.k, found.items, found.scores,
        )  # fmt: skip

    @property
    def spread(self) -> Array | None:
        return self._scratch.score

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        pool = self.pairs.pool
        _evidence(
            query.profile, self.config.item_cf_items, self.config.item_cf_decay, pool.data, pool.rows,
            self.history.inverse_root, items, self._scratch.score, room.fraction, room.item, room.number,
        )  # fmt: skip

    def similar(self, item: int, n: int) -> list[tuple[int, float]]:
        """The `n` items most similar to one: index and cosine, the best first."""
        row, history = self.pairs.row(item), self.history
        cosine = row["count"] * history.inverse_root[row["item"]] * history.inverse_root[item]
        order = np.lexsort((history.items.keys[row["item"]], -cosine))
        usable = [x for x in order if self.state.catalogue.open[row["item"][x]]]
        return [(int(row["item"][x]), float(cosine[x])) for x in usable[:n]]
