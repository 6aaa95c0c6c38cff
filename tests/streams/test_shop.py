"""The simulated shop: the same seed gives the same shop, people look and click as they should, and learning their taste pays."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from models import Recommender
from models.events import Click, Impression, Item, Purchase, Refusal, Review, decode, encode
from streams.shop import Shop, ShopEvent, ShopOptions, Shown
from streams.shop_words import CATEGORIES

NOW = 1_700_000_000_000
TOPICS = {Click: "clicks", Purchase: "purchases", Review: "reviews", Impression: "impressions", Item: "items"}


def visits(shop: Shop, count: int, *, pace_ms: int = 5) -> list[ShopEvent]:
    """Visitors who are shown the first ten items of the catalogue."""
    shown = Shown("list-1", tuple(item.item_id for item in shop.catalogue()[:10]))
    return [event for n in range(count) for event in shop.step(shop.visitor(), shown, NOW + n * pace_ms)]


# ------------------------------------------------------------------------------------------------ determinism, contracts
def test_the_same_seed_gives_the_same_events() -> None:
    assert visits(Shop(3), 300) == visits(Shop(3), 300)
    assert Shop(3).catalogue() == Shop(3).catalogue()


def test_another_seed_is_another_shop() -> None:
    assert visits(Shop(3), 300) != visits(Shop(4), 300)
    assert {s.shopper_id for s in Shop(3).shoppers}.isdisjoint(s.shopper_id for s in Shop(4).shoppers)


def test_another_run_changes_nothing_but_the_ids_of_events() -> None:
    one, other = visits(Shop(3, run="monday"), 300), visits(Shop(3, run="tuesday"), 300)
    assert {e.event_id for e in one}.isdisjoint(e.event_id for e in other)
    assert [encode(e).replace(b"monday", b"") for e in one] == [encode(e).replace(b"tuesday", b"") for e in other]


def test_ids_of_events_are_unique_and_every_event_passes_the_contract() -> None:
    shop = Shop(1, ShopOptions(reviews_per_s=1000))
    events = [*shop.catalogue(), *visits(shop, 3000)]
    for event in events:
        assert not isinstance(decode(TOPICS[type(event)], encode(event), now_ms=NOW + 60_000), Refusal)
    ids = [e.event_id for e in events if not isinstance(e, Item)]
    assert len(ids) == len(set(ids))
    assert {type(e) for e in events} == {Click, Purchase, Review, Impression, Item}


def test_items_say_in_words_what_they_are() -> None:
    by_name = {category.name: category for category in CATEGORIES}
    for item in Shop(2).catalogue():
        category, style = item.categories
        assert style in item.title
        words = by_name[category].styles[style]
        assert sum(word.lower() in item.description.lower() for word in words) >= 2


# ------------------------------------------------------------------------------------------------ behaviour
def test_a_click_on_a_list_names_the_list_and_the_position() -> None:
    shop = Shop(1)
    shown = [item.item_id for item in shop.catalogue()[:10]]
    clicks = [e for e in visits(shop, 3000) if isinstance(e, Click) and e.list_id is not None]
    assert clicks
    for click in clicks:
        assert click.list_id == "list-1"
        assert click.position is not None
        assert shown[click.position - 1] == click.item_id


def test_searching_shows_no_list_and_owes_it_nothing() -> None:
    shop = Shop(1, ShopOptions(search_share=1.0))
    events = visits(shop, 500)
    assert not any(isinstance(e, Impression) for e in events)
    assert all(e.list_id is None for e in events if isinstance(e, Click | Purchase))


def test_who_searches_finds_what_interests_them() -> None:
    """The mean interest of clicked items is far above the mean over the catalogue."""
    shop = Shop(1)
    found, all_items = [], []
    place = {item.item_id: k for k, item in enumerate(shop.catalogue())}
    for shopper in shop.shoppers[:200]:
        interest = shop.interest(shopper)
        all_items.append(interest.mean())
        found += [interest[place[e.item_id]] for e in shop.step(shopper, None, NOW) if isinstance(e, Click)]
    assert np.mean(found) > 2 * np.mean(all_items)


def test_attention_falls_with_the_position() -> None:
    """The same item at positions 1 and 8: clicks in the ratio 1 to 8**-attention (0.25 for attention 2/3), within 4 sigma."""
    options = ShopOptions(attention=2 / 3, search_share=0.0, shoppers=1, visits=1e9)
    shop = Shop(5, options)
    shopper = shop.shoppers[0]
    best = shop.catalogue()[int(np.argmax(shop.interest(shopper)))].item_id

    def clicks(position: int, trials: int) -> int:
        count = 0
        for _ in range(trials):
            shopper.taken.clear()
            shown = Shown("l", ("nothing",) * (position - 1) + (best,))
            count += sum(isinstance(event, Click) for event in shop.step(shopper, shown, NOW))
        return count

    first, eighth = clicks(1, 4000), clicks(8, 16_000)  # 16,000 looks with a quarter of the attention
    assert first > 1000
    assert abs(eighth - first) < 4 * math.sqrt(first + eighth)


def test_nobody_clicks_what_they_have_already_or_what_is_not_in_the_shop() -> None:
    shop = Shop(1, ShopOptions(search_share=0.0))
    shopper = shop.shoppers[0]
    shopper.taken.update(range(len(shop.catalogue())))
    shown = Shown("l", (*(item.item_id for item in shop.catalogue()), "unknown"))
    for _ in range(50):
        assert [type(e) for e in shop.step(shopper, shown, NOW)] == [Impression]
    assert Shop(1, ShopOptions(search_share=1.0)).step(shopper, None, NOW) == []  # and finds nothing new by searching


def test_a_purchase_follows_its_click_and_a_review_its_purchase() -> None:
    shop = Shop(1, ShopOptions(reviews_per_s=1000))
    events = [e for e in visits(shop, 3000) if not isinstance(e, Impression)]
    for before, event in itertools.pairwise(events):
        wanted = {Purchase: Click, Review: Purchase}.get(type(event))
        if wanted is not None:
            assert isinstance(before, wanted)
            assert (before.user_id, before.item_id) == (event.user_id, event.item_id)


def test_reviews_keep_to_their_rate_and_number() -> None:
    """200 searches a second for 20 seconds at 2 reviews a second: 40, and the bucket's 2 at most on top."""
    options = ShopOptions(search_share=1.0, buy_rate=1.0, review_share=1.0, reviews_per_s=2.0)
    reviews = [e for e in visits(Shop(1, options), 4000) if isinstance(e, Review)]
    assert 38 <= len(reviews) <= 42
    few = ShopOptions(search_share=1.0, buy_rate=1.0, review_share=1.0, reviews_per_s=1000.0, max_reviews=7)
    assert sum(isinstance(e, Review) for e in visits(Shop(1, few), 2000)) == 7
    none = ShopOptions(search_share=1.0, buy_rate=1.0, review_share=1.0, reviews_per_s=0.0)
    assert not any(isinstance(e, Review) for e in visits(Shop(1, none), 2000))


