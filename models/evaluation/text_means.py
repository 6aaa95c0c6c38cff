"""What was said about each item, as the embedder publishes it: the direction of the mean of its texts' vectors.

One difference: whoever reviews an item again counts again here, while the embedder lets the last review stand for an account.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.events import ItemVector


class TextMeans:
    """Running sums of unit vectors per item, `max_items` at most (4 bytes * dim each); texts of further items are not kept."""

    def __init__(self, model: str, *, max_items: int = 1_000_000) -> None:
        self.model = model
        self.max_items = max_items
        self._sums: dict[str, npt.NDArray[np.float32]] = {}
        self._texts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, item_id: str, vector: npt.NDArray[np.float32], snippet: str = "") -> ItemVector | None:
        """The item's vector after one more text with the given (dim,) unit vector; None where the bound leaves the item out."""
        total = self._sums.get(item_id)
        if total is None:
            if len(self._sums) >= self.max_items:
                return None
            total = self._sums[item_id] = np.zeros(len(vector), np.float32)
        total += vector
        self._texts[item_id] = self._texts.get(item_id, 0) + 1
        norm = float(np.linalg.norm(total))
        mean = total / norm if norm > 0 else total
        return ItemVector(
            item_id=item_id, vector=mean.astype("<f4").tobytes(), texts=self._texts[item_id], model=self.model, snippet=snippet
        )
