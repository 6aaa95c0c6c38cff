"""Test, then learn, live: before an event is learned, its item is looked up in the list that was out, and in the lists that each
source and their fusion would have given at that moment. It is the protocol of `evaluation`, on what happens now.

An event is a test if it speaks for its item (a click, a purchase, a good review) and the item could have been in the list: where
lists leave out what the user has, an event about such an item tests nothing. Items that nobody has ever had to do with are sure
misses, and count. The purchase that follows a click is no second test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.attribution import ServedLists
from models.diversity import by_vectors
from models.events import Interaction
from models.recommender import Recommender

MISS: Final = -1
"""The rank of an item that is not in the list."""
POSITIVE: Final = ("click", "purchase")


def gain(rank: int) -> float:
    """1 / log2(rank + 2), the NDCG of a list with one right item at that place (0 is the first); 0 for a miss."""
    return 0.0 if rank == MISS else 1.0 / math.log2(rank + 2)


def rank_in(items: Sequence[str], item_id: str) -> int:
    """Place of the item, 0 the first, or `MISS`."""
    try:
        return items.index(item_id)
    except ValueError:
        return MISS


class ListTests:
    """Asks a model and the memory of what was served; changes neither. `n`: the length of the lists that are compared."""

    def __init__(self, model: Recommender, served: ServedLists, n: int) -> None:
        self.model, self.served, self.n = model, served, n

    def is_test(self, line: Interaction) -> bool:
        """Whether the event is one (see the module). To be asked before it is learned."""
        if line.kind == "review":
            positive = line.rating is not None and line.rating >= self.model.config.positive_rating
        else:
            positive = line.kind in POSITIVE
        return positive and (self.model.asking.repeats or not self.model.has(line.user_id, line.item_id))

    def of_served(self, line: Interaction, log_offset: int) -> int | None:
        """The item's rank in the list that was out when the event came, which stands at `log_offset` of the log; None where none
        was. A list that was made after the event does not count, however often the log is read."""
        out = self.served.out_before(line.user_id, log_offset)
        return None if out is None else rank_in(out.items[: self.n], line.item_id)

    def of_sources(self, line: Interaction) -> Mapping[str, int]:
        """The item's rank in the list of each source and in `fused`, as they are before the event. Costs as much as a list."""
        lists = self.model.lists(line.user_id, self.n, context=line.context)
        return {source: rank_in(items, line.item_id) for source, items in lists.items()}

    def diversity(self, items: Sequence[str]) -> float | None:
        """1 - mean pairwise similarity of a list: Jaccard of the categories where the catalogue has any, else the cosine of the
        item vectors (see `models.diversity`). Over the items of which there are; None for fewer than two."""
        known = [i for i in map(self.model.history.items.get, items) if i >= 0]
        of_item = self.model.catalogue.of_item
        if self.model.catalogue.listed:
            sets = [s for s in (frozenset(of_item.row(i).tolist()) for i in known) if s]
            pairs = [len(a & b) / len(a | b) for k, a in enumerate(sets) for b in sets[k + 1 :]]
            return 1.0 - sum(pairs) / len(pairs) if pairs else None
        vectors = self.model.vectors
        rows = [i for i in known if i < len(vectors.row_of) and vectors.row_of[i] >= 0]
        if len(rows) < 2:
            return None
        similar = by_vectors(vectors, np.array(rows, np.int32))
        return 1.0 - (float(similar.sum()) - float(similar.trace())) / (len(rows) * (len(rows) - 1))
