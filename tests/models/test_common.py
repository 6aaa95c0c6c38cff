"""What one model learns for all: another that takes it over weighs as the first does, and takes nothing that would harm it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models import Config, Recommender, snapshot
from models.interning import key64
from models.kept import Kept, Misfit, Saved
from models.snapshot import Meta
from tests.models.state import full_state
from tests.models.streams_of import shop

SMALL: dict[str, Any] = {"embedding_dim": 4, "repeats": "always", "context_values": 3}


def learned(*, train: bool, **config: Any) -> Recommender:
    model = Recommender(Config(**{**SMALL, **config}))
    for event in shop(1, users=20, items=30, events=400):
        model.learn(event, train=train)
    return model


@pytest.fixture(scope="module")
def trainer() -> Recommender:
    return learned(train=True)


def sent(model: Recommender) -> Saved:
    """What goes from one to the other: nothing of it is shared memory."""
    raw = b"".join(snapshot.frames(Meta(settings={}), model.common()))
    return snapshot.read(io.BytesIO(raw).readinto, len(raw))[1]


def hand_over_people(trainer: Recommender, other: Recommender) -> None:
    """What is known of single people goes beside it, one by one."""
    for one, its in zip(trainer.fusion.trusts, other.fusion.trusts, strict=True):  # type: ignore[attr-defined]
        for k in range(20):
            its.write(key64(f"u{k}"), one.read(key64(f"u{k}")))


def lists(model: Recommender) -> list[Any]:
    return [model.recommend(f"u{k}", 10, context={"device": "phone"}, repeats=k % 2 == 0) for k in range(20)]


def test_who_takes_over_makes_the_lists_of_the_trainer_and_goes_on_as_it_does(trainer: Recommender) -> None:
    follower, witness = learned(train=False), learned(train=True)
    assert lists(follower) != lists(trainer)
    exact = follower.digest()
    follower.adopt(sent(trainer))
    assert snapshot.checksum(follower.common()) == snapshot.checksum(trainer.common())
    assert lists(follower) != lists(trainer), "it does not know yet whom people trust"
    hand_over_people(trainer, follower)
    assert lists(follower) == lists(trainer)
    assert follower.digest() == exact, "the exact state is no part of it"
    for event in shop(2, users=20, items=30, events=200):
        witness.learn(event)
        follower.learn(event)
    assert snapshot.checksum(follower.common()) == snapshot.checksum(witness.common())
    assert snapshot.checksum(follower.common()) != snapshot.checksum(trainer.common())


def test_it_is_the_fusion_and_its_contexts() -> None:
    paths = {path.rsplit(".", 1)[0] for path in Recommender().common()}
    assert paths == {"fusion.new", "fusion.again", "fusion.contexts.values"}
    assert not Recommender(Config(fusion="rrf")).common()


def test_a_model_that_learns_nothing_of_the_kind_has_nothing_to_give() -> None:
    assert Kept().common() == {}


def spoilt(path: str, change: Callable[[Any], Any]) -> Callable[[Saved], None]:
    def spoil(saved: Saved) -> None:
        saved[path] = change(saved[path])

    spoil.__name__ = path
    return spoil


def hole(array: Any) -> Any:
    array.reshape(-1)[-1] = np.nan
    return array


SPOILT = [
    spoilt("fusion.new.weights", hole),
    spoilt("fusion.again.inverse", hole),
    spoilt("fusion.new.weights", lambda array: array[:-1]),
    spoilt("fusion.new.weights", lambda array: array.astype(np.float32)),
    spoilt("fusion.again.squares", lambda array: array * 0.0),
    spoilt("fusion.again.steady_squares", lambda array: array * 0.0),
    spoilt("fusion.again.matrix", lambda _: [1, 2]),
    spoilt("fusion.new.steps", lambda _: -1),
    spoilt("fusion.new.steps", lambda _: "many"),
    spoilt("fusion.new.tested", lambda _: None),
    spoilt("fusion.contexts.values.names", lambda _: ["a=1", "a=1"]),
    spoilt("fusion.contexts.values.names", lambda _: ["a", "b", "c", "d"]),
    spoilt("fusion.contexts.values.names", lambda _: [1, 2]),
    spoilt("fusion.contexts.values.free", lambda _: [0]),
    spoilt("fusion.contexts.values.order", lambda array: array + 1),
    spoilt("fusion.contexts.values.keys", lambda array: array[:0]),
    lambda saved: saved.pop("fusion.new.steps"),
    lambda saved: saved.update(extra=1),
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_would_harm_is_refused_and_nothing_changed(trainer: Recommender, spoil: Callable[[Saved], None]) -> None:
    trainer.fusion.contexts.values.add("device=phone")  # type: ignore[attr-defined]
    saved, follower = sent(trainer), learned(train=False)
    before = full_state(follower)
    spoil(saved)
    with pytest.raises(Misfit):
        follower.adopt(saved)
    assert full_state(follower) == before
    follower.adopt(sent(trainer))


def test_the_layout_tells_apart_what_cannot_be_exchanged() -> None:
    layout = Recommender(Config()).layout()
    assert Recommender(Config(max_users=1000, fusion_rate=1.0)).layout() == layout, "bounds and rates give no weight its meaning"
    for other in (Config(fusion="rrf"), Config(context_values=3), Config(without=("ease",)), Config(half_lives_hours=(1.0,))):
        assert Recommender(other).layout() != layout
