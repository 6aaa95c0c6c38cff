"""The recommender as a whole, against its naive twin and by hand."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Click, Config, Erasure, Interaction, Item, ItemVector, Purchase, Recommender, Review
from models.explain import MORE, WORDS
from tests.models.naive import Naive
from tests.models.state import full_state
from tests.models.streams_of import BEGIN, HOUR, Change, interleaved, shop, streams

EXACT = ("item_cf", "user_cf", "popularity", "trending")


def exact(**parameters: object) -> Recommender:
    """Only what follows from the remembered events."""
    return Recommender(Config(**{"sources": EXACT, "fusion": "rrf", "factors": 0, "repeats": "never", **parameters}))  # type: ignore[arg-type]


def click(user: str, item: str, k: int, **more: str) -> Click:
    return Click(event_id=more.pop("event_id", f"e{k}"), user_id=user, item_id=item, timestamp_ms=BEGIN + k * HOUR, **more)


def learned(model: Recommender, log: list[Change]) -> Recommender:
    for event in log:
        model.learn(event)
    return model


# ------------------------------------------------------------------------------------------------ properties
@settings(max_examples=60)
@given(streams(), st.integers(0, 99))
def test_the_digest_does_not_depend_on_how_users_interleave(by_user: dict[str, list[Change]], seed: int) -> None:
    one = learned(exact(window_events=8), interleaved(by_user, seed))
    other = learned(exact(window_events=8), interleaved(by_user, seed + 100))
    assert one.digest() == other.digest()
    for user in by_user:
        assert one.recommend(user, 20) == other.recommend(user, 20)
        assert one.predict(user, "i1") == other.predict(user, "i1")


@settings(max_examples=60)
@given(streams(), st.integers(0, 99))
def test_lists_equal_the_naive_recomputation(by_user: dict[str, list[Change]], seed: int) -> None:
    """Reciprocal rank fusion of naive scores; the order among equals is the model's own, so scores are compared."""
    model = exact(sources=("item_cf", "user_cf"), window_events=8)
    naive = Naive(model.config)
    for event in interleaved(by_user, seed):
        model.learn(event)
        naive.learn(event)
    assert model.history.now_ms == naive.now_ms
    for user in by_user:
        items = {line.item_id: line for line in model.recommend(user, 50)}
        wanted = {"item_cf": naive.item_cf(user), "user_cf": naive.user_cf(user)}
        expected = {i for scores in wanted.values() for i in scores} - naive.seen(user)
        assert set(items) == expected
        for name, scores in wanted.items():
            for item, line in items.items():
                if item not in scores:
                    assert name not in line.sources
                    continue
                higher = sum(v > scores[item] * (1 + 1e-9) for i, v in scores.items() if i in items)
                equal = sum(abs(v / scores[item] - 1) <= 1e-9 for i, v in scores.items() if i in items)
                rank = 1 / line.sources[name] - model.config.rrf_k
                assert higher + 1 - 1e-6 <= rank <= higher + equal + 1e-6


@settings(max_examples=40)
@given(streams(), st.integers(0, 99), st.sampled_from(["rrf", "weighted"]))
def test_shares_and_reasons_sum_to_the_score(by_user: dict[str, list[Change]], seed: int, fusion: str) -> None:
    model = learned(Recommender(Config(fusion=fusion, factors=0)), interleaved(by_user, seed))  # type: ignore[arg-type]
    for user in [*by_user, "a stranger"]:
        lines = model.recommend(user, 10)
        assert [line.rank for line in lines] == list(range(1, len(lines) + 1))
        assert [line.score for line in lines] == sorted((line.score for line in lines), reverse=True)
        for line in lines:
            assert line.score > 0
            assert math.isclose(sum(line.sources.values()), line.score, abs_tol=1e-9)
            assert math.isclose(sum(why.weight for why in line.reasons), line.score, abs_tol=1e-9)
            assert set(line.sources) <= {source.name for source in model.sources}


@settings(max_examples=60)
@given(streams(), st.integers(0, 99))
def test_counts_equal_the_naive_ones(by_user: dict[str, list[Change]], seed: int) -> None:
    model = exact(window_events=8)
    naive = Naive(model.config)
    for event in interleaved(by_user, seed):
        model.learn(event)
        naive.learn(event)
    takers = {item: len(users) for item, users in naive.takers().items()}
    names = model.history.items
    held = {names.name(i): int(model.history.takers[i]) for i in names.sorted_indices()}
    assert {item: n for item, n in held.items() if n} == takers
    for user in by_user:
        for item in ("i0", "i1", "unknown"):
            assert math.isclose(model.predict(user, item), naive.predict(user, item), abs_tol=1e-9)
        for item, cosine in model.similar_items("i0", 50):
            both = len(naive.takers()["i0"] & naive.takers()[item])
            assert math.isclose(cosine, both / math.sqrt(takers["i0"] * takers[item]), rel_tol=1e-9)


