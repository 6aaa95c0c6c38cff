"""The replica's fold: a budget for training, foreign lines change nothing, repeated places are remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from models.events import Interaction, encode
from streams.learn import Budget, Learner
from streams.metrics import Metrics
from streams.settings import Settings


def line(k: int, event_id: str) -> Any:
    value = Interaction(kind="click", event_id=event_id, user_id="ada", item_id=f"i{k}", timestamp_ms=1 + k)
    return SimpleNamespace(key=b"ada", value=encode(value), offset=k, partition=0)


def test_the_budget_is_per_second_and_saves_up_one_second():
    budget = Budget(3)
    assert [budget.take(1_000) for _ in range(5)] == [True, True, True, False, False]
    assert [budget.take(1_700) for _ in range(3)] == [True, True, False], "0.7 s later there are two more"
    assert [budget.take(60_000) for _ in range(4)] == [True, True, True, False], "never more than a second's worth"
    assert not budget.take(59_000), "a clock that steps back gives nothing"


def test_events_beyond_the_budget_are_in_the_state_all_the_same():
    free, tight = (Learner(Settings.load({"FRESHET_TRAINING_PER_S": n}), Metrics()) for n in ("100000", "1"))
    for learner in (free, tight):
        learner.interactions(0, [line(k, f"e{k}") for k in range(30)])
    assert free.model.digest() == tight.model.digest()


def test_foreign_lines_and_repetitions_change_nothing():
    learner = Learner(Settings.load({}), Metrics())
    learner.interactions(0, [line(0, "e"), SimpleNamespace(key=None, value=b"what is this", offset=1, partition=0), line(2, "e")])
    assert not learner.is_repeated(0, 0)
    assert learner.is_repeated(0, 2)
    clean = Learner(Settings.load({}), Metrics())
    clean.interactions(0, [line(0, "e")])
    assert learner.model.digest() == clean.model.digest()
