"""T-ItemCF: ItemCF with similarities that are partly what is said about the items (the papers' T-ItemCF).

sim(i, j) = (1 - a) C_ij / sqrt(n_i n_j) + a (cosine of v_i - mean and v_j - mean)

with a = `text_item_share` and v the items' vectors (no part of it where one has none), and as in `item_cf`

score(i) = max(0, sum over the user's newest L items j of decay^age(j) * weight(j) * sim(i, j))

Candidates are the best of ItemCF and the best of the text source; among them scores are exact. It is optional: sums of both
sources' scores are what the fusion learns anyway, with a share of its own for every context.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import kernel
from models.pairs import lookup
from models.rows import Array
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, blank, choose, offer
from models.sources.item_cf import ItemCF
from models.sources.text import Text, centred_units


@kernel
def _parts(
    profile: Array, length: int, decay: float, data: Array, rows: Array, inverse_root: Array, alike: Array, share: float,
    wanted: Array, parts: Array,
) -> None:  # fmt: skip
    """What each of the profile's newest items adds to each wanted item into `parts` (n, L), the newest first."""
    age = 1.0
    for back in range(parts.shape[1]):
        own = profile[len(profile) - 1 - back]
        j = own.item
        for x in range(len(wanted)):
            cosine = lookup(data, rows, j, wanted[x]) * inverse_root[j] * inverse_root[wanted[x]]
            sim = (1.0 - share) * cosine + share * np.float64(alike[x, back])
            parts[x, back] = age * (own.weight / 256.0) * sim if wanted[x] != j else 0.0
        age *= decay


@kernel
def _evidence(profile: Array, parts: Array, fraction: Array, because: Array) -> None:
    """The profile items that speak most for each wanted item, as parts of all that speaks for it."""
    blank(fraction, because, len(parts))
    for x in range(len(parts)):
        total = 0.0
        for back in range(parts.shape[1]):
            if parts[x, back] > 0.0:
                total += parts[x, back]
                offer(fraction, because, x, parts[x, back], profile[len(profile) - 1 - back].item)
        for e in range(fraction.shape[1]):
            fraction[x, e] = fraction[x, e] / total if total > 0.0 else 0.0


class TextItemCF(Source):
    """See the module. Counts nothing of its own."""

    name = "text_item_cf"
    grounds = Grounds("alike", item=True)
    family = Family.TEXT
    together = True
    optional = True
    scratch = ("_cf", "_text", "_found")

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._cf, self._text = ItemCF(state), Text(state)
        self._found = Found(np.zeros(0, np.int32), np.zeros(0))

    def ensure(self, users: int, items: int) -> None:
        self._cf.ensure(users, items)

    def find(self, query: Query, found: Found) -> int:
        if len(self._found.items) < query.k:
            self._found = Found(np.zeros(query.k, np.int32), np.zeros(query.k))
        near = [self._found.items[: source.find(query, self._found)].copy() for source in (self._cf, self._text)]
        items = np.union1d(*near).astype(np.int32)
        scores = np.zeros(len(items))
        self.score(query, items, scores)
        held = scores > 0.0
        keys = self.history.items.keys
        return int(choose(scores[held], items[held], keys, query.k, found.items, found.scores))

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        out[:] = np.maximum(self._parts(query, items).sum(axis=1), 0.0)

    def _parts(self, query: Query, items: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """(n, L): what the newest items of the profile add, the newest first."""
        vectors, length = self.state.vectors, min(self.config.item_cf_items, len(query.profile))
        parts = np.zeros((len(items), length))
        if not parts.size:
            return parts
        newest = query.profile["item"][::-1][:length]
        alike = centred_units(vectors, vectors.rows_of(items)) @ centred_units(vectors, vectors.rows_of(newest)).T
        pool = self._cf.pairs.pool
        _parts(
            query.profile, length, self.config.item_cf_decay, pool.data, pool.rows, self.history.inverse_root,
            np.ascontiguousarray(alike), self.config.text_item_share, items, parts,
        )  # fmt: skip
        return parts

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        _evidence(query.profile, self._parts(query, items), room.fraction, room.item)
