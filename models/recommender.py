"""The recommender: events in, lists out.

    learn:      event -> steps of the exact state (`history`) -> every source follows each step
    recommend:  query -> candidates of every source -> fusion -> rerank -> explained

`learn` and `remove_item` change the state, everything else only reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from models import explain, fusion, sources
from models.asking import Asking
from models.catalogue import Catalogue
from models.config import Config
from models.digest import digest
from models.events import Erasure, Event, Interaction, Item, ItemVector, Recommended, ReviewVector
from models.fold import Fold
from models.habit import Habit
from models.history import History
from models.kept import Kept, Value, under
from models.newcomers import Newcomers
from models.pace import Pace
from models.ratings import Ratings
from models.rerank import Rerank, Reranked, noted
from models.reviewers import Reviewers
from models.snapshot import checksum
from models.sources.base import Query, State
from models.sources.item_cf import ItemCF
from models.sources.user_cf import UserCF
from models.taste import taste
from models.together import Together
from models.training import Trainer
from models.vectors import Vectors

_S = TypeVar("_S")

MAX_LIST = 1000
"""The longest list that can be asked for."""
LAYOUT: Final = 2
"""Raise it with every change by which a weight of the fusion comes to mean something else (features, their order or scale)."""


class Recommender(Kept):
    """Online recommendations from clicks, purchases and reviews. See the module; `Config` has every parameter and bound.

    >>> from models import Click, Recommender
    >>> r = Recommender()
    >>> r.learn(Click(event_id="e1", user_id="ada", item_id="dune", timestamp_ms=1))
    True
    >>> [line.item_id for line in r.recommend("bob", n=3)]
    ['dune']
    """

    kept = ("history", "catalogue", "vectors", "ratings", "together", "reviewers", "sources", "fusion", "habit", "pace", "fold")

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.history = History(self.config)
        self.catalogue = Catalogue(self.config, self.history)
        self.vectors = Vectors(self.config)
        self.ratings = Ratings(self.config, self.history)
        self.together, self.reviewers = Together(self.config, self.history), Reviewers(self.config, self.history)
        self.sources = sources.build(
            State(self.config, self.history, self.catalogue, self.vectors, self.together, self.reviewers)
        )
        self.fusion = fusion.build(self.config, self.sources)
        self.rerank = Rerank(self.config, self.history, self.catalogue, self.vectors)
        self.newcomers = Newcomers(self.config, self.history)
        self.explainer = explain.Explainer(self.config, self.history, self.sources)
        self.habit = Habit(self.history, self.config.returning)
        self.asking = Asking(self.config, self.history, self.catalogue, self.sources, self.habit)
        self.pace = Pace(self.config, self.history)
        self.trainer = Trainer(self.asking, self.fusion, self.history)
        self.fold = Fold(
            self.config, self.history, self.catalogue, self.vectors, self.reviewers,
            [
                self.pace, self.together, self.reviewers, *self.sources, self.ratings, self.asking, self.trainer, self.habit,
            ],
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------- learning
    def learn(
        self, event: Event | Interaction | Erasure | Item | ItemVector | ReviewVector, *, train: bool = True, hurry: bool = False
    ) -> bool:  # fmt: skip
        """Take one event in. True if the state changed; an event that is known already changes nothing.

        With `train` off the fusion does not learn from this event, which saves the cost of a list; with `hurry` the embedding
        takes one step on it and none on earlier ones, which saves a third of the rest. The exact state follows all the same.

        Raises:
            ValueError: something that cannot be meant (an empty id, a rating out of 1..5, a vector of another model ...).
        """
        self.trainer.active, self.fold.step.hurried = train, hurry
        if isinstance(event, Item):
            return self.fold.entry(event)
        if isinstance(event, ItemVector):
            return self.fold.vector(event)
        if isinstance(event, ReviewVector):
            return self.fold.words(event)
        return self.fold.interaction(Interaction.of(event))

    def remove_item(self, item_id: str) -> bool:
        """The item left the catalogue: it is not recommended until it comes back by an `Item`. True if that is news."""
        return self.fold.removed(item_id)

    def remove_review(self, event_id: str) -> bool:
        """What a review said is taken back (its rating is, by an event that retracts it). True if that is news."""
        return self.reviewers.drop(event_id)

    # -------------------------------------------------------------------------------------------- lists
    def recommend(
        self,
        user_id: str,
        n: int = 10,
        *,
        context: Mapping[str, str] | None = None,
        near: Sequence[tuple[str, float]] | None = None,
        repeats: bool | None = None,
        at_ms: int | None = None,
    ) -> list[Recommended]:
        """At most `n` (1..1000) items, the best first, with score, shares and reasons. An unknown user gets what is popular.

        `context` is what is known of the request, as in the events; `near` are item ids and scores of an outside search by
        `taste` (None: the newest vectors are compared here); `repeats` says whether the user's own items may come again
        (None: as configured); `at_ms` is the event time of the request (None: that of the newest event of the log). Only reads.
        """
        query = self.asking.query(user_id, _length(n), context=context, near=near, repeats=repeats, at_ms=at_ms)
        return self._list(query, n)

    def popular(self, n: int = 10) -> list[Recommended]:
        """The list for strangers."""
        return self._list(self.asking.query(None, _length(n)), n)

    def _list(self, query: Query, n: int) -> list[Recommended]:
        union = self.asking.candidates(query, complete=self.fusion.complete)
        shares = self.fusion.shares(union, query)
        ranked = self._ranked(union.items, shares, query, n)
        return noted(self.explainer.explained(ranked.items, ranked.shares, query), ranked)

    def _ranked(
        self, items: npt.NDArray[np.int32], shares: npt.NDArray[np.float64], query: Query, n: int
    ) -> Reranked:  # fmt: skip
        """The candidates' best `n`, reranked; where scores are probabilities, with a place for a newcomer."""
        ranked = self.rerank.rank(items, shares, query, n)
        return self.newcomers.seat(ranked, items, shares, query, n) if self.fusion.learns else ranked

    def lists(
        self,
        user_id: str,
        n: int = 10,
        *,
        context: Mapping[str, str] | None = None,
        repeats: bool | None = None,
        at_ms: int | None = None,
    ) -> dict[str, list[str]]:
        """Item ids by name of the source, and `fused`: what evaluation compares. Only reads."""
        query = self.asking.query(user_id, _length(n), context=context, repeats=repeats, at_ms=at_ms)
        union = self.asking.candidates(query, complete=self.fusion.complete)
        shares = self.fusion.shares(union, query)
        name = self.history.items.name
        lists = {"fused": [name(i) for i in self._ranked(union.items, shares, query, n).items.tolist()]}
        for source, items, count in zip(self.sources, union.found_items, union.counts.tolist(), strict=True):
            lists[source.name] = [name(i) for i in items[: min(n, count)].tolist()]
        return lists

    # -------------------------------------------------------------------------------------------- other answers
    def predict(self, user_id: str, item_id: str) -> float:
        """The expected rating, 1..5."""
        return self.ratings.predict(self.history.users.get(user_id), self.history.items.get(item_id))

    def has(self, user_id: str, item_id: str) -> bool:
        """Whether one of the user's remembered events is about the item."""
        user, item = self.history.users.get(user_id), self.history.items.get(item_id)
        return user >= 0 and item >= 0 and self.history.holds(user, item)

    def is_forgotten(self, user_id: str, timestamp_ms: int) -> bool:
        """Whether what this user did then is to be forgotten, however late it comes."""
        return self.fold.keeps_out(user_id, timestamp_ms)

    def similar_items(self, item_id: str, n: int = 10) -> list[tuple[str, float]]:
        """At most `n` items by cosine of their users, the best first; those that may not be recommended are left out."""
        item, source = self.history.items.get(item_id), self._source(ItemCF)
        if item < 0 or source is None:
            return []
        return [(self.history.items.name(other), score) for other, score in source.similar(item, _length(n))]

    def similar_users(self, user_id: str, n: int = 10) -> list[tuple[str, float]]:
        """At most `n` users by similarity of what they took (see `sources.user_cf`), the best first."""
        user, source = self.history.users.get(user_id), self._source(UserCF)
        if user < 0 or source is None:
            return []
        return [(self.history.users.name(other), score) for other, score in source.similar(user, _length(n))]

    def taste(self, user_id: str) -> npt.NDArray[np.float32] | None:
        """Where the user stands among the item vectors: unit length, (dim,); None if nothing they took has a vector."""
        user = self.history.users.get(user_id)
        if user < 0:
            return None
        return taste(self.history.profile(user), self.vectors, self.config.text_items, self.config.text_decay)

    def explain(self, recommended: Recommended) -> str:
        """The reasons of one line of a list in words."""
        return explain.words(recommended)

    # -------------------------------------------------------------------------------------------- the state
    def digest(self) -> str:
        """SHA-256 of the exact state, hexadecimal: equal for equal logs, however partitions interleaved (see `digest`)."""
        return digest(self.history, self.together.pairs if self.together.wanted else None, self.ratings)

    def restore(self, saved: Mapping[str, Value]) -> None:
        self.history.restore(under(saved, "history"))
        self.fold.ensure()  # scratch reaches as far as the ids; what is state is replaced below
        for path, part in self.parts().items():
            if part is not self.history:
                part.restore(under(saved, path))

    def checksum(self) -> str:
        """Fingerprint of what gradient steps have learned, hexadecimal: equal where the same events came in the same order."""
        return checksum(self.learned())

    def layout(self) -> dict[str, Any]:
        """What has to be the same in two models for one to `adopt` what the other has learned: whatever gives a weight its place
        and its meaning. Bounds of the state are no part of it."""
        names = [source.name for source in self.sources]
        return {"layout": LAYOUT, "fusion": self.config.fusion, "sources": names, "values": self.config.context_values}

    def sizes(self) -> dict[str, tuple[int, int]]:
        """What is held beside its bound, by name."""
        history, config = self.history, self.config
        sizes = {
            "users": (len(history.users), config.max_users),
            "items": (len(history.items), config.max_items),
            "event_cells": (history.windows.used, config.max_events),
            "profile_cells": (history.profiles.used, config.max_events),
            "erasures": (len(self.fold.erased), config.max_erasures),
        }
        sizes |= self.catalogue.sizes() | self.vectors.sizes() | self.ratings.sizes() | self.together.sizes()
        sizes |= self.reviewers.sizes() | self.fusion.sizes()
        for source in self.sources:
            sizes |= source.sizes()
        return sizes

    def ignored(self) -> dict[str, int]:
        """Events that were not learned, or have not taught (`*_pace`, see `models.pace`), and users forgotten because a bound was
        reached, by reason, since the start."""
        return self.fold.ignored | self.pace.held_back

    def _source(self, kind: type[_S]) -> _S | None:
        return next((source for source in self.sources if isinstance(source, kind)), None)


def _length(n: int) -> int:
    if not 1 <= n <= MAX_LIST:
        raise ValueError(f"n={n}: a list has 1 to {MAX_LIST} items")
    return n
