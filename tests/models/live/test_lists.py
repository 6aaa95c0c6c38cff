"""Live tests are the evaluation's: the same events, the same ranks; and a list made after an event never answers for it."""

from __future__ import annotations

import math
import random

import pytest

from models import Config, Recommender
from models.attribution import ServedLists
from models.evaluation import Plan, Protocol, run
from models.evaluation.metrics import CategoryDiversity, VectorDiversity, rank_metrics
from models.evaluation.subject import RecommenderSubject
from models.events import POPULAR, CausedBy, Click, Event, Interaction, Item, ItemVector, RecommendationList, Recommended, Review
from models.live.lists import MISS, ListTests, gain, rank_in


def a_log(n: int = 400) -> list[Event]:
    """Clicks and reviews, good and bad, by people who come back to what they had."""
    rng = random.Random(5)
    log: list[Event] = []
    for k in range(n):
        user, item = f"u{rng.randrange(12)}", f"i{min(rng.randrange(30), rng.randrange(30))}"
        common = {"event_id": f"e{k}", "user_id": user, "item_id": item, "timestamp_ms": 1_000 + k}
        log.append(Review(rating=float(rng.randint(1, 5)), text="t", **common) if k % 3 == 0 else Click(**common))
    return log


@pytest.mark.parametrize("repeats", ["never", "always"])
def test_what_is_tested_and_found_is_what_evaluation_tests_and_finds(repeats: str) -> None:
    """The evaluation harness over the log is the slow twin."""
    log, n = a_log(), 5
    good = Config().positive_rating
    plan = Plan(log, Protocol(n=n, warmup=0.0, repeats=repeats == "always", min_rating=good))
    slow = run(RecommenderSubject(Recommender(Config(repeats=repeats))), plan)  # type: ignore[arg-type]
    model = Recommender(Config(repeats=repeats))  # type: ignore[arg-type]
    tests = ListTests(model, ServedLists(), n)
    ranks: dict[str, list[int]] = {}
    tested = []
    for k, event in enumerate(log):
        line = Interaction.of(event)
        if tests.is_test(line):
            tested.append(k)
            for source, rank in tests.of_sources(line).items():
                ranks.setdefault(source, []).append(rank)
        model.learn(event)
    assert tested == list(plan.scored)
    assert {source: list(found) for source, found in slow.ranks.items()} == ranks
    fused = rank_metrics(slow.ranks["fused"], slow.users, n)
    assert fused is not None
    assert fused.hr.mean > 0.1, "something is found at all"
    assert sum(map(gain, ranks["fused"])) / len(tested) == pytest.approx(fused.ndcg.mean)


def test_testing_changes_nothing() -> None:
    log = a_log(200)
    plain, tested = Recommender(), Recommender()
    tests = ListTests(tested, ServedLists(), 5)
    for event in log:
        if tests.is_test(Interaction.of(event)):
            tests.of_sources(Interaction.of(event))
        plain.learn(event)
        tested.learn(event)
    assert plain.digest() == tested.digest()
    assert plain.lists("u1", 10) == tested.lists("u1", 10)


def test_gain_is_that_of_the_formula() -> None:
    assert [gain(rank) for rank in (0, 1, 2, MISS)] == [1.0, 1 / math.log2(3), 0.5, 0.0]
    assert rank_in(("a", "b"), "b") == 1
    assert rank_in((), "b") == MISS


# ------------------------------------------------------------------------------------------------ the list that was out
def served(user: str, items: str, offset: int, list_id: str = "") -> RecommendationList:
    return RecommendationList(
        user_id=user, list_id=list_id or f"{user}{offset}", generated_at_ms=0, log_offset=offset,
        caused_by=CausedBy(event_id="e", timestamp_ms=0), arm="a",
        items=[Recommended(item_id=i, rank=k, score=1.0, sources={}, reasons=[]) for k, i in enumerate(items, 1)],
    )  # fmt: skip


