from __future__ import annotations

import pytest

from models import Click, Config, Recommender
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.streams_of import shop


class TestUserCF(SourceContract):
    registered = "user_cf"

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        return naive.user_cf(user)


def test_similar_users_agree_with_the_naive_twin() -> None:
    log = shop(1, users=12, items=20, events=200)
    model, naive = Recommender(), Naive(Recommender().config)
    for event in log:
        model.learn(event)
        naive.learn(event)
    for user in naive.users():
        wanted = naive.similar_users(user)
        found = dict(model.similar_users(user, 50))
        assert set(found) == set(wanted)
        assert all(abs(found[v] - wanted[v]) < 1e-12 for v in found)


def test_only_the_most_recent_users_of_an_item_are_remembered() -> None:
    model = Recommender(Config(item_users=16))
    for k in range(40):
        model.learn(Click(event_id=f"e{k}", user_id=f"u{k:02}", item_id="i", timestamp_ms=k + 1))
    model.learn(Click(event_id="e", user_id="me", item_id="i", timestamp_ms=100))
    assert {user for user, _ in model.similar_users("me", 100)} == {f"u{k}" for k in range(25, 40)}


@pytest.mark.parametrize(("equal", "counted"), [(2, 3), (4, 5), (5, 6), (9, 6)])
def test_those_as_near_as_the_last_count_too_up_to_twice_as_many(equal: int, counted: int) -> None:
    """K is 3. One who shares two items is nearest; the others share one and have one more."""
    model = Recommender(Config(user_cf_neighbours=3, sources=("user_cf",)))
    takes = {"near": "ab", "me": "ab"} | {f"u{k}": "ac" for k in range(equal)}
    takes |= {f"v{k}": "adefg" for k in range(9)}  # farther
    for k, (user, item) in enumerate((user, item) for user, items in takes.items() for item in items):
        model.learn(Click(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=1))
    found = model.similar_users("me", 50)
    assert len(found) == counted
    assert found[0][0] == "near"
