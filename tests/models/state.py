"""The whole state of a model as something that can be compared."""

from __future__ import annotations

import copy

import numpy as np

from models import Recommender
from models.sources.base import Query, Room, Source


def full_state(model: Recommender) -> dict[str, object]:
    """Everything that learning can change, by name (scratch arrays are not among it)."""
    state: dict[str, object] = {"digest": model.digest(), "sizes": model.sizes()}
    for path, value in model.save().items():
        state[path] = (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else copy.copy(value)
    return state


def scores(model: Recommender, source_name: str, user: str, k: int = 40) -> dict[str, float]:
    """What one source finds for a user: item -> score, the best first."""
    query = ask(model, user, k)
    union = model.asking.candidates(query, complete=False)
    place = [s.name for s in model.sources].index(source_name)
    count = int(union.counts[place])
    items, found = union.found_items[place, :count].tolist(), union.found_scores[place, :count].tolist()
    return {model.history.items.name(i): score for i, score in zip(items, found, strict=True)}


UNTOUCHED = -7
"""Stands in a room wherever nobody has written."""


def evidence(source: Source, query: Query, items: np.ndarray) -> Room:
    """What a source says of items, in a room with two rows to spare."""
    shape = (len(items) + 2, source.config.reasons_per_source)
    room = Room(*(np.full(shape, UNTOUCHED, dtype) for dtype in (np.float64, np.int32, np.int64, np.int32)))
    source.evidence(query, items, room)
    return room


def ask(model: Recommender, user: str | None, k: int = 40) -> Query:
    return model.asking.query(user, k)
