"""How much of the catalogue lists show lately, and how evenly."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from models.evaluation.metrics import gini


class Exposure:
    """Items in the last `lists` lists. Bound: that many lists, and a counter for each item in them."""

    def __init__(self, lists: int = 2_000) -> None:
        if lists < 1:
            raise ValueError(f"lists={lists}: at least one is needed")
        self.bound = lists
        self._lists: deque[Sequence[str]] = deque()
        self._shown: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._lists)

    def add(self, items: Sequence[str]) -> None:
        """One more list has gone out; the oldest one is forgotten where there are too many."""
        if len(self._lists) >= self.bound:
            for item in self._lists.popleft():
                left = self._shown[item] - 1
                if left:
                    self._shown[item] = left
                else:
                    del self._shown[item]
        self._lists.append(items)
        self._shown.update(items)

    @property
    def distinct(self) -> int:
        """Different items in those lists."""
        return len(self._shown)

    def gini(self, catalogue: int) -> float | None:
        """See `evaluation.metrics.gini`; `catalogue` is the number of items that could be shown. None before the first list."""
        return gini(self._shown.values(), catalogue)
