from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models import Click, Config, Recommender
from models.sources.embedding import Embedding
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.snapshots_of import read, written
from tests.models.state import scores
from tests.models.streams_of import shop


class TestEmbedding(SourceContract):
    registered = "embedding"
    exact = False

    def expected(self, naive: Naive, source: str, user: str) -> None:
        return None


def source(model: Recommender) -> Embedding:
    found = model.sources[0]
    assert isinstance(found, Embedding)
    return found


def model(**parameters: object) -> Recommender:
    return Recommender(Config(sources=("embedding",), fusion="rrf", factors=0, **parameters))  # type: ignore[arg-type]


def test_scores_are_the_softmax_of_context_and_item() -> None:
    """Against the formula in numpy: context = mean of inputs weighted by decay^age; exp(bias + context . out), best = 1."""
    tested = model(embedding_decay=0.5, embedding_context=3)
    for event in shop(1, users=6, items=12, events=200):
        tested.learn(event)
    s, history = source(tested), tested.history
    for user in ("u0", "u3"):
        profile = history.profile(history.users.get(user))["item"][::-1][:3]
        weights = np.array([1.0, 0.5, 0.25])[: len(profile)]
        context = weights @ s.into[profile] / weights.sum()
        found = scores(tested, "embedding", user)
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


def nearest(tested: Recommender, user: str, k: int) -> list[int]:
    """The best items by their vectors, of those taken last that the user does not know."""
    s, history = source(tested), tested.history
    profile = history.profile(history.users.get(user))["item"][::-1][: tested.config.embedding_context]
    weights = tested.config.embedding_decay ** np.arange(len(profile))
    affinity = s.bias + s.out @ (weights @ s.into[profile] / weights.sum())
    seen = set(history.window(history.users.get(user))["item"].tolist())
    return sorted(set(s._recent[s._recent >= 0].tolist()) - seen, key=lambda i: -affinity[i])[:k]


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
