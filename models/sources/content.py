"""Content: items in the categories that the user goes for, as the catalogue says.

affinity(c) = sum over the user's newest L items j in c of decay^age(j) * weight(j) / sqrt(|categories(j)|)
score(i) = sum over the categories c of i of affinity(c) * ln(1 + N / n_c) / sqrt(|categories(i)|)

with n_c the number of (remembered) items of c and N that of all categories together: rare categories say more. Candidates are the
newest `category_items` items of each category, so that an item is found from the moment it is listed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import allocating_kernel, kernel
from models.rows import Array
from models.sources.base import Accumulator, Family, Found, Grounds, Query, Room, Source, State, best_of, blank, choose, clear

_MOST = 64
"""Categories looked at per request, the strongest: a user of many interests must not cost a walk through the catalogue."""


@kernel
def _affinity(
    profile: Array, length: int, decay: float, of_item: Array, of_rows: Array, newest_rows: Array, listed: float,
    affinity: Array, touched: Array, count: Array,
) -> None:  # fmt: skip
    clear(affinity, touched, count)
    n = 0
    age = 1.0
    for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[x].item
        start = of_rows[j].start
        size = of_rows[j].size
        for c in range(start, start + size):
            category = of_item[c]
            if affinity[category] == 0.0:
                touched[n] = category
                n += 1
            affinity[category] += age * (profile[x].weight / 256.0) / np.sqrt(float(size))
        age *= decay
    count[0] = n
    for x in range(n):
        affinity[touched[x]] *= np.log(1.0 + listed / max(1, newest_rows[touched[x]].size))


@kernel
def _score(of_item: Array, of_rows: Array, affinity: Array, item: int) -> float:
    start = of_rows[item].start
    size = of_rows[item].size
    if size == 0:
        return 0.0
    total = 0.0
    for c in range(start, start + size):
        total += affinity[of_item[c]]
    return float(total / np.sqrt(float(size)))


@kernel
def _score_all(of_item: Array, of_rows: Array, affinity: Array, items: Array, out: Array) -> None:
    for x in range(len(items)):
        out[x] = _score(of_item, of_rows, affinity, items[x])


@allocating_kernel
def _find(
    affinity: Array, categories: Array, count: int, category_keys: Array, of_item: Array, of_rows: Array, newest: Array,
    newest_rows: Array, met: Array, touched: Array, met_count: Array, open_items: Array, seen: Array, stamp: int, keys: Array,
    k: int, items: Array, scores: Array,
) -> int:  # fmt: skip
    """Candidates from the newest items of the strongest of `count` categories."""
    clear(met, touched, met_count)
    values = np.empty(count)
    for x in range(count):
        values[x] = affinity[categories[x]]
    strongest = np.empty(_MOST, np.int32)
    looked_at = choose(values, categories[:count], category_keys, _MOST, strongest, np.empty(_MOST))
    n = 0
    for x in range(looked_at):
        start = newest_rows[strongest[x]].start
        for c in range(start, start + newest_rows[strongest[x]].size):
            i = newest[c]
            touched[n] = i
            n += met[i] == 0.0
            met[i] = 1.0
    met_count[0] = n
    for x in range(n):
        i = touched[x]
        met[i] = _score(of_item, of_rows, affinity, i)  # above 0: the item is in one of these categories
    return int(best_of(met, touched, n, open_items, seen, stamp, keys, k, items, scores))


@kernel
def _weigh(of_item: Array, of_rows: Array, affinity: Array, keys: Array, items: Array, fraction: Array, because: Array) -> None:
    """The strongest categories of each item, the first by key of equals, as parts of all that speaks for it."""
    blank(fraction, because, len(items))
    for x in range(len(items)):
        start = of_rows[items[x]].start
        total = 0.0
        for c in range(start, start + of_rows[items[x]].size):
            category = of_item[c]
            total += affinity[category]
            e = fraction.shape[1]
            while e > 0 and _before(affinity[category], keys[category], fraction[x, e - 1], because[x, e - 1], keys):
                if e < fraction.shape[1]:
                    fraction[x, e], because[x, e] = fraction[x, e - 1], because[x, e - 1]
                e -= 1
            if e < fraction.shape[1]:
                fraction[x, e], because[x, e] = affinity[category], category
        for e in range(fraction.shape[1]):
            fraction[x, e] = fraction[x, e] / total if total > 0.0 else 0.0


@kernel
def _before(affinity: float, key: int, other: float, place: int, keys: Array) -> bool:
    """Whether a category stands before the one at `place` (-1: none)."""
    return place < 0 or affinity > other or (affinity == other and key < keys[place])


class Content(Source):
    """See the module. Learns nothing by itself: categories come with the catalogue."""

    name = "content"
    grounds = Grounds("category", text=True)
    family = Family.CONTENT
    scratch = ("_affinity", "_met")

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.catalogue = state.catalogue
        self._affinity = Accumulator()
        self._met = Accumulator()

    def ensure(self, users: int, items: int) -> None:
        self._met.ensure(items)

    def find(self, query: Query, found: Found) -> int:
        catalogue, of_item, newest = self.catalogue, self.catalogue.of_item, self.catalogue.newest
        if not len(catalogue.categories):
            return 0
        affinity, met = self._affinity, self._met
        affinity.ensure(catalogue.categories.span)
        _affinity(
            query.profile, self.config.content_items, self.config.content_decay, of_item.data, of_item.rows, newest.rows,
            float(catalogue.listed), affinity.score, affinity.touched, affinity.count,
        )  # fmt: skip
        return _find(
            affinity.score, affinity.touched, affinity.count.item(0), catalogue.categories.keys, of_item.data, of_item.rows,
            newest.data, newest.rows, met.score, met.touched, met.count, query.open, query.seen, query.stamp,
            self.history.items.keys, query.k, found.items, found.scores,
        )  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        of_item = self.catalogue.of_item
        if not len(self.catalogue.categories):
            out[:] = 0.0
            return
        _score_all(of_item.data, of_item.rows, self._affinity.score, items, out)

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        """The strongest categories of each item."""
        categories, of_item = self.catalogue.categories, self.catalogue.of_item
        _weigh(of_item.data, of_item.rows, self._affinity.score, categories.keys, items, room.fraction, room.text)

    def said(self, number: int) -> str | None:
        return self.catalogue.categories.name(number)
