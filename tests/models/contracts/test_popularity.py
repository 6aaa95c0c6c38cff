from __future__ import annotations

import math

from models import Click, Config, Purchase, Recommender
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.state import scores
from tests.models.streams_of import BEGIN, HOUR


class TestPopularity(SourceContract):
    registered = "popularity"
    personal = False

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        return naive.popularity()


class TestTrending(SourceContract):
    registered = "trending"
    sources = ("trending_20h", "trending_300h")
    config = Config(half_lives_hours=(20.0, 300.0))
    personal = False

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float] | None:
        return None  # up to a common factor: compared below

    def compare(self, model: Recommender, naive: Naive, user: str) -> None:
        """Ratios to the largest score; the fixed point has 12 bits and forgets what is 2^-20 of it."""
        for source, hours in zip(self.names, (20.0, 300.0), strict=True):
            wanted = {i: s for i, s in naive.trending(hours * HOUR).items() if i not in naive.seen(user)}
            found = scores(model, source, user)
            if not wanted:
                assert not found
                continue
            best, top = max(wanted.values()), max(found.values())
            for item, score in found.items():
                assert math.isclose(score / top, wanted[item] / best, rel_tol=1e-3, abs_tol=1e-6), item


def test_a_half_life_halves() -> None:
    model = Recommender(Config(half_lives_hours=(10.0,)))
    for k, (item, hours) in enumerate([("old", 0), ("newer", 10), ("newest", 20)]):
        model.learn(Click(event_id=f"e{k}", user_id=f"u{k}", item_id=item, timestamp_ms=BEGIN + hours * HOUR))
    found = scores(model, "trending_10h", "nobody")
    assert list(found) == ["newest", "newer", "old"]
    assert found["newest"] == 2 * found["newer"] == 4 * found["old"]


def test_a_purchase_says_more_than_a_click() -> None:
    model = Recommender(Config(click_weight=1, purchase_weight=3))
    model.learn(Click(event_id="c", user_id="a", item_id="clicked", timestamp_ms=BEGIN))
    model.learn(Purchase(event_id="p", user_id="b", item_id="bought", timestamp_ms=BEGIN))
    found = scores(model, "trending_12h", "nobody")
    assert found["bought"] == 3 * found["clicked"]


def test_what_is_forgotten_in_time_is_no_candidate() -> None:
    model = Recommender(Config(half_lives_hours=(1.0,)))
    model.learn(Click(event_id="a", user_id="a", item_id="ancient", timestamp_ms=BEGIN))
    model.learn(Click(event_id="b", user_id="b", item_id="new", timestamp_ms=BEGIN + 1000 * HOUR))
    assert list(scores(model, "trending_1h", "nobody")) == ["new"]
    assert set(scores(model, "popularity", "nobody")) == {"ancient", "new"}
