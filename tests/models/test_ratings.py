"""Expected ratings: by hand, and bounded."""

from __future__ import annotations

import pytest

from models import Config, Erasure, Recommender, Review
from models.snapshot import checksum


def review(k: int, user: str, item: str, rating: float) -> Review:
    return Review(event_id=f"r{k}", user_id=user, item_id=item, timestamp_ms=k + 1, rating=rating)


def test_biases_by_hand() -> None:
    """Mean 4. b_x = (1 + 1) / (2 + 2) = .5; b_y = (-2) / (1 + 2). Ada: (5-4-.5 + 2-4+2/3) / (2 + 1)."""
    model = Recommender(Config(item_shrink=2, user_shrink=1, factors=0))
    assert model.predict("ada", "x") == 3.0, "nothing is known: the middle of the scale"
    for k, (user, item, stars) in enumerate([("ada", "x", 5), ("bob", "x", 5), ("ada", "y", 2)]):
        model.learn(review(k, user, item, stars))
    ada = ((5 - 4 - 0.5) + (2 - 4 + 2 / 3)) / 3
    assert model.predict("ada", "y") == pytest.approx(4 - 2 / 3 + ada)
    assert model.predict("a stranger", "y") == pytest.approx(4 - 2 / 3)
    assert model.predict("a stranger", "unheard of") == pytest.approx(4)


def test_predictions_stay_on_the_scale() -> None:
    model = Recommender(Config(item_shrink=0, user_shrink=0, factors=0))
    for k in range(6):
        model.learn(review(k, f"u{k % 2}", f"i{k}", 5.0 if k % 2 else 1.0))
    assert model.predict("u0", "i0") == 1.0
    assert model.predict("u1", "i1") == 5.0


def test_factors_know_no_more_than_they_may_and_forget_the_erased() -> None:
    model = Recommender(Config(max_factor_rows=16, fusion="rrf"))
    for k in range(300):
        model.learn(review(k, f"u{k % 40}", f"i{k % 30}", 1.0 + k % 5))
    factors = model.ratings.factors
    assert factors is not None
    assert model.sizes()["factor_users"] == (16, 16)
    assert len(factors.model.u_biases) == len(factors.model.u_latents) == 16
    before = checksum(factors.save())
    for k in range(1000):
        model.predict(f"stranger {k}", f"i{k % 30}")
        model.predict(f"u{k % 40}", f"unheard of {k}")
    assert checksum(factors.save()) == before
    user = model.history.users.get("u0")
    assert user in factors.model.u_biases
    model.learn(Erasure(request_id="x", user_id="u0", timestamp_ms=1000))
    assert user not in factors.model.u_biases
    assert user not in factors.model.u_latents


def test_factors_learn_what_biases_cannot() -> None:
    """Two tastes that cancel out on average: only an interaction of user and item tells them apart."""
    model = Recommender(Config(factors=4, fusion="rrf"))
    k = 0
    for _ in range(60):
        for user in range(8):
            item = (k * 7 + user) % 8
            if (user, item) != (0, 0):
                model.learn(Review(event_id=f"r{k}", user_id=f"u{user}", item_id=f"i{item}", timestamp_ms=k + 1,
                                   rating=5.0 if user % 2 == item % 2 else 1.0))  # fmt: skip
            k += 1
    assert model.predict("u0", "i0") > model.predict("u1", "i0") + 1
