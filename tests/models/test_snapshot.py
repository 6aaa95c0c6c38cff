"""State as bytes and back: nothing forgotten, nothing trusted, and no difference ever after."""

from __future__ import annotations

import io
import random
import types
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Click, Config, Erasure, Recommender, snapshot
from models.attribution import RecentIds, ServedLists
from models.events import CausedBy, Item, RecommendationList, Recommended
from models.interning import key64
from models.kept import Kept
from models.text_ranking import ItemTexts
from tests.models.snapshots_of import (
    SMALL,
    background,
    read,
    restored,
    some,
    written,
)
from tests.models.state import full_state
from tests.models.streams_of import BEGIN, HOUR, Change, interleaved, shop, streams


# ------------------------------------------------------------------------------------------------ nothing is forgotten
def attributes(thing: object) -> dict[str, Any]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**{name: getattr(thing, name) for name in slots if hasattr(thing, name)}, **getattr(thing, "__dict__", {})}


def parts_of(value: object) -> list[object]:
    """Objects of the model's own classes, in a list as well."""
    values = value if isinstance(value, list | tuple) else [value]
    return [v for v in values if type(v).__module__.startswith("models.")]


def walked(root: object) -> Iterator[tuple[str, object, str, Any]]:
    """(path, object, attribute, value) of everything that can be reached, without what is called scratch."""
    waiting, met = [("model", root)], set()
    while waiting:
        path, thing = waiting.pop()
        if id(thing) in met:
            continue
        met.add(id(thing))
        scratch = type(thing).named("scratch") if isinstance(thing, Kept) else ()
        for name, value in attributes(thing).items():
            if name in scratch:
                continue
            yield f"{path}.{name}", thing, name, value
            waiting += [(f"{path}.{name}[{k}]", part) for k, part in enumerate(parts_of(value))]


CONSTANT = (type(None), str, bytes, bool, int, float, tuple, type, types.FunctionType, types.MethodType, msgspec.Struct)


def unnamed(model: Recommender, plain: Mapping[str, Any]) -> list[str]:
    """What could hold state and is named neither as state nor as scratch. `plain`: the numbers of a model that knows nothing."""
    found = []
    for path, thing, name, value in walked(model):
        named = isinstance(thing, Kept) and name in type(thing).named("kept")
        changed = isinstance(value, bool | int | float | str | tuple) and path in plain and plain[path] != value
        holds = not isinstance(value, CONSTANT) and not parts_of(value)
        if (holds or changed) and not named:
            found.append(path)
    return found


@pytest.mark.parametrize("fusion", ["learned", "rrf", "weighted"])
def test_everything_that_changes_is_named_as_state_or_as_scratch(fusion: Any) -> None:
    config = Config(fusion=fusion, diversity=0.2, **SMALL)
    plain = {path: value for path, _, _, value in walked(Recommender(config)) if isinstance(value, CONSTANT)}
    model = Recommender(config)
    for event in [*background(1, 12), *shop(1, users=90, items=30, events=900)]:
        model.learn(event)
    model.recommend("u1", 20)
    model.predict("u1", "i1")
    assert unnamed(model, plain) == []


def test_the_walk_finds_what_is_not_named() -> None:
    model = Recommender(Config(**SMALL))
    plain = {path: value for path, _, _, value in walked(model) if isinstance(value, CONSTANT)}
    assert unnamed(model, plain) == []
    popularity = next(source for source in model.sources if source.name == "popularity")
    popularity.hidden = np.zeros(3)  # type: ignore[attr-defined]
    model.history.items.secret = {1: 2}  # type: ignore[attr-defined]
    model.vectors.bound += 1
    assert len(unnamed(model, plain)) == 3


