from __future__ import annotations

from models import Click, Recommender
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.state import scores


class TestItemCF(SourceContract):
    registered = "item_cf"

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        return naive.item_cf(user)


def test_by_hand() -> None:
    """Two people have a and b, one of them c too; somebody with b alone: a is sqrt(1 of 2 * 3)."""
    model = Recommender()
    for k, (user, item) in enumerate([("x", "a"), ("x", "b"), ("y", "a"), ("y", "b"), ("y", "c"), ("z", "b")]):
        model.learn(Click(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=k + 1))
    found = scores(model, "item_cf", "z")
    assert list(found) == ["a", "c"]
    assert abs(found["a"] - 2 / (2 * 3) ** 0.5) < 1e-12
    assert abs(found["c"] - 1 / (1 * 3) ** 0.5) < 1e-12
    assert model.similar_items("b", 1) == [("a", found["a"])]
