"""Scores that are read from where they lie, against those that each source gives when it is asked."""

from __future__ import annotations

import numpy as np
import pytest

from models import Config, Recommender
from models.gathering import Gathering
from tests.models.snapshots_of import SMALL, background, read, written
from tests.models.state import ask
from tests.models.streams_of import shop

PEOPLE, ITEMS = 30, 400


def compare(model: Recommender) -> int:
    """Everybody's candidates; returns how many scores are not 0."""
    held = 0
    for user in [*(f"u{k}" for k in range(PEOPLE)), "a stranger", None]:
        query = ask(model, user)
        union = model.asking.candidates(query, complete=True)
        for source, scores in zip(model.sources, union.scores, strict=True):
            out = np.full(union.n, np.nan)
            source.score(query, union.items, out)
            assert (out == scores).all(), source.name
            held += np.count_nonzero(out)
    return held


@pytest.mark.parametrize("bounds", [{}, SMALL])
def test_scores_are_those_of_the_sources_while_all_arrays_grow(bounds: dict[str, int]) -> None:
    model = Recommender(Config(also=("rated_cf", "text_item_cf"), **bounds))  # type: ignore[arg-type]
    for entry in background(1, 12):
        model.learn(entry)
    for k, event in enumerate(shop(1, users=PEOPLE, items=ITEMS, events=900)):
        model.learn(event)
        if k % 150 == 20:
            assert compare(model)
    spread = [source.name for source in model.sources if source.spread is not None]
    assert {"item_cf", "user_cf", "neighbours_close", "sequence", "proximity", "popularity", "item_cf_adjusted"} <= set(spread)


def test_what_a_snapshot_replaces_is_found_where_it_is_then() -> None:
    saved, other = Recommender(), Recommender()
    for event in shop(2, users=PEOPLE, items=ITEMS, events=500):
        saved.learn(event)
    for event in shop(3, users=PEOPLE, items=ITEMS, events=200):
        other.learn(event)
    assert compare(other)
    other.restore(read(written(saved))[1])
    assert compare(other) == compare(saved)


def test_scores_of_another_type_are_refused() -> None:
    model = Recommender(Config(sources=("popularity",)))
    (source,) = model.sources
    source.history.takers = source.history.takers.astype(np.int32)
    with pytest.raises(TypeError, match="popularity: scores of all items are float64 or int64"):
        Gathering(model.sources).gather(np.zeros(1, np.int32), 1, np.zeros((1, 1)))
