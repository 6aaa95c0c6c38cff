"""The replica's fold: a budget for training, foreign lines change nothing, repeated places are remembered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from models.events import Interaction, encode
from models.fusion_learned import Learned
from models.sources.embedding import Embedding
from streams import clock
from streams.learn import Budget, Learner
from streams.metrics import Metrics, size_families
from streams.settings import Settings


def line(k: int, event_id: str, age_ms: int = 0) -> Any:
    value = Interaction(kind="click", event_id=event_id, user_id="ada", item_id=f"i{k}", timestamp_ms=1 + k)
    return SimpleNamespace(key=b"ada", value=encode(value), offset=k, partition=0, timestamp=clock.now_ms() - age_ms)


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


def steps(age_ms: int, *, caught_up: bool = True, behind_ms: int = 0) -> int:
    """On how many of 60 events, all of that age, the fusion has been tested."""
    learner = Learner(Settings.load({"FRESHET_TRAINING_PER_S": "200"}), Metrics())
    learner.caught_up, learner.behind_ms = lambda: caught_up, behind_ms
    learner.interactions(0, [line(k, f"e{k}", age_ms) for k in range(60)])
    fusion = learner.model.fusion
    assert isinstance(fusion, Learned)
    return fusion.new.tested + fusion.again.tested


def test_late_events_are_hardly_trained_on():
    """So that a worker that is behind catches up."""
    assert steps(0) > 2 * steps(60_000) > 0
    assert steps(60_000, caught_up=False) == steps(0), "an old log is no reason for haste"
    assert steps(0, behind_ms=60_000) == steps(60_000), "events are folded in time, but their lists go out late"


def test_of_late_events_the_embedding_learns_nothing_again():
    prompt, old, late = embedded(0, caught_up=True), embedded(60_000, caught_up=False), embedded(60_000, caught_up=True)
    assert prompt.model.digest() == late.model.digest()
    assert np.array_equal(vectors(prompt), vectors(old))
    assert not np.array_equal(vectors(prompt), vectors(late))


def test_beyond_the_budget_the_embedding_learns_nothing_again_either():
    tight, late = embedded(0, caught_up=True, budget="1"), embedded(60_000, caught_up=True)
    free, old = embedded(0, caught_up=True), embedded(60_000, caught_up=False, budget="1")
    assert tight.model.digest() == free.model.digest()
    assert not np.array_equal(vectors(tight), vectors(late)), "after the first it has learned earlier ones again"
    assert not np.array_equal(vectors(tight), vectors(free))
    assert np.array_equal(vectors(old), vectors(free)), "an old log is learned as if there were all the time in the world"


def embedded(age_ms: int, *, caught_up: bool, budget: str = "200") -> Learner:
    """An embedding that has learned from 60 events, all of that age."""
    learner = Learner(Settings.load({"FRESHET_MODEL_SOURCES": "embedding", "FRESHET_TRAINING_PER_S": budget}), Metrics())
    learner.caught_up = lambda: caught_up
    learner.interactions(0, [line(k, f"e{k}", age_ms) for k in range(60)])
    return learner


def vectors(learner: Learner) -> Any:
    return next(source.out for source in learner.model.sources if isinstance(source, Embedding))


def test_foreign_lines_and_repetitions_change_nothing():
    learner = Learner(Settings.load({}), Metrics())
    learner.interactions(0, [line(0, "e"), SimpleNamespace(key=None, value=b"what is this", offset=1, partition=0), line(2, "e")])
    assert not learner.is_repeated(0, 0)
    assert learner.is_repeated(0, 2)
    clean = Learner(Settings.load({}), Metrics())
    clean.interactions(0, [line(0, "e")])
    assert learner.model.digest() == clean.model.digest()


def test_what_is_switched_off_has_no_size():
    """A share of a bound of 0 is no number, and a panel would be empty."""
    learner = Learner(Settings.load({"FRESHET_MODEL_PERSONAL_USERS": "0"}), Metrics())
    assert learner.sizes()["personal_users"] == (0, 0)
    used, bound = size_families(learner.sizes())
    parts = [sample.labels["part"] for sample in used.samples]
    assert "users" in parts
    assert "personal_users" not in parts
    assert parts == [sample.labels["part"] for sample in bound.samples]
    assert all(sample.value > 0 for sample in bound.samples)
