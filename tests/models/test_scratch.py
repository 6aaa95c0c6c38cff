"""What is remembered from one list to the next, to save work, never shows."""

from __future__ import annotations

import pytest

from models import Config, Recommender
from models.events import Event
from tests.models.snapshots_of import SMALL, background, read, written
from tests.models.state import full_state
from tests.models.streams_of import shop

PEOPLE, ITEMS = 30, 90


def log(seed: int, events: int) -> list[Event]:
    return shop(seed, users=PEOPLE, items=ITEMS, events=events)


def lists(model: Recommender) -> list[object]:
    people = [f"u{k}" for k in range(PEOPLE)]
    return [[model.lists(user, 10), model.recommend(user, 10)] for user in people] + [model.popular(10)]


@pytest.mark.parametrize("small", [False, True])
def test_what_was_asked_before_makes_no_difference(small: bool) -> None:
    config = Config(also=("rated_cf", "text_item_cf"), **SMALL if small else {})  # type: ignore[arg-type]
    asked, silent = Recommender(config), Recommender(config)
    for event in background(1, 12):
        asked.learn(event)
        silent.learn(event)
    for k, event in enumerate(log(1, 700)):
        asked.learn(event)
        silent.learn(event)
        if k % 100 == 50:
            lists(asked)
    assert full_state(asked) == full_state(silent)
    assert lists(asked) == lists(silent)


def test_what_was_known_before_a_restore_makes_no_difference() -> None:
    config = Config()
    saved, other = Recommender(config), Recommender(config)
    for event in [*background(2, 12), *log(2, 500)]:
        saved.learn(event)
    for event in [*background(3, 12), *log(3, 900)]:
        other.learn(event)
    lists(other)
    other.restore(read(written(saved))[1])
    assert full_state(saved) == full_state(other)
    assert lists(saved) == lists(other)
    for event in log(4, 100):
        saved.learn(event)
        other.learn(event)
    assert lists(saved) == lists(other)
