"""Explanations against what follows, one line and one source at a time, from what each source says of one item."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models import Config, Recommender
from models.explain import LEAST, MORE
from models.newcomers import NOTE
from models.sources.base import Query, Room
from tests.models.snapshots_of import background
from tests.models.state import ask, evidence
from tests.models.streams_of import shop

Reason = tuple[str, str | None, str | None]
"""Kind, item and text: what makes reasons the same."""

PEOPLE, ITEMS = 12, 60


def said(model: Recommender, query: Query, item: int, shares: dict[str, float], score: float) -> dict[Reason, tuple[float, int]]:
    """All reasons for an item: their parts of the score and their numbers, of several sources that say the same the largest."""
    reasons: dict[Reason, tuple[float, int]] = {}
    for source in model.sources:
        share, grounds = shares.get(source.name, 0.0), source.grounds
        if share <= 0.0 or share < LEAST * score:
            continue
        room = evidence(source, query, np.array([item], np.int32))
        fractions = room.fraction[0].tolist() if grounds.pieces else [1.0]
        for e, fraction in enumerate(fractions):
            if fraction <= 0.0:
                continue
            about = int(room.item[0, e]) if grounds.item else -1
            number = int(room.number[0, e]) if grounds.number else -1
            text = source.said(int(room.text[0, e])) if grounds.text else grounds.common
            key = (grounds.kind, model.history.items.name(about) if about >= 0 else None, text)
            weight, known = reasons.get(key, (0.0, -1))
            reasons[key] = (weight + share * fraction, max(known, number))
    return reasons


def model_of(seed: int, **parameters: object) -> Recommender:
    """Of a shop in which there is something to say for every source."""
    model = Recommender(Config(also=("rated_cf", "text_item_cf"), **parameters))  # type: ignore[arg-type]
    for entry in background(seed, ITEMS):
        model.learn(entry)
    for event in shop(seed, users=PEOPLE, items=ITEMS, events=500):
        model.learn(event)
    return model


@pytest.mark.parametrize("most", [1, 5, 64])
@pytest.mark.parametrize("per_source", [1, 3])
@pytest.mark.parametrize("fusion", ["learned", "rrf", "weighted"])
def test_the_weightiest_reasons_are_named_and_the_rest_is_more(fusion: str, per_source: int, most: int) -> None:
    model = model_of(7, fusion=fusion, reasons_per_source=per_source, reasons_per_item=most)
    small = kinds = 0
    for user in [*(f"u{k}" for k in range(PEOPLE)), None]:
        lines = model.recommend(user, 15) if user is not None else model.popular(15)
        query = ask(model, user)
        model.asking.candidates(query, complete=True)
        for line in lines:
            wanted = said(model, query, model.history.items.get(line.item_id), line.sources, line.score)
            named = [why for why in line.reasons if why.kind not in (MORE, NOTE)]
            assert len(named) == min(most, len(wanted))
            assert [why.weight for why in named] == sorted((why.weight for why in named), reverse=True)
            for why in named:
                weight, number = wanted.pop((why.kind, why.item_id, why.text))
                assert why.weight == pytest.approx(weight, rel=1e-6), "some sources add up float32"
                assert (-1 if why.count is None else why.count) == number
            assert all(weight <= named[-1].weight * (1 + 1e-6) for weight, _ in wanted.values()), "none left is weightier"
            rest = [why.weight for why in line.reasons if why.kind == MORE]
            assert sum(rest) == pytest.approx(line.score - sum(why.weight for why in named), abs=1e-12)
            small += any(share < LEAST * line.score for share in line.sources.values())
            kinds = max(kinds, len({why.kind for why in named}))
    assert kinds > 2 or most == 1
    assert small or fusion == "weighted", "some sources have too small a part to be asked"


def test_a_list_longer_than_any_before_is_explained_alike() -> None:
    model = model_of(8)
    short = model.recommend("u1", 10)
    assert len(model.recommend("u1", 50)) > 32, "more lines than there is room for at first"
    assert model.recommend("u1", 10) == short


def test_of_reasons_of_the_same_weight_those_that_came_first_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(9, reasons_per_source=4, reasons_per_item=3)
    source = next(one for one in model.sources if one.name == "item_cf")

    def alike(query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        room.fraction[: len(items)] = 0.25
        room.item[: len(items)] = [8, 3, 5, 4]
        room.number[: len(items)] = 1

    monkeypatch.setattr(source, "evidence", alike)
    shares = np.zeros((len(model.sources), 2))
    shares[model.sources.index(source)] = 0.5
    for line in model.explainer.explained(np.array([1, 2], np.int32), shares, ask(model, "u1")):
        named = [(why.item_id, why.weight) for why in line.reasons if why.kind != MORE]
        assert named == [(model.history.items.name(item), 0.125) for item in (8, 3, 5)]
