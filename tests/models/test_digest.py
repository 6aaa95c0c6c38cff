"""The digest: equal exactly where the exact states are, in whatever way they came about."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Click, Config, Purchase, Recommender, Review, digest, snapshot
from models.history import KINDS
from tests.models.naive import Naive
from tests.models.streams_of import BEGIN, HOUR, Change, interleaved, shop, streams

CONFIG = Config(window_events=8, fusion="rrf", factors=0, sources=("item_cf", "popularity"))


def of(log: list[Any], config: Config = CONFIG) -> str:
    model = Recommender(config)
    for event in log:
        model.learn(event)
    return model.digest()


def remembered(log: list[Change]) -> object:
    """The exact state by the naive twin: everything else follows from the events that are remembered."""
    naive = Naive(CONFIG)
    for event in log:
        naive.learn(event)
    return {
        user: sorted((e.timestamp_ms, e.event_id, e.item, KINDS[e.kind], e.rating) for e in naive.events(user) if e.item)
        for user in naive.users()
        if any(e.item for e in naive.events(user))
    }


@settings(max_examples=60)
@given(streams(users=4, items=4, most=6), streams(users=4, items=4, most=6), st.integers(0, 9), st.integers(0, 9))
def test_it_is_equal_exactly_where_what_is_remembered_is(
    one: dict[str, list[Change]], other: dict[str, list[Change]], seed: int, mix: int
) -> None:
    left = interleaved(one, seed)
    right = interleaved({user: (other if k < mix % 4 else one).get(user, []) for k, user in enumerate({**one, **other})}, mix)
    assert (of(left) == of(right)) == (remembered(left) == remembered(right))


@settings(max_examples=40)
@given(streams(users=5, items=6, most=10), st.data())
def test_crashes_snapshots_and_interleavings_do_not_matter(by_user: dict[str, list[Change]], data: st.DataObject) -> None:
    """The process is saved, and started again from what was saved, at random points."""
    log = interleaved(by_user, data.draw(st.integers(0, 99)))
    model, saved, at, crashes = Recommender(CONFIG), b"", 0, 0
    saved_at = 0
    while at < len(log):
        model.learn(log[at])
        at += 1
        match data.draw(st.sampled_from(["go on", "go on", "go on", "save", "crash"])):
            case "save":
                meta = snapshot.Meta(settings=snapshot.fingerprint(CONFIG))
                saved, saved_at = b"".join(snapshot.frames(meta, model.save())), at
            case "crash" if crashes < 5:
                crashes += 1
                model, at = Recommender(CONFIG), saved_at
                if saved:
                    model.restore(snapshot.read(io.BytesIO(saved).readinto, len(saved))[1])
    assert model.digest() == of(interleaved(by_user, data.draw(st.integers(0, 99))))


@pytest.mark.parametrize(
    "changed",
    [
        Click(event_id="e9", user_id="ada", item_id="x", timestamp_ms=BEGIN + HOUR),
        Click(event_id="e1", user_id="bob", item_id="x", timestamp_ms=BEGIN + HOUR),
        Click(event_id="e1", user_id="ada", item_id="y", timestamp_ms=BEGIN + HOUR),
        Click(event_id="e1", user_id="ada", item_id="x", timestamp_ms=BEGIN + HOUR + 1),
        Purchase(event_id="e1", user_id="ada", item_id="x", timestamp_ms=BEGIN + HOUR),
        Review(event_id="e1", user_id="ada", item_id="x", timestamp_ms=BEGIN + HOUR, rating=5),
    ],
)
def test_everything_about_an_event_is_in_it(changed: Any) -> None:
    before = [Click(event_id="e0", user_id="ada", item_id="y", timestamp_ms=BEGIN)]
    assert of([*before, changed]) != of([*before, Click(event_id="e1", user_id="ada", item_id="x", timestamp_ms=BEGIN + HOUR)])


def test_the_stars_of_a_rating_are_in_it() -> None:
    digests = {
        of([Review(event_id="e", user_id="u", item_id="i", timestamp_ms=BEGIN, rating=stars)]) for stars in (1, 2, 4.5, 5)
    }  # fmt: skip
    assert len(digests) == 4


def test_ids_cannot_be_moved_into_one_another() -> None:
    one = [Click(event_id="e", user_id="ab", item_id="c", timestamp_ms=BEGIN)]
    assert of(one) != of([msgspec.structs.replace(one[0], user_id="a", item_id="bc")])
    assert of([]) == of([])


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_in_what_pieces_rows_are_looked_at_does_not_show(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = list(shop(5, users=10, items=9, events=200))
    whole = of(log)
    monkeypatch.setattr(digest, "_USERS", rows)
    monkeypatch.setattr(digest, "_ITEMS", rows)
    assert of(log) == whole
    for k in range(190, 200):
        assert of([*log[:k], msgspec.structs.replace(log[k], event_id="another"), *log[k + 1 :]]) != whole


def test_users_of_whom_only_tombstones_are_left_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they move others from one piece into the next."""
    monkeypatch.setattr(digest, "_USERS", 2)
    log: list[Any] = list(shop(6, users=5, items=5, events=50))
    gone = [Click(event_id=f"g{k}", user_id=f"u0{k}", item_id="x", timestamp_ms=BEGIN) for k in range(3)]
    back = [msgspec.structs.replace(event, event_id=f"{event.event_id}r", retracts=event.event_id) for event in gone]
    assert of([*gone, *log, *back]) == of(log)
    assert of([*gone, *back]) == of([])
