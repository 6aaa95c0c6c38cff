"""Calibrated lists: the categories of a list in the proportions of what the user took (Steck, *Calibrated recommendations*,
RecSys 2018).

With p(g|i) = 1 / (number of i's categories) for each of them,

    p(g|u) = mean of p(g|i) over the user's newest items that have categories                        (Steck, eq. 2, equal weights)
    q(g|L) = mean of p(g|i) over the list's items that have categories                               (eq. 3)
    C(L)   = sum over g with p(g|u) > 0 of p(g|u) log(p(g|u) / q'(g|L)),  q' = (1 - a) q + a p        (eq. 4 and 5, a = 0.01)

C is 0 for a list in exactly these proportions and log(1 / a) = 4.6 for one that has none of the user's categories. A user of
whom no categories are known has no C: calibration leaves their list alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.catalogue import Catalogue
from models.kernel import kernel
from models.rows import Array

SMOOTHING: Final = 0.01
"""a of the formula."""


class Mix(NamedTuple):
    """Categories of n items, numbered from 0 in the order of the categories' keys (so that sums do not depend on arrival)."""

    starts: npt.NDArray[np.int64]  # (n + 1,): the categories of item x are members[starts[x] : starts[x + 1]]
    members: npt.NDArray[np.int64]
    target: npt.NDArray[np.float64]  # (G,): p(g|u), all 0 where nothing is known
    categories: npt.NDArray[np.int64]  # (G,): index in the catalogue


@kernel
def _rows(items: Array, data: Array, rows: Array, starts: Array, members: Array) -> int:
    """The rows of the items one after another; how many cells they have (`members` is only filled as far as it reaches)."""
    n = 0
    for x in range(len(items)):
        starts[x] = n
        row = rows[items[x]]
        for k in range(row.start, row.start + row.size):
            if n < len(members):
                members[n] = data[k]
            n += 1
    starts[len(items)] = n
    return n


def mix(catalogue: Catalogue, items: npt.NDArray[np.int32], taken: npt.NDArray[np.int32]) -> Mix:
    """The categories of `items` (n,), and the proportions of those of `taken`."""
    starts, members = _listed(catalogue, items)
    taken_starts, taken_members = _listed(catalogue, taken)
    categories = np.unique(np.concatenate((members, taken_members)))
    categories = categories[np.argsort(catalogue.categories.keys[categories], kind="stable")]
    local = np.zeros(int(categories.max(initial=-1)) + 1, np.int64)
    local[categories] = np.arange(len(categories))
    target = np.zeros(len(categories))
    _proportions(taken_starts, local[taken_members], target)
    return Mix(starts, local[members], target, categories)


def _listed(catalogue: Catalogue, items: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    pool, starts = catalogue.of_item, np.zeros(len(items) + 1, np.int64)
    members = np.zeros(8 * len(items), np.int64)
    n = _rows(items, pool.data, pool.rows, starts, members)
    if n > len(members):
        members = np.zeros(n, np.int64)
        _rows(items, pool.data, pool.rows, starts, members)
    return starts, members[:n]


@kernel
def _proportions(starts: Array, members: Array, out: Array) -> None:
    """Mean of p(g|i) over the items with categories into `out` (G,)."""
    categorised = 0
    for x in range(len(starts) - 1):
        categorised += starts[x + 1] > starts[x]
        for k in range(starts[x], starts[x + 1]):
            out[members[k]] += 1.0 / (starts[x + 1] - starts[x])
    for g in range(len(out)):
        out[g] /= max(categorised, 1)


@kernel
def divergence(target: Array, total: Array, categorised: int) -> float:
    """C for a list with the sums `total` (G,) of p(g|i) over its `categorised` items with categories."""
    c = 0.0
    for g in range(len(target)):
        p = target[g]
        if p > 0.0:
            q = total[g] / categorised if categorised > 0 else 0.0
            c += p * np.log(p / ((1.0 - SMOOTHING) * q + SMOOTHING * p))
    return c
