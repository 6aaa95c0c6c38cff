"""How far anybody moves what others get: one account by stated amounts, whatever it sends, invented crowds as measured."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import numpy as np
import pytest

from models import Click, Config, Erasure, Purchase, Recommender, Review
from models.events import Event, ReviewVector
from models.habit import DOUBT, VOICE
from models.pace import DAY_MS, FIRST
from models.reviewers import OF_ONE
from models.sources.order import ONE
from models.sources.popularity import Trending, worth
from models.sources.sequence import Sequence
from tests.models.streams_of import BEGIN, HOUR

USERS, ITEMS, EVENTS = 400, 200, 6_000
FLOOD = 4_000
NOW = BEGIN + EVENTS * 60_000
PUSHED = "pushed"


def shop(users: int = USERS, events: int = EVENTS) -> list[Event]:
    """People of ten tastes who take popular items of their own taste, mostly; one event a minute."""
    rng, log = random.Random(1), list[Event]()
    for k in range(events):
        user = rng.randrange(users)
        taste = user % 10 if rng.random() < 0.8 else rng.randrange(10)
        item = min(int(rng.paretovariate(0.8)), ITEMS // 10) - 1
        kind = Purchase if rng.random() < 0.2 else Click
        log.append(kind(event_id=f"e{k}", user_id=f"u{user}", item_id=f"i{10 * item + taste}", timestamp_ms=BEGIN + k * 60_000))
    return log


def mixed(log: list[Event], flood: Iterable[Any]) -> list[Any]:
    """The flood comes among the last fifth of the honest events."""
    calm, busy = log[: len(log) * 4 // 5], log[len(log) * 4 // 5 :]
    pieces = np.array_split(np.array([*flood], object), len(busy))
    return [*calm, *chain.from_iterable((event, *piece) for event, piece in zip(busy, pieces, strict=True))]


def learned(log: Iterable[Any], **config: Any) -> Recommender:
    model = Recommender(Config(**config))
    for event in log:
        model.learn(event)
    return model


# ---------------------------------------------------------------------------------------- what one account may send
def bought(k: int, item: str, at: int = NOW, user: str = "mallory") -> Purchase:
    return Purchase(event_id=f"{user}-{k}", user_id=user, item_id=item, timestamp_ms=at)


FLOODS: dict[str, Callable[[int], Any]] = {
    "one item": lambda k: bought(k, PUSHED),
    "to and fro": lambda k: bought(k, PUSHED if k % 2 else f"i{k // 2 % 10}"),
    "every item": lambda k: bought(k, f"i{k * 7 % ITEMS}"),
    "ever new items": lambda k: bought(k, f"new{k}"),
    "all over time": lambda k: bought(k, PUSHED if k % 3 else f"i{k % 50}", BEGIN + k * 7_919_000 % (NOW - BEGIN)),
    "in the future": lambda k: bought(k, PUSHED if k % 2 else f"i{k % 20}", NOW + 300_000),
    "stars": lambda k: Review(
        event_id=f"m{k}", user_id="mallory", item_id=f"i{k % 3}", timestamp_ms=NOW, rating=1.0 + 4.0 * (k % 5 == 0)
    ),
    "done and undone": lambda k: (
        bought(k, PUSHED)
        if k % 2 == 0
        else Click(event_id=f"u{k}", user_id="mallory", item_id="i1", timestamp_ms=NOW, retracts=f"mallory-{k - 1}")
    ),
}


def rows(model: Recommender, pairs: Any) -> dict[tuple[str, str], int]:
    """Counts of pairs by the ids of their items."""
    items = model.history.items
    return {
        (items.name(i), items.name(int(pair["item"]))): int(pair["count"])
        for i in items.indices().tolist() for pair in pairs.row(i)
    }  # fmt: skip


def most_changed(one: dict[Any, int], other: dict[Any, int]) -> int:
    return max(abs(one.get(key, 0) - other.get(key, 0)) for key in one.keys() | other.keys())


@pytest.mark.parametrize("flood", FLOODS)
def test_one_account_adds_a_stated_amount_to_every_count(flood: str) -> None:
    """What it adds is what leaves with it: the exact state with and without the account, at the same time of the log."""
    config = {"fusion": "rrf", "factors": 0, "without": ("embedding", "ease"), "window_events": 128, "item_users": 64}
    model = learned(mixed(shop(), map(FLOODS[flood], range(FLOOD))), **config)
    ratings, habit = model.ratings, model.habit
    sequence = next(s for s in model.sources if isinstance(s, Sequence)).order
    trends = [s for s in model.sources if isinstance(s, Trending)]

    def counted() -> dict[str, Any]:
        return {
            "takers": model.history.takers.copy(), "stars": ratings.item_sum.copy(), "ratings": ratings.item_count.copy(),
            "together": rows(model, model.together.pairs), "followed": rows(model, sequence.following),
            "trends": [trend.counts.copy() for trend in trends], "habit": habit.rate,
        }  # fmt: skip

    held = counted()
    model.learn(Erasure(request_id="x", user_id="mallory", timestamp_ms=NOW + 10 * HOUR))
    without = counted()
    assert np.abs(held["takers"] - without["takers"]).max() <= 1
    assert np.abs(held["ratings"] - without["ratings"]).max() <= 1
    assert np.abs(held["stars"] - without["stars"]).max() <= 5_000
    assert most_changed(held["together"], without["together"]) <= 1
    assert most_changed(held["followed"], without["followed"]) <= ONE
    heaviest = int(model.history.weights.max())
    for trend, one, other in zip(trends, held["trends"], without["trends"], strict=True):
        at_most = worth(model.history.now_ms, heaviest, trend.half_life_ms, 4 * trend.epoch - 8)
        assert 0 <= (one - other).min() <= (one - other).max() <= at_most
    assert abs(held["habit"] - without["habit"]) <= VOICE / max(habit.events, DOUBT)


@pytest.mark.parametrize("flood", ["every item", "done and undone"])
def test_one_account_takes_one_place_among_the_users_of_an_item(flood: str) -> None:
    config = {"fusion": "rrf", "factors": 0, "without": ("embedding", "ease"), "window_events": 32, "item_users": 64}
    calm, busy = learned(shop(), **config), learned(mixed(shop(), map(FLOODS[flood], range(FLOOD))), **config)
    for k in range(ITEMS):
        item, other = calm.history.items.get(f"i{k}"), busy.history.items.get(f"i{k}")
        there = {busy.history.users.name(u) for u in busy.history.users_of.row(other).tolist()} if other >= 0 else set()
        lost = {calm.history.users.name(u) for u in calm.history.users_of.row(item).tolist()} - there if item >= 0 else set()
        assert len(lost) <= 1, f"i{k}"


def test_one_account_teaches_so_much_a_day() -> None:
    """Timestamps of its own choosing buy it nothing: the days are those of the log."""
    lessons, days = 50, 2
    log = [Click(event_id=f"e{k}", user_id=f"u{k}", item_id=f"i{k % 9}", timestamp_ms=BEGIN + k * DAY_MS // 100)
           for k in range(100 * days)]  # fmt: skip
    flood = [bought(k, f"i{k % 9}", BEGIN + (k * 7_919_000) % (days * DAY_MS)) for k in range(5_000)]
    model = Recommender(Config(user_lessons=lessons, item_lessons=1.0, factors=0))
    for event in [*mixed(log, flood), *flood]:
        model.learn(event)
    taught = model.pace.asked - model.ignored()["user_pace"] - len(log)
    assert lessons <= taught <= lessons * (1 + days)
    free = learned(mixed(log, flood), user_lessons=0, item_lessons=1.0, factors=0)
    assert free.ignored()["user_pace"] == 0


def test_one_item_is_taught_by_a_share_of_all_events() -> None:
    share, crowd = 0.125, [bought(0, PUSHED, user=f"x{k}") for k in range(3_000)]
    model = learned(mixed(shop(), crowd), item_lessons=share, fusion="rrf", factors=0)
    taught = len(crowd) - model.ignored()["item_pace"]
    assert FIRST <= taught <= FIRST + share * (EVENTS + len(crowd))


def test_one_account_does_not_write_the_others_out() -> None:
    rng = np.random.default_rng(1)

    def said(k: int, user: str) -> ReviewVector:
        return ReviewVector(
            event_id=f"{user}-{k}", user_id=user, vector=rng.normal(size=8).astype("<f4").tobytes(), model="m",
            timestamp_ms=BEGIN,
        )  # fmt: skip

    model = Recommender(Config(max_review_vectors=300))
    for k in range(100):
        model.learn(said(k, f"u{k}"))
    for k in range(3 * OF_ONE):
        model.learn(said(k, "mallory"))
    held = model.reviewers
    assert held.texts == 100 + OF_ONE
    assert held.counts[held.places["mallory"]] == OF_ONE
    assert all(f"u{k}" in held.places for k in range(100))
    assert not model.remove_review("mallory-0"), "the oldest left"
    assert model.remove_review(f"mallory-{3 * OF_ONE - 1}")


def test_one_account_does_not_take_the_rows_of_contexts() -> None:
    model = learned(shop(events=300), context_values=8)
    for k in range(100):
        model.learn(
            Click(event_id=f"m{k}", user_id="mallory", item_id=f"i{k}", timestamp_ms=NOW, context={"device": f"made up {k}"})
        )
    for k in range(100):
        context = {"device": "phone"}
        model.learn(Click(event_id=f"p{k}", user_id=f"u{k}", item_id=f"i{k % 20}", timestamp_ms=NOW, context=context))
    contexts, waiting = model.fusion.contexts, model.fusion.waiting  # type: ignore[attr-defined]
    assert contexts.values.get("device=phone") >= 0
    assert len(contexts.values) == 1
    assert len(waiting) <= 9


# ---------------------------------------------------------------------------------------- what others get
def lists(model: Recommender) -> dict[str, list[str]]:
    return {f"u{k}": [line.item_id for line in model.recommend(f"u{k}")] for k in range(0, USERS, 2)}


def alike(one: dict[str, list[str]], other: dict[str, list[str]]) -> float:
    """Of the items in others' lists, the part that is there still."""
    return float(np.mean([len(set(one[user]) & set(other[user])) / len(one[user]) for user in one]))


