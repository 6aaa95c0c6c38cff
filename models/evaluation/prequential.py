"""One pass over a log: ask first, then learn. Every source of a recommender and the fused list are tested in the same pass."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.evaluation.metrics import MISS, CategoryDiversity, Exposure, RatingErrors, VectorDiversity
from models.evaluation.plan import COLD, Plan, kind_of
from models.events import Event, Item, ItemVector, Review, ReviewVector

FUSED: Final = "fused"


class Query(Struct, frozen=True):
    """What may be known before an event: everything but its item, rating and text."""

    event_id: str
    kind: str
    user_id: str
    timestamp_ms: int
    session_id: str | None
    context: dict[str, str] | None


class Subject(typing.Protocol):
    """What is evaluated. `lists` and `predict` only read."""

    def lists(self, query: Query, n: int) -> Mapping[str, Sequence[str]]:
        """The best `n` item ids by name of the source; `fused` is the product's own list."""

    def predict(self, user_id: str, item_id: str) -> float | None:
        """The expected rating, 1..5; None if the subject predicts none."""

    def learn(self, event: Event | Item | ItemVector | ReviewVector) -> None:
        """Take the event in."""


class Evaluation:
    """What a pass has measured. Arrays have one row per scored event, so the size is that of the log."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        count = len(plan.scored)
        self.ranks: dict[str, npt.NDArray[np.int32]] = {}
        self.exposure: dict[str, Exposure] = {}
        self.ratings = RatingErrors()
        self.items = plan.items
        """Distinct items of the log and of the catalogue."""
        self.users: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self.user_events: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self.item_events: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self._count = count

    def add(self, row: int, source: str, items: Sequence[str], target: str) -> list[str]:
        """Count one list (shortened to N distinct items, returned)."""
        if source not in self.ranks:
            self.ranks[source] = np.full(self._count, MISS, np.int32)
            self.exposure[source] = Exposure()
        shown = list(dict.fromkeys(items))[: self.plan.protocol.n]
        if target in shown:
            self.ranks[source][row] = shown.index(target)
        return shown

    def segment(self, name: str) -> npt.NDArray[np.bool_]:
        """The rows of a segment, one of `SEGMENTS`."""
        return SEGMENTS[name](self.user_events, self.item_events)


_Count = npt.NDArray[np.int64]
SEGMENTS: Final[dict[str, Callable[[_Count, _Count], npt.NDArray[np.bool_]]]] = {
    "all": lambda user, item: user >= 0,
    "reachable": lambda user, item: item > 0,
    "first event": lambda user, item: user == 0,
    "cold user": lambda user, item: user < COLD,
    "warm user": lambda user, item: user >= COLD,
    "new item": lambda user, item: item == 0,
    "cold item": lambda user, item: (item > 0) & (item < COLD),
    "warm item": lambda user, item: item >= COLD,
}
"""Segments of scored events by the past events of their user and of their item (never seen items cannot be hit)."""


def run(
    subject: Subject,
    plan: Plan,
    *,
    catalogue: Iterable[Item] = (),
    text: Callable[[Event | Item], Sequence[ItemVector | ReviewVector]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Replay the plan's events through the subject.

    `catalogue` is learned first. `text` gives the vectors that an event's words change, learned just after the event (a model
    that tests itself before it learns must not have read the review it is tested on). Diversity is over the categories of the
    catalogue, or over vectors where no item has categories. `progress` is told the number of events done.
    """
    result = Evaluation(plan)
    categories, vectors = CategoryDiversity(), VectorDiversity()
    diversity: Callable[[Sequence[str]], float | None] = vectors.of
    hear = _Listener(subject, text, vectors)
    known = {event.item_id for event in plan.events}
    for item in catalogue:
        known.add(item.item_id)
        hear.learn(item)
        if item.categories:
            categories.learn(item.item_id, item.categories)
            diversity = categories.of
    result.items = len(known)
    popularity: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    row = 0
    for k, event in enumerate(plan.events):
        if k in plan.scored:
            _score(result, row, subject, k, numbers, popularity, diversity)
            row += 1
        if isinstance(event, Review) and event.rating is not None:
            _rate(result, subject, event, tested=k >= plan.warmup)
        hear.learn(event)
        popularity[event.item_id] += 1
        if progress is not None:
            progress(k + 1)
    return result


class _Listener:
    """Teaches the subject an event and the vectors that come of its words; keeps the vectors for measuring diversity."""

    def __init__(
        self,
        subject: Subject,
        text: Callable[[Event | Item], Sequence[ItemVector | ReviewVector]] | None,
        vectors: VectorDiversity,
    ) -> None:
        self._subject, self._text, self._vectors = subject, text, vectors

    def learn(self, event: Event | Item) -> None:
        self._subject.learn(event)
        for vector in self._text(event) if self._text is not None else ():
            self._subject.learn(vector)
            if isinstance(vector, ItemVector):
                self._vectors.learn(vector.item_id, np.frombuffer(vector.vector, "<f4"))


def _score(
    result: Evaluation, row: int, subject: Subject, k: int, numbers: dict[str, int], popularity: Counter[str],
    diversity: Callable[[Sequence[str]], float | None],
) -> None:  # fmt: skip
    """Ask for the lists of event `k` and count them."""
    event, known, n = result.plan.events[k], result.plan.scored[k], result.plan.protocol.n
    query = Query(event.event_id, kind_of(event), event.user_id, event.timestamp_ms, event.session_id, event.context)
    result.users[row] = numbers.setdefault(event.user_id, len(numbers))
    result.user_events[row] = known.user_events
    result.item_events[row] = known.item_events
    for source, items in subject.lists(query, n).items():
        shown = result.add(row, source, items, event.item_id)
        result.exposure[source].add(shown, n, popularity, k, diversity(shown))


def _rate(result: Evaluation, subject: Subject, event: Review, *, tested: bool) -> None:
    """Compare the predicted rating with the given one (`tested`: after the warm-up), and teach the constants."""
    assert event.rating is not None
    if tested and (predicted := subject.predict(event.user_id, event.item_id)) is not None:
        result.ratings.test(event.rating, predicted)
    result.ratings.learn(event.rating)
