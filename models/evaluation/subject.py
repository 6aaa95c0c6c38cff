"""The recommender as something that is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.evaluation.prequential import FUSED, Query
from models.events import Event, Item, ItemVector, ReviewVector
from models.recommender import Recommender


class RecommenderSubject:
    """Lists of every source and fused, in one go. `repeats`: whether own items may come again (None: as configured);
    `single`: whether the sources count, or the fused list alone."""

    def __init__(self, model: Recommender, *, repeats: bool | None = None, single: bool = True) -> None:
        self.model = model
        self.repeats = repeats
        self.single = single

    def lists(self, query: Query, n: int) -> Mapping[str, Sequence[str]]:
        lists = self.model.lists(query.user_id, n, context=query.context, repeats=self.repeats, at_ms=query.timestamp_ms)
        return lists if self.single else {FUSED: lists[FUSED]}

    def predict(self, user_id: str, item_id: str) -> float | None:
        return self.model.predict(user_id, item_id)

    def learn(self, event: Event | Item | ItemVector | ReviewVector) -> None:
        self.model.learn(event)