# ------------------------------------------------------------------------------------------------ no difference ever after
def same(one: Recommender, other: Recommender) -> None:
    assert full_state(one) == full_state(other)
    assert one.digest() == other.digest()
    assert one.checksum() == other.checksum()
    for user in [*one.history.users._index, "a stranger"]:
        assert one.recommend(user, 12) == other.recommend(user, 12)
        assert one.predict(user, "i1") == other.predict(user, "i1")
        assert one.similar_users(user) == other.similar_users(user)
    assert one.popular(20) == other.popular(20)
    assert one.similar_items("i1") == other.similar_items("i1")


@settings(max_examples=40)
@given(streams(users=5, items=9, most=14), st.integers(0, 99), st.floats(0, 1), st.sampled_from(["learned", "rrf"]))
def test_what_is_restored_is_the_same_and_stays_the_same(
    by_user: dict[str, list[Change]], seed: int, share: float, fusion: Any
) -> None:
    """Whatever comes after: events, lists, vectors, items that go, people that are forgotten."""
    log = interleaved(by_user, seed)
    entries = background(seed, 9)
    random.Random(seed).shuffle(entries)
    everything = [*entries[:9], *log[: int(share * len(log))]]
    model = Recommender(Config(fusion=fusion, **SMALL))
    for event in everything:
        model.learn(event)
    other = restored(model)
    same(model, other)
    for event in [*entries[9:], *log[int(share * len(log)) :]]:
        assert model.learn(event) == other.learn(event)
    assert model.remove_item("i3") == other.remove_item("i3")
    same(model, other)


@pytest.mark.parametrize("seed", range(3))
def test_also_where_every_bound_is_reached(seed: int) -> None:
    """Users, items, pairs, vectors and factors leave, and their places are given again, in the same order."""
    model = Recommender(Config(**SMALL))
    log: list[Any] = [
        msgspec.structs.replace(event, context={"device": f"d{k % 5}", "country": f"c{k % 7}"}) if k % 3 else event
        for k, event in enumerate(shop(seed, users=200, items=150, events=2500))
    ]
    for k, entry in enumerate(background(seed, 40)):
        log.insert(k * 50, entry)
    for event in log[:1700]:
        model.learn(event)
    assert model.ignored()["forgotten_users"] > 0
    other = restored(model)
    for event in log[1700:]:
        assert model.learn(event) == other.learn(event)
    same(model, other)


def test_a_snapshot_of_a_restored_model_is_the_same_bytes() -> None:
    model = Recommender(Config(**SMALL))
    for event in shop(3, users=40, items=30, events=400):
        model.learn(event)
    assert written(restored(model)) == written(model)


def test_a_restored_model_shares_nothing_with_the_one_it_came_from() -> None:
    model = Recommender(Config(**SMALL))
    log = shop(5, users=20, items=20, events=300)
    for event in log[:200]:
        model.learn(event)
    raw, other = written(model), restored(model)
    for event in log[200:]:
        model.learn(event)
    assert written(other) == raw


def test_what_was_served_and_seen_comes_back_in_its_order() -> None:
    served, seen, texts = ServedLists(max_users=3, lists_per_user=2), RecentIds(3), ItemTexts(3)
    for k, user in enumerate(["ada", "bob", "cid", "ada", "dan", "ada"]):
        lines = [Recommended(item_id=f"i{j}", rank=j, score=1.0, sources={}, reasons=[]) for j in range(k)]
        cause = CausedBy(event_id="e", timestamp_ms=k)
        served.put(RecommendationList(
            user_id=user, list_id=f"l{k}", generated_at_ms=0, log_offset=9 - k, caused_by=cause, arm=f"a{k}", items=lines,
        ))  # fmt: skip
        seen.add(f"{k % 4}")
        texts.entry(Item(item_id=user, title=f"title {k}", description="said" * k))
        texts.say(f"i{k}", "words")
    for one, other in (
        (served, ServedLists(max_users=3, lists_per_user=2)),
        (seen, RecentIds(3)),
        (texts, ItemTexts(3)),
    ):
        other.restore(read(written(one))[1])
        assert written(other) == written(one)
        for name in type(one).named("kept"):
            assert getattr(one, name) == getattr(other, name)
            assert [*getattr(one, name)] == [*getattr(other, name)]
            assert getattr(one, name), "there was something"