def test_reviews_speak_the_language_of_the_style_and_ratings_follow_interest() -> None:
    shop = Shop(1, ShopOptions(search_share=1.0, buy_rate=1.0, review_share=1.0, reviews_per_s=1000.0))
    items = {item.item_id: item for item in shop.catalogue()}
    place = {item_id: k for k, item_id in enumerate(items)}
    by_name = {category.name: category for category in CATEGORIES}
    liked, disliked = [], []
    for n in range(4000):
        shopper = shop.visitor()
        for review in (e for e in shop.step(shopper, None, NOW + n) if isinstance(e, Review)):
            category, style = items[review.item_id].categories
            words = (style, *by_name[category].styles[style])
            assert any(word.lower() in review.text.lower() for word in words)
            assert review.rating in {1.0, 2.0, 3.0, 4.0, 5.0}
            interest = shop.interest(shopper)[place[review.item_id]]
            (liked if review.rating >= 4 else disliked).append(interest)
    assert np.mean(liked) > np.mean(disliked) + 0.2


def test_new_items_come_in_at_their_pace_until_the_shop_is_full() -> None:
    shop = Shop(1, ShopOptions(items=10, max_items=13, item_every_ms=1000))
    assert shop.novelties(NOW) == []
    assert [i.item_id for i in shop.novelties(NOW + 2500)] == [i.item_id for i in shop.catalogue()[10:12]]
    assert len(shop.novelties(NOW + 1_000_000)) == 1
    assert len(shop.catalogue()) == 13
    assert len(shop.interest(shop.shoppers[0])) == 13