@settings(max_examples=60)
@given(streams(), st.integers(0, 99), st.data())
def test_learn_says_whether_the_state_changed(by_user: dict[str, list[Change]], seed: int, data: st.DataObject) -> None:
    model = exact(window_events=8)
    log = interleaved(by_user, seed)
    last = data.draw(st.integers(0, max(0, len(log) - 1)))
    learned(model, log[:last])
    for event in log[last : last + 1]:
        before = {k: v for k, v in full_state(model).items() if k != "fold.ignored"}
        changed = model.learn(event)
        after = {k: v for k, v in full_state(model).items() if k != "fold.ignored"}
        if not changed:
            assert after == before


# ------------------------------------------------------------------------------------------------ what is shown
def test_own_items_come_back_only_where_repeats_are_wanted() -> None:
    log = [click("ada", "a", 1), click("bob", "a", 2), click("bob", "b", 3), click("ada", "c", 4), click("bob", "c", 5)]
    model = learned(exact(), log)
    assert {line.item_id for line in model.recommend("ada")} == {"b"}
    assert {line.item_id for line in model.recommend("ada", repeats=True)} == {"a", "b", "c"}
    always = learned(exact(repeats="always"), log)
    assert {line.item_id for line in always.recommend("ada")} == {"a", "b", "c"}
    assert {line.item_id for line in always.recommend("ada", repeats=False)} == {"b"}


def test_what_was_disliked_does_not_come_back_even_with_repeats() -> None:
    log: list[Change] = [click("ada", "a", 1), click("ada", "b", 2), click("bob", "b", 3)]
    log.append(Review(event_id="r", user_id="ada", item_id="b", timestamp_ms=BEGIN + 4 * HOUR, rating=2))
    assert {line.item_id for line in learned(exact(), log).recommend("ada", repeats=True)} == {"a"}


def test_a_low_rating_is_no_recommendation() -> None:
    model = exact()
    for k in range(5):
        model.learn(Review(event_id=f"r{k}", user_id=f"u{k}", item_id="bad", timestamp_ms=BEGIN + k, rating=1))
    model.learn(click("x", "good", 1))
    assert [line.item_id for line in model.popular()] == ["good"]
    assert [line.item_id for line in model.recommend("u1")] == ["good"]
    assert "bad" not in {line.item_id for line in model.recommend("x")}


def test_unavailable_and_removed_items_are_not_recommended_until_they_come_back() -> None:
    model = learned(exact(), [click("ada", "a", 1), click("bob", "b", 2)])
    assert model.learn(Item(item_id="a", available=False))
    assert [line.item_id for line in model.popular()] == ["b"]
    assert model.learn(Item(item_id="a", available=True))
    assert not model.learn(Item(item_id="a", available=True)), "nothing new"
    assert {line.item_id for line in model.popular()} == {"a", "b"}
    assert model.remove_item("b")
    assert not model.remove_item("b")
    model.learn(click("cleo", "b", 3))
    assert [line.item_id for line in model.popular()] == ["a"], "an event does not bring a removed item back"
    assert model.learn(Item(item_id="b"))
    assert {line.item_id for line in model.popular()} == {"a", "b"}


def test_an_item_known_only_from_a_retracted_event_is_not_recommended() -> None:
    model = learned(exact(), [click("ada", "a", 1), click("bob", "b", 2)])
    assert model.learn(click("ada", "a", 3, event_id="back", retracts="e1"))
    assert [line.item_id for line in model.popular()] == ["b"]
    assert [line.item_id for line in model.recommend("bob")] == []


def test_a_stranger_gets_what_is_popular() -> None:
    model = learned(exact(), [click(f"u{k}", "hit" if k % 3 else "miss", k) for k in range(9)])
    assert [line.item_id for line in model.recommend("stranger")] == ["hit", "miss"]
    assert model.recommend("stranger") == model.popular()