def line(user: str, item: str) -> Interaction:
    return Interaction(kind="click", event_id="e", user_id=user, item_id=item, timestamp_ms=1)


def test_the_newest_list_of_an_earlier_cause_was_out() -> None:
    lists = ServedLists()
    for offset, items in ((3, "ab"), (7, "bc"), (9, "cd")):
        lists.put(served("ada", items, offset))
    tests = ListTests(Recommender(), lists, 10)
    assert tests.of_served(line("ada", "c"), 8) == 1, "the list of 7; that of 9 was made of later events"
    assert tests.of_served(line("ada", "c"), 10) == 0
    assert tests.of_served(line("ada", "a"), 7) == 0, "read again, an event does not meet the list it has caused"
    assert tests.of_served(line("ada", "z"), 10) == MISS
    assert tests.of_served(line("ada", "a"), 2) is None, "nothing was out yet"


def test_strangers_had_the_strangers_list_and_only_n_places_count() -> None:
    lists = ServedLists()
    tests = ListTests(Recommender(), lists, 2)
    assert tests.of_served(line("bob", "a"), 5) is None
    lists.put(served(POPULAR, "xyz", 100))
    assert tests.of_served(line("bob", "y"), 5) == 1
    assert tests.of_served(line("bob", "z"), 5) == MISS, "the third of two"
    lists.put(served("bob", "q", 4))
    assert tests.of_served(line("bob", "y"), 5) == MISS, "bob has a list of his own by now"


def test_good_reviews_are_tests_and_bad_ones_are_not() -> None:
    tests = ListTests(Recommender(), ServedLists(), 10)
    base = {"kind": "review", "event_id": "e", "user_id": "ada", "item_id": "x", "timestamp_ms": 1}
    good = Config().positive_rating
    assert tests.is_test(Interaction(rating=good, **base))  # type: ignore[arg-type]
    assert not tests.is_test(Interaction(rating=good - 0.5, **base))  # type: ignore[arg-type]
    for kind in ("retraction", "erasure"):
        assert not tests.is_test(Interaction(kind=kind, event_id="e", user_id="ada", item_id="x", timestamp_ms=1))


# ------------------------------------------------------------------------------------------------ diversity
def test_diversity_by_categories_is_the_evaluations() -> None:
    model, slow = Recommender(), CategoryDiversity()
    for name, categories in {"a": ["x", "y"], "b": ["y"], "c": ["z"], "d": []}.items():
        model.learn(Item(item_id=name, categories=categories))
        slow.learn(name, categories)
    tests = ListTests(model, ServedLists(), 10)
    for items in (["a", "b", "c", "d"], ["a", "b"], ["a"], ["d", "c"], ["never-heard-of", "a", "c"]):
        assert tests.diversity(items) == pytest.approx(slow.of(items)), items


def test_diversity_by_vectors_is_one_minus_the_mean_cosine_of_the_centred() -> None:
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(3)
    vectors = {name: rng.normal(size=8).astype("<f4") for name in "abcd"}
    vectors = {name: (v / np.linalg.norm(v)).astype("<f4") for name, v in vectors.items()}
    model = Recommender()
    for name, vector in vectors.items():
        model.learn(ItemVector(item_id=name, vector=vector.tobytes(), texts=1, model="m"))
    mean = np.mean(list(vectors.values()), axis=0)
    slow = VectorDiversity()
    centred = {name: v - mean for name, v in vectors.items()}
    for name, vector in centred.items():
        slow.learn(name, vector)
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    cosines = [centred[x] @ centred[y] / np.linalg.norm(centred[x]) / np.linalg.norm(centred[y]) for x, y in pairs]
    tests = ListTests(model, ServedLists(), 10)
    assert tests.diversity(["a", "b", "c", "unknown"]) == pytest.approx(1 - np.mean(np.clip(cosines, 0, 1)), abs=1e-5)
    assert tests.diversity(["a"]) is None