def test_shoppers_leave_and_strangers_come() -> None:
    """With 10 visits in the mean, 1,000 visits bring 100 newcomers (4 sigma: 38)."""
    shop = Shop(1, ShopOptions(shoppers=50, visits=10))
    before = {s.shopper_id for s in shop.shoppers}
    seen = {shop.visitor().shopper_id for _ in range(1000)}
    assert len(shop.shoppers) == 50
    assert 62 <= len(seen - before) <= 138


@pytest.mark.parametrize("wrong", [{"items": 0}, {"items": 700}, {"shoppers": 0}, {"visits": 0}, {"click_rate": 1.5},
                                   {"search_share": -0.1}, {"reviews_per_s": -1.0}, {"item_every_ms": 0}])  # fmt: skip
def test_numbers_that_make_no_shop_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shop needs|probability|negative"):
        ShopOptions(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ it pays to learn
Lists = Callable[[str], list[str]]
EVENTS = 3_000


class Interval(NamedTuple):
    """Where a click-through rate lies: 2.58 standard errors (99 %) to both sides of what was counted."""

    low: float
    high: float

    @classmethod
    def of(cls, clicked: int, shown: int) -> Interval:
        rate = clicked / shown
        error = 2.58 * math.sqrt(rate * (1 - rate) / shown)
        return cls(rate - error, rate + error)


def clicks_per_item(seed: int, learn: Callable[[ShopEvent | Item], object], lists: Lists) -> Interval:
    """The click-through rate in the second half of a run of `EVENTS` events, in which only `learn` and `lists` touch the shop."""
    shop = Shop(seed, ShopOptions(shoppers=600))
    for item in shop.catalogue():
        learn(item)
    now, events, clicked, shown = NOW, 0, 0, 0
    while events < EVENTS:
        shopper = shop.visitor()
        items = lists(shopper.shopper_id)
        for event in shop.step(shopper, Shown("list", tuple(items)) if items else None, now):
            counts = events >= EVENTS // 2
            if isinstance(event, Impression):
                shown += len(event.items) * counts
                continue
            learn(event)
            events += 1
            now += 5
            clicked += counts * (isinstance(event, Click) and event.list_id is not None)
    return Interval.of(clicked, shown)


def with_random_lists(seed: int) -> Interval:
    items, rng = [item.item_id for item in Shop(seed).catalogue()], random.Random(seed)
    return clicks_per_item(seed, lambda event: None, lambda user: rng.sample(items, 10))


def with_the_most_clicked(seed: int) -> Interval:
    """The ten most clicked items that the user has not clicked."""
    counts: Counter[str] = Counter()
    taken: dict[str, set[str]] = {}

    def learn(event: ShopEvent | Item) -> None:
        if isinstance(event, Click):
            counts[event.item_id] += 1
            taken.setdefault(event.user_id, set()).add(event.item_id)

    def lists(user: str) -> list[str]:
        own = taken.get(user, set())
        return [item for item, _ in counts.most_common(10 + len(own)) if item not in own][:10]

    return clicks_per_item(seed, learn, lists)


def with_the_recommender(seed: int) -> Interval:
    model = Recommender()
    assert {type(source).__name__ for source in model.sources} >= {"ItemCF", "UserCF", "Popularity"}
    return clicks_per_item(
        seed,
        lambda event: model.learn(event),  # type: ignore[arg-type]
        lambda user: [line.item_id for line in model.recommend(user, 10)],
    )


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_the_more_a_recommender_knows_the_more_is_clicked(seed: int) -> None:
    """Random lists < what most people click < what this person is likely to want."""
    at_random, popular, learned = with_random_lists(seed), with_the_most_clicked(seed), with_the_recommender(seed)
    assert at_random.high < popular.low
    assert popular.high < learned.low


COMPILED = """
import sys
from models import Config
from models.warm import warm_up
from tests.streams.test_shop import with_the_recommender

def signatures():
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "models"]
    found = {kernel for module in modules for kernel in vars(module).values() if hasattr(kernel, "signatures")}
    return {f"{kernel.__module__}.{kernel.__name__}{signature}" for kernel in found for signature in kernel.signatures}

warm_up(Config())
before = signatures()
with_the_recommender(3)
assert len(before) > 30
print(*(signatures() - before), sep="\\n")
"""


def test_nothing_is_left_to_compile_when_the_shop_opens() -> None:
    """A list that waits for the compiler waits for seconds: a worker compiles before it says that it is ready."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", COMPILED], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
