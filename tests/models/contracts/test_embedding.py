from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models import Click, Config, Recommender
from models.sources.base import Found
from models.sources.embedding import Embedding
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.snapshots_of import read, written
from tests.models.state import ask, full_state, scores
from tests.models.streams_of import shop


class TestEmbedding(SourceContract):
    registered = "embedding"
    exact = False

    def expected(self, naive: Naive, source: str, user: str) -> None:
        return None


class TestEmbeddingLast(TestEmbedding):
    sources = ("embedding_last",)

    def test_checkerboard(self) -> None:
        """Not by what somebody is like, but by what they took last: all take a_k and then b_k, some have taken all the a."""
        model = self.model()
        for k in range(600):
            item = f"{'ab'[k % 2]}{k // 2 % 5}"
            model.learn(Click(event_id=f"e{k}", user_id=f"u{k // 2}", item_id=item, timestamp_ms=k + 1))
        for k in range(5):
            for turn in range(5):
                item = f"a{(k + 1 + turn) % 5}"
                model.learn(Click(event_id=f"x{k}{turn}", user_id=f"v{k}", item_id=item, timestamp_ms=1000 + turn))
            shorter, longer = (scores(model, name, f"v{k}") for name in ("embedding_last", "embedding"))
            assert next(iter(shorter)) == f"b{k}"
            assert sorted(shorter.values())[-2] < sorted(longer.values())[-2], "and more so than the longer memory says"


def source(model: Recommender) -> Embedding:
    found = model.sources[0]
    assert isinstance(found, Embedding)
    return found


def model(**parameters: object) -> Recommender:
    return Recommender(Config(sources=("embedding",), fusion="rrf", factors=0, **parameters))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "decay"), [("embedding", 0.5), ("embedding_last", 0.2)])
def test_scores_are_the_softmax_of_context_and_item(name: str, decay: float) -> None:
    """Against the formula in numpy: context = mean of inputs weighted by decay^age; exp(bias + context . out), best = 1."""
    tested = model(embedding_decay=0.5, embedding_last_decay=0.2, embedding_context=3)
    for event in shop(1, users=6, items=12, events=200):
        tested.learn(event)
    s, history = source(tested), tested.history
    for user in ("u0", "u3"):
        profile = history.profile(history.users.get(user))["item"][::-1][:3]
        weights = decay ** np.arange(len(profile))
        context = weights @ s.into[profile] / weights.sum()
        found = scores(tested, name, user)
        affinity = {item: s.bias[history.items.get(item)] + s.out[history.items.get(item)] @ context for item in found}
        best = max(affinity.values())
        assert found == pytest.approx({item: float(np.exp(value - best)) for item, value in affinity.items()}, rel=1e-4)


def test_it_learns_what_comes_next() -> None:
    tested = model()
    for k in range(600):
        item = f"{'ab'[k % 2]}{k // 2 % 5}"  # everybody takes a_k and then b_k
        tested.learn(Click(event_id=f"e{k}", user_id=f"u{k // 2}", item_id=item, timestamp_ms=k + 1))
    for k in range(5):
        tested.learn(Click(event_id=f"x{k}", user_id=f"new{k}", item_id=f"a{k}", timestamp_ms=1000 + k))
        assert next(iter(scores(tested, "embedding", f"new{k}"))) == f"b{k}"


def test_the_same_log_gives_the_same_vectors() -> None:
    log = shop(2, users=8, items=15, events=150)
    one, other = model(), model()
    for event in log:
        one.learn(event)
        other.learn(event)
    assert np.array_equal(source(one).out, source(other).out)
    assert not np.array_equal(source(one).out, source(model()).out)


def test_in_a_hurry_one_step_is_taken_and_none_on_earlier_events() -> None:
    log = shop(2, users=8, items=15, events=150)
    hurried, without, whole = model(), model(embedding_replays=0), model()
    for event in log:
        hurried.learn(event, hurry=True)
        without.learn(event)
        whole.learn(event)
    assert np.array_equal(source(hurried).out, source(without).out)
    assert not np.array_equal(source(hurried).out, source(whole).out)
    assert hurried.digest() == whole.digest()
    later = Click(event_id="later", user_id="u0", item_id="i3", timestamp_ms=10**12)
    hurried.learn(later)
    without.learn(later)
    assert not np.array_equal(source(hurried).out, source(without).out), "that was for the events in a hurry alone"


def test_items_beyond_the_bound_have_no_vectors() -> None:
    tested = model(embedding_items=16)
    for k in range(40):
        tested.learn(Click(event_id=f"e{k}", user_id=f"u{k % 3}", item_id=f"i{k}", timestamp_ms=k + 1))
    assert source(tested).sizes()["embedded_items"] == (16, 16)
    assert len(source(tested).out) <= 16
    found = scores(tested, "embedding", "u0")
    assert found
    assert set(found) <= {f"i{k}" for k in range(16)}


def test_candidates_are_the_items_taken_last() -> None:
    tested = model(embedding_scan=16)
    for k in range(40):
        tested.learn(Click(event_id=f"e{k}", user_id=f"u{k % 2}", item_id=f"i{k}", timestamp_ms=k + 1))
    assert set(scores(tested, "embedding", "u0")) <= {f"i{k}" for k in range(24, 40)}


