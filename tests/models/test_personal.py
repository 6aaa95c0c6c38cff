"""Whom people trust: what is kept of each of them, and of how many."""

from __future__ import annotations

import numpy as np
import pytest

from models import Click, Config, Erasure, Recommender
from models.contexts import SHARED
from models.fusion_kernels import PERSONAL
from models.fusion_learned import Learned
from models.interning import key64
from models.kept import Misfit
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
    personal.forget(1)
    personal.forget(1)
    personal.forget(99)
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
    key = key64("u1")
    assert trust.of(key).any()
    assert model.sizes()["personal_users"] == (4, 100)
    assert model.learn(Erasure(request_id="x", user_id="u1", timestamp_ms=1000))
    assert not trust.of(key).any()
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
    fusion.forget_user(query.key)
    assert not np.allclose(before, fusion.shares(union, query).sum(axis=0))


def test_who_takes_over_what_is_known_of_a_person_knows_exactly_that() -> None:
    one, other = Personal(4, WIDTH), Personal(2, WIDTH)
    for step in range(5):
        one.learn(2**64 - 1, pull(step))
    assert one.read(7) is None
    known = one.read(2**64 - 1)
    assert known is not None
    assert other.fits(known)
    other.learn(2**64 - 1, pull(7))
    other.write(2**64 - 1, known)
    assert other.of(2**64 - 1).tolist() == one.of(2**64 - 1).tolist()
    one.learn(2**64 - 1, pull(0))
    other.learn(2**64 - 1, pull(0))
    assert other.of(2**64 - 1).tolist() == one.of(2**64 - 1).tolist(), "and goes on as the other does"
    other.write(2**64 - 1, None)
    assert len(other) == 0
    assert other.read(2**64 - 1) is None


def test_who_is_told_of_more_people_than_there_is_room_for_keeps_the_last() -> None:
    personal, known = Personal(2, WIDTH), np.ones(WIDTH + 1, np.float32)
    for key in (1, 2, 3):
        personal.write(key, known)
    assert [personal.read(key) is not None for key in (1, 2, 3)] == [False, True, True]
    nobody = Personal(0, WIDTH)
    nobody.write(1, known)
    assert len(nobody) == 0


@pytest.mark.parametrize(
    "known",
    [
        np.ones(WIDTH, np.float32),
        np.ones((1, WIDTH + 1), np.float32),
        np.full(WIDTH + 1, np.nan, np.float32),
        np.zeros(WIDTH + 1, np.float32),
        np.full(WIDTH + 1, 1e6, np.float32),
    ],
)
def test_what_cannot_be_known_of_anybody_does_not_fit(known: np.ndarray) -> None:
    assert not Personal(4, WIDTH).fits(known)


def test_it_says_of_whom_something_else_will_be_known() -> None:
    personal, said, before = Personal(2, WIDTH), list[int](), list[bool]()

    def changing(key: int) -> None:
        said.append(key)
        before.append(personal.read(key) is not None)

    personal.changing = changing
    for key in (1, 2, 3):  # 1 leaves for 3
        personal.learn(key, pull(0))
    personal.forget(2)
    personal.forget(2)
    personal.write(4, np.ones(WIDTH + 1, np.float32))
    personal.write(4, None)
    assert said == [1, 2, 3, 1, 2]
    assert before == [False, False, False, True, True]


def test_it_is_put_back_as_it_was_and_only_whole() -> None:
    personal, back = Personal(3, WIDTH), Personal(3, WIDTH)
    for key in (5, 6, 7, 8):
        personal.learn(key, pull(key % WIDTH))
    personal.forget(7)
    back.restore({name: value.copy() if isinstance(value, np.ndarray) else value for name, value in personal.save().items()})
    for one in (personal, back):
        one.learn(9, pull(1))
    for key in range(10):
        assert back.of(key).tolist() == personal.of(key).tolist()
    assert len(back) == len(personal) == 2, "8 and 9: 6 had to leave"
    with pytest.raises(Misfit):
        back.restore(personal.save() | {"counts": personal.counts[:1]})
