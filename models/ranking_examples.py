"""Examples for training a ranker: what a user's list offered, and which of it they took. One pass over a log, test then learn, so
that neither candidates nor texts know anything of what comes later.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.evaluation.metrics import MISS
from models.evaluation.plan import Plan
from models.events import Event, Item, ItemVector, ReviewVector
from models.recommender import Recommender
from models.text_ranking import ItemTexts, recent

NOT_OFFERED: Final = MISS


class Example(Struct, frozen=True):
    """A tested event. What was not offered has no texts: no order of the candidates can make a hit of it."""

    user: int
    """Number of the user, from 0 in the order of the log."""
    taken: int
    """Place of what was taken in the fused list (0 is the first), or `NOT_OFFERED`."""
    query: str = ""
    candidates: tuple[str, ...] = ()
    """Texts in the fused order."""
    scores: tuple[float, ...] = ()
    """Fused scores, above 0."""

    @property
    def usable(self) -> bool:
        """Whether a ranker could say anything about it: what was taken was offered, and there is text to go by."""
        return self.taken != NOT_OFFERED and bool(self.query) and sum(map(bool, self.candidates)) > 1


def replay(
    model: Recommender,
    plan: Plan,
    *,
    candidates: int,
    history: int,
    say: Callable[[Event], str],
    vectors: Callable[[Event | Item], Sequence[ItemVector | ReviewVector]] | None = None,
    catalogue: Iterable[Item] = (),
    progress: Callable[[int], None] | None = None,
) -> list[Example]:
    """An example for each scored event of the plan, in order.

    The best `candidates` of the fused list are offered; the query is made of the user's newest `history` items. `say` gives the
    line about its item that an event brings (empty: none), `vectors` those that its words change. Memory: the texts of all
    lists in which what was taken was offered.
    """
    texts, numbers = ItemTexts(), dict[str, int]()
    out: list[Example] = []

    def learn(event: Event | Item) -> None:
        model.learn(event)
        for changed in vectors(event) if vectors is not None else ():
            model.learn(changed)  # after the event: the fusion must not be taught with what the event itself says

    for item in catalogue:
        texts.entry(item)
        learn(item)
    for k, event in enumerate(plan.events):
        if k in plan.scored:
            out.append(_example(model, event, texts, numbers.setdefault(event.user_id, len(numbers)), candidates, history))
        learn(event)
        line = say(event)
        if line:
            texts.say(event.item_id, line)
        if progress is not None:
            progress(k + 1)
    return out


def _example(model: Recommender, event: Event, texts: ItemTexts, user: int, candidates: int, history: int) -> Example:
    lines = model.recommend(event.user_id, candidates, context=event.context)
    taken = next((place for place, line in enumerate(lines) if line.item_id == event.item_id), NOT_OFFERED)
    if taken == NOT_OFFERED:
        return Example(user, taken)
    return Example(
        user,
        taken,
        texts.query(recent(model.history, event.user_id, history)),
        tuple(texts.of(line.item_id) for line in lines),
        tuple(line.score for line in lines),
    )


def split(examples: Sequence[Example], shares: Sequence[float]) -> list[list[Example]]:
    """The examples cut in the order of time into parts of these shares (which sum to 1)."""
    ends = [round(len(examples) * sum(shares[: k + 1])) for k in range(len(shares))]
    return [list(examples[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def thinned(examples: Sequence[Example], usable: int, seed: int = 1) -> list[Example]:
    """A random sample in the order of time, as large as it can be with at most `usable` examples that can be ranked."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    count = 0
    for end, k in enumerate(order):
        count += examples[k].usable
        if count > usable:
            order = order[:end]
            break
    return [examples[k] for k in sorted(order)]


def ranks(
    examples: Sequence[Example], scores: Sequence[npt.NDArray[np.float64] | None], weight: float, *, fused: bool = True
) -> npt.NDArray[np.int32]:
    """(n,): the place of what was taken, in the order by log(fused score) + weight * ranker score (without `fused`: by the ranker
    alone), equal ones in the fused order; `MISS` where it was not offered. `scores` None: the fused order."""
    out = np.full(len(examples), MISS, np.int32)
    for k, (example, score) in enumerate(zip(examples, scores, strict=True)):
        if score is None or example.taken == NOT_OFFERED:
            out[k] = example.taken
            continue
        value = weight * score + (np.log(np.maximum(example.scores, 1e-300)) if fused else 0.0)
        mine = value[example.taken]
        out[k] = int((value > mine).sum() + (value[: example.taken] == mine).sum())
    return out
