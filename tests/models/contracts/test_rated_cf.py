from __future__ import annotations

import io
import math
import random

import numpy as np
import pytest

from models import Click, Config, Recommender, Review, snapshot
from models.interning import key64
from models.rating_neighbours import Raters
from tests.models.contracts.suite import LATE, SourceContract
from tests.models.naive import Naive
from tests.models.state import ask, evidence, full_state, scores
from tests.models.streams_of import BEGIN, HOUR, Change, shop
from tests.models.test_snapshot import CONSTANT, SMALL, unnamed, walked

BOTH = ("user_cf_pearson", "item_cf_adjusted")


def rate(user: str, item: str, stars: float, at: int = 1) -> Review:
    return Review(event_id=f"{user}-{item}-{at}", user_id=user, item_id=item, rating=stars, timestamp_ms=at)


def opinions(ratings: dict[str, dict[str, float]]) -> list[Change]:
    """What users think of items, said one after the other."""
    said = [(user, item, stars) for user, rated in ratings.items() for item, stars in rated.items()]
    return [rate(user, item, stars, at) for at, (user, item, stars) in enumerate(said, 1)]


def model(log: list[Change], **parameters: object) -> Recommender:
    given = {"sources": ("rated_cf",), "fusion": "rrf", "factors": 0, "repeats": "never", "rated_shrink": 0.0}
    tested = Recommender(Config(**{**given, **parameters}))  # type: ignore[arg-type]
    for event in log:
        tested.learn(event)
    return tested


class TestRatedCF(SourceContract):
    registered = "rated_cf"
    sources = BOTH

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        return naive.user_cf_pearson(user) if source == "user_cf_pearson" else naive.item_cf_adjusted(user)

    def test_checkerboard(self) -> None:
        """Even users like even items, odd users odd ones, and all say so: of two items kept from each user the one is found that
        goes with the rest, and the other is not."""
        withheld = {f"u{k}": (f"i{2 * (k // 2)}", f"i{2 * (k // 2) + 1}") for k in range(20)}
        log = opinions({
            user: {f"i{j}": 5.0 if j % 2 == k % 2 else 1.0 for j in range(20) if f"i{j}" not in withheld[user]}
            for k, user in enumerate(withheld)
        })  # fmt: skip
        tested = self.model(log)
        for k, (user, pair) in enumerate(withheld.items()):
            for source in self.names:
                assert list(scores(tested, source, user)) == [pair[k % 2]]


class TestRatedCFOfFew(TestRatedCF):
    """Bounds that matter in small logs: some of the rated items, of the peers, and nothing shrunk."""

    config = Config(rated_items=3, rated_neighbours=2, rated_shrink=0.0, rated_decay=0.5, positive_rating=2.0)


# ------------------------------------------------------------------------------------------------ by hand
def test_by_hand() -> None:
    """ada: a 5, b 3 (mean 4). bob: a 5, b 1, c 5, d 1 (mean 3), Pearson 1 over a and b. cyd: a 1, b 5, d 4, Pearson -1.

    UserCF: c gets 1 * (5 - 3), and d, which bob dislikes, nothing. ItemCF, adj(c, .) over bob alone: 1 with a, -1 with b; ada's
    newest is b with 3 - 4 + 1 = 0, a is one older, .9 * (5 - 4 + 1)."""
    tested = model(opinions({
        "bob": {"a": 5, "b": 1, "c": 5, "d": 1}, "cyd": {"a": 1, "b": 5, "d": 4}, "ada": {"a": 5, "b": 3},
    }))  # fmt: skip
    assert scores(tested, "user_cf_pearson", "ada") == pytest.approx({"c": 2.0})
    assert scores(tested, "item_cf_adjusted", "ada") == pytest.approx({"c": 1.8})


def test_what_one_common_rating_says_is_shrunk() -> None:
    log = opinions({"bob": {"a": 5, "c": 4, "d": 2}, "ada": {"a": 5, "b": 3}})
    whole, shrunk = (scores(model(log, rated_shrink=s), "user_cf_pearson", "ada")["c"] for s in (0.0, 3.0))
    assert shrunk == pytest.approx(whole / 4)


def test_who_gives_all_items_the_same_rating_gets_candidates() -> None:
    for stars in (1.0, 3.0, 5.0):
        log = opinions({"bob": {"a": 5, "b": 1, "c": 5}, "cyd": {"a": 4, "b": 2, "c": 4}, "ada": {"a": stars}})
        assert list(scores(model(log), "item_cf_adjusted", "ada")) == ["c"]


def test_among_equal_peers_the_smaller_key_decides_not_who_came_first() -> None:
    names = [f"peer {k}" for k in range(9)]
    for seed in range(3):
        random.Random(seed).shuffle(names)
        log = opinions({name: {"a": 5, "b": 1, name: 4} for name in names} | {"ada": {"a": 5, "b": 3}})
        found = scores(model(log, rated_neighbours=4), "user_cf_pearson", "ada")
        assert set(found) == set(sorted(names, key=key64)[:4])