def test_every_kind_of_reason_has_words() -> None:
    model = Recommender()
    model.learn(Item(item_id="i1", categories=["books"]))
    model.learn(Item(item_id="i2", categories=["books"]))
    for k in range(12):
        vector = [1.0, k % 3, k % 2, 0.5]
        model.learn(ItemVector(item_id=f"i{k}", vector=struct.pack("<4f", *vector), texts=1, model="m"))
    learned(model, list(shop(1, users=8, items=12, events=120)))
    kinds = {why.kind for k in range(8) for line in model.recommend(f"u{k}") for why in line.reasons}
    assert len(kinds) > 4
    assert kinds <= {*WORDS, MORE}
    line = model.recommend("u1")[0]
    said = model.explain(line)
    assert said.startswith(f"{line.item_id}: ")
    assert "{" not in said


# ------------------------------------------------------------------------------------------------ retractions and edits
def test_what_several_sources_say_alike_is_one_reason() -> None:
    model = Recommender(Config(reasons_per_item=64))
    for event in shop(3, users=20, items=80, events=600):
        model.learn(event)
    both = 0
    for user in range(20):
        for line in model.recommend(f"u{user}", 20):
            said = [(reason.kind, reason.item_id, reason.text) for reason in line.reasons]
            assert len(set(said)) == len(said)
            both += {"neighbours_session", "neighbours_close"} <= line.sources.keys()
    assert both, "two sources that give the same kind of reason have found the same items"


def test_a_retraction_that_comes_first_keeps_its_target_out() -> None:
    model = exact()
    assert model.learn(click("ada", "a", 2, event_id="back", retracts="e1"))
    assert not model.learn(click("ada", "a", 1))
    assert model.digest() == exact().digest()
    assert model.learn(click("bob", "a", 1)), "the same id of another user is another event"


def test_a_retraction_works_on_own_events_only() -> None:
    model = learned(exact(), [click("ada", "a", 1)])
    before = model.digest()
    model.learn(click("eve", "a", 2, event_id="forged", retracts="e1"))
    assert model.digest() == before
    assert [line.item_id for line in model.popular()] == ["a"]


def test_a_retracted_event_stays_out_when_it_is_delivered_again() -> None:
    model = learned(exact(), [click("ada", "a", 1), click("ada", "a", 2, event_id="back", retracts="e1")])
    assert not model.learn(click("ada", "a", 1))
    assert not model.learn(click("ada", "a", 2, event_id="back", retracts="e1"))
    assert model.popular() == []


def test_an_edited_review_counts_once() -> None:
    model = exact()
    common = {"user_id": "ada", "item_id": "a"}
    model.learn(Review(event_id="r1", timestamp_ms=BEGIN, rating=1, **common))
    model.learn(Review(event_id="r2", timestamp_ms=BEGIN + 1, rating=5, retracts="r1", **common))
    only = exact()
    only.learn(Review(event_id="r2", timestamp_ms=BEGIN + 1, rating=5, **common))
    assert model.digest() == only.digest()
    assert model.predict("x", "a") == only.predict("x", "a") == 5.0
    model.learn(Review(event_id="r3", timestamp_ms=BEGIN + 2, retracts="r2", **common))
    assert model.digest() == exact().digest()


def test_a_bought_and_then_badly_reviewed_item_is_no_evidence() -> None:
    model = exact()
    model.learn(Purchase(event_id="p", user_id="ada", item_id="a", timestamp_ms=BEGIN))
    model.learn(Purchase(event_id="q", user_id="bob", item_id="a", timestamp_ms=BEGIN))
    model.learn(Purchase(event_id="s", user_id="ada", item_id="b", timestamp_ms=BEGIN))
    assert [item for item, _ in model.similar_items("a")] == ["b"]
    model.learn(Review(event_id="r", user_id="ada", item_id="a", timestamp_ms=BEGIN + 5, rating=1))
    assert model.similar_items("a") == []


# ------------------------------------------------------------------------------------------------ erasure
def test_late_events_of_an_erased_user_stay_out_and_new_ones_count() -> None:
    model = learned(exact(), [click("ada", "a", 1), click("ada", "b", 2), click("bob", "b", 3)])
    assert model.learn(Erasure(request_id="x", user_id="ada", timestamp_ms=BEGIN + 10 * HOUR))
    assert not model.learn(Erasure(request_id="x", user_id="ada", timestamp_ms=BEGIN + 10 * HOUR))
    assert not model.learn(click("ada", "a", 1))
    never = learned(exact(), [click("bob", "b", 3)])
    assert model.digest() == never.digest()
    assert model.recommend("ada") == never.recommend("ada")
    assert model.learn(click("ada", "c", 11))
    assert model.taste("ada") is None


def test_remembered_erasures_are_bounded() -> None:
    model = exact(max_erasures=16)
    for k in range(40):
        model.learn(Erasure(request_id=f"x{k}", user_id=f"u{k}", timestamp_ms=BEGIN))
    assert model.sizes()["erasures"] == (16, 16)