# ------------------------------------------------------------------------------------------------ which model it fits
OTHER: dict[str, Any] = {
    "repeats": "always", "diversity_by": "categories", "pin": ("i1",), "block": ("item:i2",), "boost": ("item:i3=2",),
    "cap": ("*=2",), "returning": 0.2, "newcomer_events": 2, "half_lives_hours": (1.0,), "fusion": "weighted",
    "sources": ("text",), "positive_rating": 4.0, "diversity": 0.3, "calibration": 0.3, "alpha": 0.3, "beta": 0.3, "gamma": 0.3,
}  # fmt: skip


def changed(name: str) -> Config:
    """A configuration that differs in one parameter."""
    default = getattr(Config(), name)
    if name not in OTHER:
        OTHER[name] = default / 2 if isinstance(default, float) else default - 1 if default else 1
    return msgspec.structs.replace(Config(), **{name: OTHER[name]})


@pytest.mark.parametrize("name", Config.__struct_fields__)
def test_a_parameter_either_shapes_the_state_or_is_told_apart(name: str) -> None:
    """A snapshot fits another parameter exactly where the state does not depend on it."""
    other = changed(name)
    assert getattr(other, name) != getattr(Config(), name)
    if snapshot.differences(snapshot.fingerprint(Config()), other):
        assert snapshot.differences(snapshot.fingerprint(Config()), other)[0].startswith(f"{name} was ")
        return
    states = []
    for config in (Config(), other):
        model = Recommender(config)
        for event in [*background(4, 12), *shop(4, users=12, items=12, events=150)]:
            model.learn(event)
        gradient = model.learned()
        states.append({path: value for path, value in model.save().items() if path not in gradient})
    assert snapshot.checksum(states[0]) == snapshot.checksum(states[1])


def test_the_same_parameters_fit_after_they_were_written_and_read() -> None:
    config = Config(half_lives_hours=(1.0, 7.5), sources=("item_cf", "text"))
    meta, _ = read(written(Recommender(config), config))
    assert snapshot.differences(meta.settings, config) == []
    assert snapshot.differences(meta.settings, Config(sources=("item_cf", "text"))) == [
        "half_lives_hours was [1.0, 7.5] and is [12.0, 72.0, 720.0]"
    ]
    older = {**meta.settings, "fold": snapshot.FOLD - 1}
    assert len(snapshot.differences(older, config)) == 1


def test_the_meta_can_be_read_alone() -> None:
    meta = snapshot.read_meta(io.BytesIO(some()[:4000]).readinto)
    assert meta.settings["fold"] == snapshot.FOLD


def test_times_are_event_times_and_go_too() -> None:
    model = Recommender(Config(**SMALL))
    for event in shop(9, users=3, items=4, events=30):
        model.learn(event)
    assert restored(model).history.now_ms == model.history.now_ms == BEGIN + 29 * HOUR


def test_nothing_of_the_forgotten_lies_about_in_freed_memory() -> None:
    """Not even the hashes of what they did."""
    model = Recommender(Config())
    for k in range(100):
        model.learn(Click(event_id=f"theirs{k}", user_id="ada", item_id=f"i{k % 30}", timestamp_ms=BEGIN + k))
        model.learn(Click(event_id=f"his{k}", user_id="bob", item_id=f"i{k % 7}", timestamp_ms=BEGIN + k))
    theirs = [key64(f"theirs{k}").to_bytes(8, "little") for k in range(100)]
    before = written(model)
    assert all(key in before for key in theirs)
    model.learn(Erasure(request_id="q", user_id="ada", timestamp_ms=BEGIN + 1000))
    after = written(model)
    assert not any(key in after for key in theirs)
    assert key64("his3").to_bytes(8, "little") in after
