"""Whom people trust: what is kept of each of them, and of how many."""

from __future__ import annotations

import numpy as np
import pytest

from models import Click, Config, Erasure, Recommender
from models.contexts import SHARED
from models.fusion_kernels import PERSONAL
from models.fusion_learned import Learned
from models.personal import MEMORY, SHRINK, Personal
from tests.models.streams_of import shop

WIDTH = 8


def pull(k: int) -> np.ndarray:
    """A step in the direction of one feature."""
    return np.eye(WIDTH)[k]


def test_it_follows_the_newest_steps_and_begins_at_nothing() -> None:
    personal = Personal(4, WIDTH)
    assert personal.of(-1).tolist() == personal.of(7).tolist() == [0.0] * WIDTH
    total, count = np.zeros(WIDTH), 0.0
    for step in range(40):
        personal.learn(7, pull(step % 3))
        total, count = (1 - 1 / MEMORY) * total + pull(step % 3), (1 - 1 / MEMORY) * count + 1
        assert personal.of(7) == pytest.approx(total / (count + SHRINK), rel=1e-5)
    assert personal.of(6).tolist() == [0.0] * WIDTH, "nobody else's"
    assert np.abs(personal.of(7)).max() < 1.0


def test_whoever_came_first_leaves_for_one_more_than_there_is_room_for() -> None:
    personal = Personal(3, WIDTH)
    for user in (50, 10, 20, 10, 30):  # 50 leaves for 30
        personal.learn(user, pull(0))
    assert len(personal) == 3
    assert [bool(personal.of(user).any()) for user in (50, 10, 20, 30)] == [False, True, True, True]
    personal.learn(50, pull(1))  # and begins anew, in the place of 10
    assert personal.of(50) == pytest.approx(pull(1) / (1 + SHRINK), rel=1e-6)
    assert not personal.of(10).any()
    assert len(personal) == 3


def test_without_room_nothing_is_kept_of_anybody() -> None:
    model = Recommender(Config(personal_users=0))
    for event in shop(1, users=8, items=60, events=300):
        model.learn(event)
    fusion: Learned = model.fusion  # type: ignore[assignment]
    assert fusion.new.steps > 100
    assert len(fusion.trust_new) == len(fusion.trust_new.sums) == 0
    assert not fusion.new.weights[:, -PERSONAL:].any()
    assert not fusion.new.steady[:, -PERSONAL:].any()


def test_who_is_forgotten_leaves_nothing_behind() -> None:
    personal = Personal(4, WIDTH)
    for user in (0, 1):
        personal.learn(user, pull(user))
    personal.forget_user(1)
    personal.forget_user(1)
    personal.forget_user(99)
    assert len(personal) == 1
    assert not personal.of(1).any()
    assert not personal.sums[1:].any()
    assert not personal.counts[1:].any()
    assert personal.of(0).any()
    personal.learn(2, pull(2))
    personal.learn(1, pull(3))
    assert personal.of(1) == pytest.approx(pull(3) / (1 + SHRINK), rel=1e-6)
    assert len(personal) == 3
    for user in (5, 6):  # 0 leaves, and then it is the turn of the place that is empty
        personal.learn(user, pull(0))
    assert [bool(personal.of(user).any()) for user in (0, 1, 2, 5, 6)] == [False, True, True, True, True]


def test_an_erased_person_is_trusted_like_a_stranger() -> None:
    model = Recommender(Config(personal_users=100))
    for k in range(60):
        model.learn(Click(event_id=f"e{k}", user_id=f"u{k % 4}", item_id=f"i{k * 7 % 15}", timestamp_ms=k + 1))
    fusion: Learned = model.fusion  # type: ignore[assignment]
    trust = fusion.trust_new
    user = model.history.users.get("u1")
    assert trust.of(user).any()
    assert model.sizes()["personal_users"] == (4, 100)
    assert model.learn(Erasure(request_id="x", user_id="u1", timestamp_ms=1000))
    assert not trust.of(user).any()
    assert model.sizes()["personal_users"] == (3, 100)


def test_lists_go_by_it_and_how_much_is_learned() -> None:
    model = Recommender(Config(personal_users=100))
    for event in shop(1, users=8, items=60, events=600):
        model.learn(event)
    fusion: Learned = model.fusion  # type: ignore[assignment]
    assert fusion.new.weights[SHARED, -PERSONAL:].all()
    query = model.asking.query("u1", 10)
    union = model.asking.candidates(query, complete=True)
    before = fusion.shares(union, query).sum(axis=0)
    fusion.forget_user(query.user)
    assert not np.allclose(before, fusion.shares(union, query).sum(axis=0))
