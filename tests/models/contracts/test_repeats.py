from __future__ import annotations

import math

from models import Click, Config, Purchase, Recommender
from models.habit import VOICE
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive


class TestRepeats(SourceContract):
    registered = "repeats"
    personal = False  # the suite asks for items that are new to the user: there are none; for repeats see below

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        return {}


def click(k: int, user: str, item: str) -> Click:
    return Click(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=k + 1)


def own(model: Recommender, user: str) -> dict[str, float]:
    query = model.asking.query(user, 10, repeats=True)
    union = model.asking.candidates(query, complete=True)
    names = [model.history.items.name(i) for i in union.items.tolist()]
    return dict(zip(names, union.scores[0].tolist(), strict=True))


def test_own_items_by_recency_and_root_of_count() -> None:
    model = Recommender(Config(sources=("repeats",), repeats_decay=0.5))
    for k, item in enumerate("aaabc"):
        model.learn(click(k, "ada", item))
    assert own(model, "ada") == {"a": math.sqrt(3) / 4, "b": 0.5, "c": 1.0}


def test_whether_people_come_back_is_learned() -> None:
    model = Recommender(Config(fusion="rrf"))
    for k in range(60):
        model.learn(click(k, f"u{k % 6}", f"i{k // 6}"))
    assert not model.asking.repeats
    assert "i9" not in {line.item_id for line in model.recommend("u0")}
    for k in range(60, 180):
        model.learn(click(k, f"u{k % 6}", f"i{k % 2}"))
    assert model.asking.repeats
    assert {"i0", "i1"} <= {line.item_id for line in model.recommend("u0")}


def test_buying_what_was_clicked_is_no_return() -> None:
    model = Recommender()
    for k in range(40):
        kind = Purchase if k % 2 else Click
        model.learn(kind(event_id=f"e{k}", user_id="ada", item_id=f"i{k // 2}", timestamp_ms=k + 1))
    assert model.habit.rate == 0.0
    assert model.habit.events == VOICE, "of 39"


def test_a_setting_overrules_the_habit() -> None:
    log = [click(k, f"u{k % 10}", "ab"[k // 10 % 2]) for k in range(200)]
    for setting, wanted in (("auto", True), ("never", False), ("always", True)):
        model = Recommender(Config(repeats=setting))  # type: ignore[arg-type]
        for event in log:
            model.learn(event)
        assert model.asking.repeats is wanted