def nearest(tested: Recommender, user: str, k: int, *, decay: float | None = None, among: set[int] | None = None) -> list[int]:
    """The best items by their vectors, of those taken last (or `among` some) that the user does not know."""
    s, history = source(tested), tested.history
    profile = history.profile(history.users.get(user))["item"][::-1][: tested.config.embedding_context]
    weights = (decay or tested.config.embedding_decay) ** np.arange(len(profile))
    affinity = s.bias + s.out @ (weights @ s.into[profile] / weights.sum())
    seen = set(history.window(history.users.get(user))["item"].tolist())
    items = set(s._recent[s._recent >= 0].tolist()) if among is None else among
    return sorted(items - seen, key=lambda i: -affinity[i])[:k]


def test_the_shorter_memory_chooses_the_best_of_what_is_near_by_the_longer_one() -> None:
    tested = model(repeats="never")
    for event in shop(3, users=40, items=500, events=4_000):
        tested.learn(event)
    for user in ("u0", "u7", "u39"):
        found = [tested.history.items.get(item) for item in scores(tested, "embedding_last", user)]
        near = set(nearest(tested, user, 40))
        assert len(tested.history.items) > 3 * 40 * 2, "more than are compared"
        assert set(source(tested)._near.tolist()) >= near, "all that the longer one chooses"
        assert found == nearest(tested, user, 40, decay=0.4, among=set(source(tested)._near.tolist()))
        assert found != nearest(tested, user, 40), "another order than that of the longer one"


def test_the_shorter_memory_may_be_asked_alone_or_first() -> None:
    tested = model(repeats="never")
    for event in shop(3, users=40, items=500, events=2_000):
        tested.learn(event)
    shorter = tested.sources[1]
    usual = {user: scores(tested, "embedding_last", user) for user in ("u1", "u2")}  # u2 was the last to ask of the longer one
    for user, expected in usual.items():
        query = ask(tested, user)
        found = Found(np.zeros(40, np.int32), np.zeros(40))
        assert shorter.find(query, found) == len(expected)
        assert dict(zip(map(tested.history.items.name, found.items.tolist()), found.scores.tolist(), strict=True)) == expected


def test_the_shorter_memory_holds_nothing() -> None:
    with_it, without = model(), model(without=("embedding_last",))
    for event in shop(1, users=6, items=12, events=200):
        with_it.learn(event)
        without.learn(event)
    assert full_state(with_it) == full_state(without)
    assert [s.name for s in model(without=("embedding_last",)).sources] == ["embedding"]


def test_bytes_choose_what_vectors_would() -> None:
    """With many more items than are wanted, after steps that have changed them, and after a restore."""
    tested = model(repeats="never")
    log = shop(3, users=40, items=500, events=4_000)
    for event in log[:1_000]:
        tested.learn(event)
    scores(tested, "embedding", "u0")  # what is bytes now is to have changed beyond recognition
    for event in log[1_000:]:
        tested.learn(event)
    again = model(repeats="never")
    for event in shop(9, users=40, items=500, events=2_000):  # bytes of another life, of items at other places
        again.learn(event)
    scores(again, "embedding", "u0")
    again.restore(read(written(tested))[1])
    for turn in range(3):
        for user in ("u0", "u7", "u39"):
            found = [tested.history.items.get(item) for item in scores(tested, "embedding", user)]
            assert found == nearest(tested, user, 40)
            assert scores(tested, "embedding", user) == scores(again, "embedding", user)
        for event in shop(5 + turn, users=40, items=500, events=300):
            for one in (tested, again):
                one.learn(msgspec.structs.replace(event, event_id=f"{turn}-{event.event_id}"))
    assert len(tested.history.items) > 3 * 40 * 2, "more than bytes choose"


def test_bytes_are_those_of_the_item_that_is_there() -> None:
    """Items that come back to the ring of those taken last, at another place, with the vectors they had."""
    tested = model(repeats="never", embedding_scan=64, embedding_replays=0, candidates=4)
    for k in range(400):
        item = f"i{k * 37 % 100}"
        tested.learn(Click(event_id=f"e{k}", user_id=f"alone{k}", item_id=item, timestamp_ms=k + 1))
        if k > 64:
            user = f"alone{k - 64 + k % 8}"
            found = [tested.history.items.get(item) for item in scores(tested, "embedding", user, k=4)]
            assert found == nearest(tested, user, 4)


def test_bytes_are_made_anew_for_an_item_that_begins_again() -> None:
    """An index that comes to stand for another item keeps its place among those taken last, not its vectors."""
    tested = model(repeats="never", embedding_replays=0)
    for event in shop(3, users=40, items=500, events=4_000):
        tested.learn(event)
    wanted = [tested.history.items.name(i) for i in nearest(tested, "u0", 120)]
    before = list(scores(tested, "embedding", "u0"))
    for k, item in enumerate(wanted):
        source(tested).forget_item(tested.history.items.get(item))
        tested.learn(Click(event_id=f"x{k}", user_id=f"alone{k}", item_id=item, timestamp_ms=10**13 + k))
    found = list(scores(tested, "embedding", "u0"))
    assert found == [tested.history.items.name(i) for i in nearest(tested, "u0", 40)]
    assert found != before, "the vectors are others"