def test_only_ratings_speak() -> None:
    log: list[Change] = [
        Click(event_id=f"{user}{item}", user_id=user, item_id=item, timestamp_ms=1)
        for user, items in {"bob": "abc", "ada": "ab"}.items() for item in items
    ]  # fmt: skip
    tested = model(log)
    assert [scores(tested, source, "ada") for source in BOTH] == [{}, {}]


# ------------------------------------------------------------------------------------------------ reasons
def test_reasons_count_the_peers_in_favour_and_name_liked_items() -> None:
    tested = model(opinions({
        "bob": {"a": 5, "b": 1, "c": 5}, "cyd": {"a": 5, "b": 2, "c": 4}, "dan": {"a": 5, "b": 1, "c": 2},
        "ada": {"a": 5, "b": 1},
    }))  # fmt: skip
    [line] = tested.recommend("ada", 5)
    kinds = {reason.kind: reason for reason in line.reasons}
    assert kinds["similar_raters"].count == 2, "dan rates c below the mean"
    assert kinds["rated_alike"].item_id == "a"
    assert "2 people who rate as you do think well of it" in tested.explain(line)
    assert "people rate it as they rate a" in tested.explain(line)
    assert math.isclose(sum(reason.weight for reason in line.reasons), line.score)


def test_evidence_is_a_part_of_all_that_speaks_for_an_item() -> None:
    """ada likes a and dislikes b, and both speak for c: what is liked by those who like a and dislike b."""
    tested = model(opinions({"bob": {"a": 5, "b": 1, "c": 5}, "ada": {"a": 4, "b": 1, "x": 4}}), rated_decay=1.0)
    query = ask(tested, "ada")
    tested.asking.candidates(query, complete=False)
    item = np.array([tested.history.items.get("c")], np.int32)
    room = evidence(tested.sources[1], query, item)
    assert room.item[0].tolist() == [tested.history.items.get("a"), -1]
    assert room.fraction[0].tolist() == pytest.approx([2 / 3, 0.0]), "a says 4 - 3 + 1, b -(1 - 3 + 1)"


# ------------------------------------------------------------------------------------------------ state
def test_nothing_follows_the_history_where_it_is_not_in_use() -> None:
    def raters(tested: Recommender) -> list[str]:
        return [path for path, thing, *_ in walked(tested) if isinstance(thing, Raters)]

    assert raters(Recommender()) == []
    assert raters(Recommender(Config(also=("rated_cf",))))
    assert {*BOTH} <= {source.name for source in Recommender(Config(also=("rated_cf",))).sources}
    assert not [path for path in Recommender().save() if "raters" in path]


@pytest.mark.parametrize(("gone", "left"), [BOTH, BOTH[::-1]])
def test_each_works_without_the_other(gone: str, left: str) -> None:
    log = shop(1, users=10, items=20, events=300)
    alone, both = model(log, without=(gone,)), model(log)
    assert [source.name for source in alone.sources] == [left]
    assert alone.sizes()["rater_cells"][0] > 0
    for user in (f"u{k}" for k in range(10)):
        assert scores(alone, left, user) == scores(both, left, user)


def test_what_is_restored_is_the_same_and_stays_the_same() -> None:
    small = {**SMALL, "also": ("rated_cf",)}
    log = shop(2, users=100, items=30, events=1500)
    tested, other = (Recommender(Config(**small)) for _ in range(2))  # type: ignore[arg-type]
    for event in log[:1000]:
        tested.learn(event)
    raw = b"".join(snapshot.frames(snapshot.Meta(settings=snapshot.fingerprint(tested.config)), tested.save()))
    other.restore(snapshot.read(io.BytesIO(raw).readinto, len(raw))[1])
    for event in log[1000:]:
        assert tested.learn(event) == other.learn(event)
    assert full_state(tested) == full_state(other)
    for user in (f"u{k}" for k in range(100)):
        assert tested.recommend(user) == other.recommend(user)


def test_everything_that_changes_is_named_as_state_or_as_scratch() -> None:
    config = Config(sources=("rated_cf",), **SMALL)  # type: ignore[arg-type]
    plain = {path: value for path, _, _, value in walked(Recommender(config)) if isinstance(value, CONSTANT)}
    tested = Recommender(config)
    for event in shop(1, users=90, items=30, events=900):
        tested.learn(event)
    tested.recommend("u1", 20)
    assert unnamed(tested, plain) == []


def test_ratings_taken_back_are_gone() -> None:
    log = opinions({"bob": {"a": 5, "b": 1, "c": 5}, "ada": {"a": 5, "b": 3}})
    tested = model(log)
    assert [list(scores(tested, source, "ada")) for source in BOTH] == [["c"], ["c"]]
    tested.learn(Click(event_id="back", user_id="bob", item_id="c", timestamp_ms=LATE, retracts=log[2].event_id))  # type: ignore[union-attr]
    assert [list(scores(tested, source, "ada")) for source in BOTH] == [[], []]


def test_the_newest_rating_is_the_opinion() -> None:
    log = opinions({"bob": {"a": 5, "b": 1, "c": 5}, "ada": {"a": 5, "b": 3}})
    tested = model([*log, rate("bob", "c", 1.0, at=BEGIN + HOUR)])
    assert [scores(tested, source, "ada") for source in BOTH] == [{}, {}]