# ------------------------------------------------------------------------------------------------ bounds
def test_a_full_window_lets_the_oldest_go_and_ignores_what_is_older() -> None:
    model = exact(window_events=8)
    for k in range(10):
        model.learn(click("ada", f"i{k}", k))
    assert not model.learn(click("ada", "old", 1, event_id="late"))
    assert model.ignored()["too_old"] == 1
    only = learned(exact(window_events=8), [click("ada", f"i{k}", k) for k in range(2, 10)])
    assert model.digest() == only.digest()


def test_at_the_bound_of_users_the_longest_silent_are_forgotten() -> None:
    model = exact(max_users=64)
    for k in range(200):
        model.learn(click(f"u{k}", f"i{k % 7}", k))
    assert model.sizes()["users"][0] <= 64
    assert model.ignored()["forgotten_users"] == 200 - model.sizes()["users"][0]
    newest = learned(exact(), [click(f"u{k}", f"i{k % 7}", k) for k in range(200 - model.sizes()["users"][0], 200)])
    assert model.digest() == newest.digest()


def test_at_the_bound_of_events_the_longest_silent_are_forgotten() -> None:
    model = exact(max_events=2048, window_events=64)
    for k in range(6000):
        model.learn(click(f"u{k // 60}", f"i{k % 50}", k))
    used, bound = model.sizes()["event_cells"]
    assert used <= bound
    assert model.ignored()["forgotten_users"] > 0
    assert model.history.users.get("u99") >= 0


def test_at_the_bound_of_items_the_unused_make_place() -> None:
    model = exact(max_items=16)
    for k in range(16):
        model.learn(click("ada", f"i{k}", k))
    assert not model.learn(click("bob", "one more", 17))
    assert model.ignored()["item_bound"] == 1
    assert model.learn(Erasure(request_id="x", user_id="ada", timestamp_ms=BEGIN))
    model.learn(Erasure(request_id="y", user_id="ada", timestamp_ms=BEGIN + 20 * HOUR))
    assert model.learn(click("bob", "one more", 18))
    assert [line.item_id for line in model.popular()] == ["one more"]


def test_sizes_stay_within_their_bounds() -> None:
    model = Recommender(Config(max_users=64, max_items=64, window_events=16, max_factor_rows=16))
    learned(model, list(shop(3, users=200, items=150, events=1500)))
    for name, (used, bound) in model.sizes().items():
        assert 0 <= used <= bound, name


# ------------------------------------------------------------------------------------------------ what cannot be meant
@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        (Click(event_id="", user_id="u", item_id="i", timestamp_ms=1), "needs an id"),
        (Click(event_id="e", user_id="u", item_id="", timestamp_ms=1), "no item id"),
        (Click(event_id="e", user_id="u", item_id="i", timestamp_ms=0), "out of range"),
        (Click(event_id="e", user_id="u", item_id="i", timestamp_ms=2**63), "out of range"),
        (Review(event_id="e", user_id="u", item_id="i", timestamp_ms=1, rating=9), "from 1 to 5"),
        (Review(event_id="e", user_id="u", item_id="i", timestamp_ms=1, rating=float("nan")), "from 1 to 5"),
        (Interaction(kind="stare", event_id="e", user_id="u", item_id="i", timestamp_ms=1), "stare"),
        (Interaction(kind="retraction", event_id="e", user_id="u", item_id="i", timestamp_ms=1), "of which event"),
        (Item(item_id=""), "needs an id"),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(event: Click, complaint: str) -> None:
    model = exact()
    before = full_state(model)
    with pytest.raises(ValueError, match=complaint):
        model.learn(event)
    assert full_state(model) == before


@pytest.mark.parametrize("n", [0, -1, 1001])
def test_lists_have_a_bounded_length(n: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        exact().recommend("ada", n)


def test_any_text_is_an_id() -> None:
    model = exact()
    odd = ["", "\ud800", "🦊" * 50, "a\0b", "'; drop table", " "]
    for k, name in enumerate(odd[1:]):
        assert model.learn(click(name, name, k))
    assert {line.item_id for line in model.popular()} == set(odd[1:])
    assert len(model.digest()) == 64


def test_a_long_list_and_a_short_one_agree() -> None:
    model = learned(exact(), list(shop(4, users=30, items=300, events=3000)))
    assert [line.item_id for line in model.recommend("u1", 5)] == [line.item_id for line in model.recommend("u1", 10)][:5]
    assert len(model.recommend("u1", 1000)) > 200
