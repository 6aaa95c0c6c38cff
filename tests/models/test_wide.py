"""In large catalogues kernels go other ways: they ask ahead for what lies all over the memory, and look at less of it."""

from __future__ import annotations

import numpy as np

from models import Config, Recommender
from models.rows import grown
from tests.models.streams_of import shop

PEOPLE, ITEMS = 140, 600
ROOM = 80_000
"""Rows of arrays that are too large to be at hand."""


def widened(model: Recommender) -> Recommender:
    """The same model, with place for many more people and items."""
    history = model.history
    for pool in (history.windows, history.profiles):
        pool.rows_for(ROOM)
        pool.move_together(ROOM)
    history.item_events, history.takers = grown(history.item_events, ROOM), grown(history.takers, ROOM)
    history.inverse_root = grown(history.inverse_root, ROOM)
    history.users_of.ensure(ROOM)
    history._slot = np.full(ROOM, -1, np.int32)
    model.fold.ensure()
    assert all(len(place) >= ROOM for place in (model.asking._seen, history.profiles.data, history.profiles.rows))
    return model


def both(**parameters: object) -> tuple[Recommender, Recommender]:
    config = Config(**parameters)  # type: ignore[arg-type]
    narrow, wide = Recommender(config), widened(Recommender(config))
    for event in shop(4, PEOPLE, ITEMS, 5_000):
        narrow.learn(event)
        wide.learn(event)
    return narrow, wide


def test_lists_do_not_depend_on_how_much_room_there_is() -> None:
    narrow, wide = both(candidates=20)
    assert narrow.digest() == wide.digest()
    for user in range(PEOPLE):
        assert narrow.recommend(f"u{user}", 20) == wide.recommend(f"u{user}", 20)
        assert narrow.lists(f"u{user}", 20) == wide.lists(f"u{user}", 20)


def test_the_lists_of_all_people_are_long_enough_to_be_cut() -> None:
    """Else the test above would prove little: every source that adds up touches many times what it lists."""
    _, wide = both(candidates=20)
    wide.recommend("u1", 20)
    by_name = {source.name: source for source in wide.sources}
    assert by_name["item_cf"]._scratch.count[0] > 4 * 20  # type: ignore[attr-defined]
    assert by_name["user_cf"].peers._count > 4 * 20  # type: ignore[attr-defined]
    assert by_name["sequence"].order.count > 4 * 20  # type: ignore[attr-defined]
