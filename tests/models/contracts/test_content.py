from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest

from models import Click, Config, Item, Recommender
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.state import evidence, scores

CATEGORIES = {f"i{k}": [f"c{k % 2}", f"d{k % 3}", f"e{k}"][: 1 + k % 3] for k in range(20)}


class TestContent(SourceContract):
    registered = "content"

    def background(self) -> Iterable[Item]:
        return [Item(item_id=item, categories=names) for item, names in CATEGORIES.items()]

    def test_an_empty_model_finds_nothing(self) -> None:
        assert scores(self.model(), "content", "nobody") == {}

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        listed = defaultdict(list)
        for item, names in CATEGORIES.items():
            for name in names:
                listed[name].append(item)
        total = sum(map(len, listed.values()))
        affinity: dict[str, float] = defaultdict(float)
        for age, (j, weight) in enumerate(naive.profile(user)[::-1][:20]):
            for name in CATEGORIES.get(j, []):
                part = naive.config.content_decay**age * weight / math.sqrt(len(CATEGORIES[j]))
                affinity[name] += part * math.log(1 + total / len(listed[name]))
        return {i: sum(affinity[n] for n in names) / math.sqrt(len(names)) for i, names in CATEGORIES.items()}


def test_an_item_that_nobody_has_touched_is_found_by_its_category() -> None:
    model = Recommender(Config(fusion="rrf"))
    model.learn(Item(item_id="novel", categories=["books"]))
    model.learn(Item(item_id="drill", categories=["tools"]))
    model.learn(Click(event_id="e", user_id="ada", item_id="dune", timestamp_ms=1))
    assert scores(model, "content", "ada") == {}
    model.learn(Item(item_id="dune", categories=["books"]))
    assert list(scores(model, "content", "ada")) == ["novel"]
    [line] = [line for line in model.recommend("ada") if line.item_id == "novel"]
    assert [(why.kind, why.text) for why in line.reasons] == [("category", "books")]


def test_an_item_that_changes_category_is_no_longer_in_the_old_one() -> None:
    model = Recommender()
    model.learn(Click(event_id="e", user_id="ada", item_id="dune", timestamp_ms=1))
    for entry in (("dune", "books"), ("novel", "books"), ("novel", "films")):
        assert model.learn(Item(item_id=entry[0], categories=[entry[1]]))
    assert not model.learn(Item(item_id="novel", categories=["films"])), "the same again"
    assert scores(model, "content", "ada") == {}


def test_a_category_remembers_its_newest_items() -> None:
    model = Recommender(Config(category_items=16))
    model.learn(Click(event_id="e", user_id="ada", item_id="dune", timestamp_ms=1))
    for k in range(40):
        model.learn(Item(item_id=f"i{k}", categories=["books"]))
    model.learn(Item(item_id="dune", categories=["books"]))
    assert set(scores(model, "content", "ada")) == {f"i{k}" for k in range(25, 40)}


def test_the_strongest_categories_are_named_the_first_by_key_of_equals() -> None:
    model = Recommender()
    for k in range(3):
        model.learn(Item(item_id=f"b{k}", categories=["books"]))
    model.learn(Item(item_id="dune", categories=["rare", "books", "films", "plays", "songs"]))
    model.learn(Item(item_id="novel", categories=["songs", "plays", "books", "films", "rare"]))
    model.learn(Click(event_id="e0", user_id="ada", item_id="b0", timestamp_ms=1))
    model.learn(Click(event_id="e1", user_id="ada", item_id="dune", timestamp_ms=2))
    (source,) = (one for one in model.sources if one.name == "content")
    query = model.asking.query("ada", 5)
    model.asking.candidates(query, complete=False)
    room = evidence(source, query, np.array([model.history.items.get("novel"), model.history.items.get("b1")], np.int32))
    affinity, keys = source._affinity.score, model.catalogue.categories.keys  # type: ignore[attr-defined]
    named = {name: model.catalogue.categories.get(name) for name in ("books", "films", "plays", "songs", "rare")}
    order = sorted(named, key=lambda name: (-affinity[named[name]], keys[named[name]]))
    assert affinity[named["films"]] == affinity[named["songs"]] > 0.0, "some are equal"
    assert room.text[:2].tolist() == [[named[name] for name in order[:2]], [named["books"], -1]]
    assert [source.said(place) for place in room.text[0].tolist()] == order[:2]
    total = sum(affinity[place] for place in named.values())
    assert room.fraction[0] == pytest.approx([affinity[named[name]] / total for name in order[:2]])
    assert room.fraction[1].tolist() == [1.0, 0.0]
