"""Examples for a ranker come from the past alone; ranks and samples by hand."""

from __future__ import annotations

import math
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models import Config, Recommender, Review
from models.evaluation import Plan, Protocol
from models.events import Event, Item
from models.ranking_examples import NOT_OFFERED, Example, ranks, replay, split, thinned

CONFIG = Config(sources=("item_cf", "popularity"), fusion="weighted")


def log(events: int = 80) -> list[Event]:
    rng = random.Random(5)
    return [
        Review(
            event_id=f"e{k}", user_id=f"u{rng.randrange(6)}", item_id=f"i{rng.randrange(12)}", timestamp_ms=1000 + k, rating=5.0,
            text=f"said-{k}",
        )
        for k in range(events)
    ]  # fmt: skip


def test_examples_know_only_what_was_before_them() -> None:
    plan = Plan(log(), Protocol(warmup=0.2))
    shadow = Recommender(CONFIG)
    examples = replay(
        Recommender(CONFIG), plan, candidates=5, history=2, say=lambda event: event.text if isinstance(event, Review) else ""
    )
    assert len(examples) == len(plan.scored)
    rows = iter(examples)
    newest: dict[str, str] = {}
    taken: dict[str, list[str]] = {}
    offered = 0
    for k, event in enumerate(plan.events):
        own = taken.setdefault(event.user_id, [])
        if k in plan.scored:
            example = next(rows)
            lines = shadow.recommend(event.user_id, 5)
            places = [place for place, line in enumerate(lines) if line.item_id == event.item_id]
            assert example.taken == (places[0] if places else NOT_OFFERED)
            if places:
                offered += 1
                assert example.candidates == tuple(newest[line.item_id] for line in lines)
                assert example.scores == tuple(line.score for line in lines)
                assert example.query == "; ".join(newest[item] for item in own[::-1][:2])
            else:
                assert example.candidates == ()
        shadow.learn(event)
        newest[event.item_id] = f"said-{k}"
        if event.item_id in own:
            own.remove(event.item_id)
        own.append(event.item_id)
    assert offered > 5


def test_titles_of_the_catalogue_are_read() -> None:
    catalogue = [Item(item_id=f"i{k}", title=f"title-{k}") for k in range(12)]
    examples = replay(
        Recommender(CONFIG),
        Plan(log(), Protocol(warmup=0.5)),
        candidates=12,
        history=2,
        say=lambda event: "",
        catalogue=catalogue,
    )
    texts = {text for example in examples for text in example.candidates}
    assert texts
    assert texts <= {item.title for item in catalogue}


def test_parts_are_cut_in_the_order_of_time() -> None:
    examples = [Example(k, NOT_OFFERED) for k in range(11)]
    assert [[e.user for e in part] for part in split(examples, (0.6, 0.15, 0.25))] == [list(range(7)), [7], [8, 9, 10]]


def test_samples_are_in_order_and_as_large_as_allowed() -> None:
    examples = [Example(k, 0, "q", ("a", "b"), (0.6, 0.4)) if k % 2 else Example(k, NOT_OFFERED) for k in range(200)]
    assert thinned(examples, 100) == examples
    some = thinned(examples, 40)
    assert sum(example.usable for example in some) == 40
    assert 60 < len(some) < 100  # as many of the others, give or take
    assert [example.user for example in some] == sorted(example.user for example in some)
    assert thinned(examples, 40) == some
    assert thinned(examples, 40, seed=2) != some


def test_ranks_by_hand() -> None:
    # log .4 = -.916 and log .3 + .7 = -.504, twice: the second and third are level
    level = [Example(0, taken, "q", ("a", "b", "c"), (0.4, 0.3, 0.3)) for taken in (0, 1, 2)]
    scores = np.array([0.0, 0.7, 0.7])
    assert ranks([*level, Example(0, NOT_OFFERED), level[1]], [scores] * 3 + [None] * 2, 1.0).tolist() == [2, 0, 1, -1, 1]
    assert ranks(level, [np.array([5.0, 5.0, 6.0])] * 3, 1.0, fused=False).tolist() == [1, 2, 0]
    assert ranks(level, [scores] * 3, 0.0).tolist() == [0, 1, 2]


@given(st.lists(st.tuples(st.floats(0.01, 1), st.integers(-2, 2)), min_size=2, max_size=8), st.floats(0, 3), st.data())
def test_ranks_agree_with_sorting(pairs: list[tuple[float, int]], weight: float, data: st.DataObject) -> None:
    fused = tuple(sorted((score for score, _ in pairs), reverse=True))
    own = np.array([float(f) for _, f in pairs])
    taken = data.draw(st.integers(0, len(pairs) - 1))
    value = [math.log(score) + weight * f for score, f in zip(fused, own.tolist(), strict=True)]
    order = sorted(range(len(pairs)), key=lambda k: (-value[k], k))
    example = Example(0, taken, "q", tuple("x" * len(pairs)), fused)
    (found,) = ranks([example], [own], weight).tolist()
    level = [k for k in range(len(pairs)) if abs(value[k] - value[taken]) < 1e-12]  # log of numpy and of math may differ in a bit
    assert order[found] in level