def holding(found: dict[str, list[str]], item: str) -> float:
    return float(np.mean([item in items for items in found.values()]))


@pytest.fixture(scope="module")
def calm() -> dict[str, list[str]]:
    return lists(learned(shop()))


@pytest.mark.parametrize("flood", FLOODS)
def test_one_account_moves_others_lists_little(flood: str, calm: dict[str, list[str]]) -> None:
    """In a shop of 400 people, by 4,000 events: of ten lines of another's list at most two become others, and the pushed item
    is in at most one of twenty lists. (One more ordinary person changes a line in fifty: steps never come out the same.)"""
    after = lists(learned(mixed(shop(), map(FLOODS[flood], range(FLOOD)))))
    assert alike(calm, after) >= 0.8
    assert holding(after, PUSHED) <= 0.05


CROWDS: dict[str, tuple[float, Callable[[int], list[str]]]] = {
    "that item alone": (0.05, lambda k: [PUSHED]),
    "a popular item before": (0.2, lambda k: [f"i{k % 10}", PUSHED]),
    "three popular items before": (0.2, lambda k: [f"i{k % 10}", f"i{10 + k % 10}", f"i{20 + k % 10}", PUSHED]),
}
"""What each invented user takes, and the part of people's lists that may hold the pushed item in the end."""


@pytest.mark.parametrize("crowd", CROWDS)
def test_a_thousand_invented_users_move_the_lists_of_four_hundred_people_so_far(
    crowd: str, calm: dict[str, list[str]]
) -> None:  # fmt: skip
    most, takes = CROWDS[crowd]
    flood = [bought(n, item, NOW - HOUR + n * 60_000, user=f"x{k}") for k in range(1_000) for n, item in enumerate(takes(k))]
    model = learned(mixed(shop(), flood))
    after = lists(model)
    assert alike(calm, after) >= 0.7
    assert holding(after, PUSHED) <= most
