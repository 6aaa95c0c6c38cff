from __future__ import annotations

import numpy as np
import pytest

from models import Click, Config, Recommender
from models.sources.ease import Ease, _inverse
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.state import scores
from tests.models.streams_of import shop


class TestEase(SourceContract):
    registered = "ease"
    exact = False

    def expected(self, naive: Naive, source: str, user: str) -> None:
        return None


def model(**parameters: object) -> Recommender:
    return Recommender(Config(sources=("ease",), fusion="rrf", factors=0, repeats="never", **parameters))  # type: ignore[arg-type]


def source(tested: Recommender) -> Ease:
    found = tested.sources[0]
    assert isinstance(found, Ease)
    return found


def fitted(tested: Recommender) -> Ease:
    """Fitted to what is in the profiles now."""
    ease = source(tested)
    ease._fit()
    return ease


def matrix(tested: Recommender) -> np.ndarray:
    """X (users, items) of the profiles."""
    history = tested.history
    x = np.zeros((history.users.span, history.items.span))
    for user in range(history.users.span):
        x[user, history.profile(user)["item"]] = 1
    return x


def regression(x: np.ndarray, ridge: float) -> np.ndarray:
    """Every column of X by ridge regression on all others, one at a time: what the closed form is said to be."""
    b = np.zeros((x.shape[1], x.shape[1]))
    for j in range(x.shape[1]):
        rest = [i for i in range(x.shape[1]) if i != j]
        others = x[:, rest]
        b[rest, j] = np.linalg.solve(others.T @ others + ridge * np.eye(len(rest)), others.T @ x[:, j])
    return b


def test_weights_are_those_of_ridge_regressions() -> None:
    tested = model(ease_ridge=3.0)
    for event in shop(1, users=30, items=15, events=300):
        tested.learn(event)
    ease = fitted(tested)
    wanted = regression(matrix(tested), 3.0)
    assert sorted(ease.items.tolist()) == list(range(15))
    assert np.allclose(ease.weights, wanted[np.ix_(ease.items, ease.items)], atol=1e-5)


@pytest.mark.parametrize("ridge", [60.0, 1e-3])
def test_counts_that_bounds_have_cut_short_are_inverted_too(ridge: float) -> None:
    """They need not be those of any profiles: with a small ridge the matrix has an eigenvalue below 0."""
    rng = np.random.default_rng(3)
    half = rng.integers(0, 4, (40, 40))
    gram = (np.tril(half, -1) + np.tril(half, -1).T + ridge * np.eye(40)).astype(np.float32)
    assert (np.linalg.eigvalsh(gram).min() < 0.0) == (ridge < 1.0)
    found, wanted = _inverse(gram.copy()), np.linalg.inv(gram.astype(np.float64))
    np.testing.assert_allclose(np.tril(found), np.tril(wanted), atol=1e-3 * np.abs(wanted).max())


def test_scores_add_up_the_weights_of_the_newest_items() -> None:
    tested = model(ease_ridge=3.0, ease_context=4, ease_decay=0.5)
    for event in shop(2, users=20, items=25, events=300):
        tested.learn(event)
    fitted(tested)
    b, history = regression(matrix(tested), 3.0), tested.history
    for user in ("u0", "u5", "u9"):
        newest = history.profile(history.users.get(user))[::-1][:4]
        wanted = sum(0.5**age * (entry["weight"] / 256) * b[entry["item"]] for age, entry in enumerate(newest))
        found = scores(tested, "ease", user)
        assert found
        assert found == pytest.approx({item: wanted[history.items.get(item)] for item in found}, abs=1e-5)


def test_only_the_items_that_most_have_are_fitted() -> None:
    tested = model(ease_items=8, ease_share=0.0)
    for event in shop(3, users=40, items=60, events=900):
        tested.learn(event)
    ease, takers = fitted(tested), tested.history.takers[: tested.history.items.span]
    assert len(ease.items) == 8
    assert sorted(takers[ease.items]) == sorted(takers)[-8:]
    assert set(scores(tested, "ease", "u1")) <= {tested.history.items.name(i) for i in ease.items}


def test_it_retires_where_the_catalogue_has_outgrown_it_and_comes_back() -> None:
    tested = model(ease_items=4, ease_share=0.5)
    for k in range(200):  # everybody else has a thing that nobody has: four items are little of it
        tested.learn(Click(event_id=f"e{k}", user_id=f"u{k % 20}", item_id=f"i{k}", timestamp_ms=k + 1))
    assert source(tested).retired
    assert not scores(tested, "ease", "u1")
    for k in range(1200):
        tested.learn(Click(event_id=f"f{k}", user_id=f"v{k // 4}", item_id=f"i{k % 4}", timestamp_ms=1000 + k))
    assert not source(tested).retired
    tested.learn(Click(event_id="x", user_id="new", item_id="i0", timestamp_ms=9000))
    assert set(scores(tested, "ease", "new")) == {"i1", "i2", "i3"}


def test_it_is_fitted_anew_as_profiles_change_and_not_more_often() -> None:
    tested, fits = model(ease_every=300), []
    for k in range(4000):
        tested.learn(Click(event_id=f"e{k}", user_id=f"u{k // 8}", item_id=f"i{k % 16}", timestamp_ms=k + 1))
        if source(tested).changes == 0:
            fits.append(k)
    gaps = np.diff(fits)
    assert fits[0] == 49
    assert gaps.max() == 300
    assert all(gap >= min(300, k // 5) for gap, k in zip(gaps, fits, strict=False))


def test_a_forgotten_item_leaves_the_fit() -> None:
    tested = model()
    for event in shop(4, users=20, items=12, events=200):
        tested.learn(event)
    ease = fitted(tested)
    place = int(ease.slot[3])
    ease.forget_item(3)
    assert ease.slot[3] == -1
    assert ease.items[place] == -1
    assert not ease.weights[place].any()
    assert not ease.weights[:, place].any()
