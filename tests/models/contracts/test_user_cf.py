from __future__ import annotations

from models import Click, Recommender
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
    from models import Config

    model = Recommender(Config(item_users=16))
    for k in range(40):
        model.learn(Click(event_id=f"e{k}", user_id=f"u{k:02}", item_id="i", timestamp_ms=k + 1))
    model.learn(Click(event_id="e", user_id="me", item_id="i", timestamp_ms=100))
    assert {user for user, _ in model.similar_users("me", 100)} == {f"u{k}" for k in range(25, 40)}
