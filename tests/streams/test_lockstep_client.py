"""Both ends of the lock-step protocol together: what a stranger measures is what one process measures."""

from __future__ import annotations

import json

import pytest

from models import Config
from models.evaluation import Plan, Protocol, run
from models.evaluation.prequential import Query
from models.evaluation.subject import RecommenderSubject
from models.events import Click, Event, Item, Purchase, Review
from models.recommender import Recommender
from streams.lockstep import tolerant
from streams.lockstep_client import LockstepError, LockstepProcess, arguments, told
from tests.models.streams_of import shop

EVENTS: list[Event | Item] = [
    Click(event_id="1", user_id="a", item_id="x", timestamp_ms=1_500, session_id="s", context={"device": "phone"}),
    Purchase(event_id="2", user_id="a", item_id="y", timestamp_ms=2_000),
    Purchase(event_id="3", user_id="a", item_id="y", timestamp_ms=3_000, retracts="2"),
    Review(event_id="4", user_id="b", item_id="y", timestamp_ms=4_000, rating=2.5, text="well", title="so"),
    Item(item_id="z", title="a thing", description="of use", categories=["things"], available=False),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_arrives_as_it_was_told(event: Event | Item) -> None:
    assert tolerant(json.loads(json.dumps(told(event)))) == event


def test_the_command_line_says_what_differs_from_the_defaults() -> None:
    assert arguments(Config(), text=True) == []
    said = arguments(Config(fusion="rrf", half_lives_hours=(1.0, 2.5), without=("text",)), text=False)
    assert said == ["--no-text", "--set", "without=text", "--set", "half_lives_hours=1.0,2.5", "--set", "fusion=rrf"]


def test_lock_step_gives_the_lists_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are those that are given, not those of the environment."""
    monkeypatch.setenv("FRESHET_MODEL_CANDIDATES", "1")
    config = Config(sources=("item_cf", "popularity"), fusion="learned")
    plan = Plan(shop(3, 12, 20, 160), Protocol(warmup=0.2, repeats=False))
    with LockstepProcess(config, text=False) as process:
        outside = run(process, plan)
    inside = run(RecommenderSubject(Recommender(config), repeats=False), plan)
    assert (outside.ranks["fused"] == inside.ranks["fused"]).all()
    assert set(outside.ranks) == {"fused"}
    assert len(plan.scored) > 20


def test_a_process_that_ends_is_an_error() -> None:
    process = LockstepProcess(Config(), text=False)
    process._process.kill()
    process._process.wait()
    with pytest.raises(LockstepError, match="ended"), process:
        process.lists(Query("e", "click", "a", 1, None, None), 5)
