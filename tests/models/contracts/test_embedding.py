from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models import Click, Config, Recommender
from models.sources.embedding import Embedding
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.snapshots_of import restored
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


def test_bytes_choose_what_vectors_would() -> None:
    """With many more items than are wanted, after steps that have changed them, after a restore, and for another user."""
    tested = model(repeats="never")
    for event in shop(3, users=40, items=500, events=4_000):
        tested.learn(event)
    again = restored(tested)
    for event in shop(5, users=40, items=500, events=300):
        for one in (tested, again):
            one.learn(event.__class__(**{**msgspec.structs.asdict(event), "event_id": f"more-{event.event_id}"}))
    for user in ("u0", "u7", "u39"):
        s, history = source(tested), tested.history
        profile = history.profile(history.users.get(user))["item"][::-1][: tested.config.embedding_context]
        weights = tested.config.embedding_decay ** np.arange(len(profile))
        context = weights @ s.into[profile] / weights.sum()
        affinity = s.bias + s.out @ context
        seen = set(history.window(history.users.get(user))["item"].tolist())
        best = sorted((i for i in range(len(history.items)) if i not in seen), key=lambda i: -affinity[i])
        found = [history.items.get(item) for item in scores(tested, "embedding", user)]
        assert len(best) > 3 * 40 * 2, "more than bytes choose"
        assert found == best[:40]
        assert scores(tested, "embedding", user) == scores(again, "embedding", user)
