"""The rules of the shop on the indices of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from models.catalogue import Catalogue
from models.interning import Interner
from models.rules import EVERY, MAX_CAP, Rules


class RuleBook:
    """Rules with names resolved to the indices of a model. All it holds is derived, and made again when categories are added."""

    def __init__(self, rules: Rules, items: Interner, catalogue: Catalogue) -> None:
        self.rules, self._items, self._catalogue = rules, items, catalogue
        self._span = -1
        self._factor: npt.NDArray[np.float64] = np.ones(0)
        self._cap: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def pins(self) -> list[int]:
        """Indices of the pinned items that exist, in order."""
        return [index for index in map(self._items.get, self.rules.pins) if index >= 0]

    def factors(self, items: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """(n,): the product of the factors of each item and its categories; 0: blocked."""
        out = np.ones(len(items))
        if self.rules.category_factors:
            self._resolve()
            of_item = self._catalogue.of_item
            for x, item in enumerate(items.tolist()):
                row = of_item.row(item)
                if len(row):
                    out[x] = _product(self._factor[row].tolist())
        for name, factor in self.rules.item_factors.items():
            index = self._items.get(name)
            if index >= 0:
                out[items == index] *= factor
        return out

    def caps(self) -> npt.NDArray[np.int64]:
        """(categories,): the most items of each category in a list."""
        self._resolve()
        return self._cap

    def _resolve(self) -> None:
        names = self._catalogue.categories.names
        if len(names) == self._span:
            return
        self._span = len(names)
        self._factor = np.array([self.rules.category_factors.get(name or "", 1.0) for name in names], np.float64)
        general = self.rules.caps.get(EVERY, MAX_CAP)
        self._cap = np.array([self.rules.caps.get(name or "", general) for name in names], np.int64)


def _product(factors: Iterable[float]) -> float:
    """The product in ascending order: the same bits in whatever order an item names its categories."""
    return math.prod(sorted(factors))
