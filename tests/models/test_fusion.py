"""Fusions by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models import Config, Recommender
from models.fusion import ReciprocalRank, Union, Weighted
from models.sources.base import Found, Query, Room, Source


class Fixed(Source):
    """Finds what it was told to."""

    name = "fixed"

    def __init__(self, state: object, scores: dict[int, float]) -> None:
        super().__init__(state)  # type: ignore[arg-type]
        self.scores = scores

    def find(self, query: Query, found: object) -> int:
        best = sorted(self.scores.items(), key=lambda s: -s[1])[: query.k]
        for x, (item, score) in enumerate(best):
            found.items[x], found.scores[x] = item, score  # type: ignore[attr-defined]
        return len(best)

    def score(self, query: Query, items: np.ndarray, out: np.ndarray) -> None:
        out[:] = [self.scores.get(int(i), 0.0) for i in items]

    def evidence(self, query: Query, items: np.ndarray, room: Room) -> None:
        """Told, that is all."""


def union_of(sources: list[Source], k: int, *, complete: bool) -> tuple[Union, Query]:
    nothing = np.zeros(0, np.int32)
    query = Query(user=-1, profile=nothing, now_ms=0, k=k, open_items=np.ones(9), seen=np.zeros(9), stamp=1)
    union = Union(sources, k)
    union.ensure(9)
    for s, source in enumerate(sources):
        union.counts[s] = source.find(query, Found(union.found_items[s], union.found_scores[s]))
    union.merge(query, complete=complete)
    return union, query


def fixed(*scores: dict[int, float]) -> list[Source]:
    class Another(Fixed):
        """Another kind: two of one kind would share a vote."""

        name = "another"

    model = Recommender(Config(sources=("item_cf",)))
    return [kind(model.sources[0].state, s) for kind, s in zip((Fixed, Another), scores, strict=True)]


def test_the_union_holds_ranks_and_scores() -> None:
    union, _ = union_of(fixed({1: 3.0, 2: 2.0, 3: 1.0}, {3: 9.0, 4: 8.0}), 2, complete=False)
    assert union.items.tolist() == [1, 2, 3, 4]
    assert union.ranks.tolist() == [[1, 2, 0, 0], [0, 0, 1, 2]]
    assert union.scores.tolist() == [[3, 2, 0, 0], [0, 0, 9, 8]]


def test_the_union_can_ask_everybody_about_everything() -> None:
    union, _ = union_of(fixed({1: 3.0, 2: 2.0, 3: 1.0}, {3: 9.0, 4: 8.0}), 2, complete=True)
    assert union.scores.tolist() == [[3, 2, 1, 0], [0, 0, 9, 8]]


@pytest.mark.parametrize("complete", [False, True])
def test_the_union_of_one_request_holds_nothing_of_the_one_before(complete: bool) -> None:
    sources = fixed({1: 3.0, 2: 2.0, 3: 1.0}, {3: 9.0, 4: 8.0})
    union, query = union_of(sources, 2, complete=complete)
    for found, counts in (([[4, 0], [1, 2]], [1, 2]), ([[0, 0], [0, 0]], [0, 0])):
        union.found_items[:], union.found_scores[:], union.counts[:] = found, 5.0, counts
        union.merge(query, complete=complete)
        if union.n:
            assert union.items.tolist() == [4, 1, 2]
            assert union.ranks.tolist() == [[1, 0, 0], [0, 1, 2]]
            assert union.scores.tolist() == ([[0, 3, 2], [8, 0, 0]] if complete else [[5, 0, 0], [0, 5, 5]])
    assert union.n == 0
    assert union.items.tolist() == []


def test_reciprocal_rank_by_hand() -> None:
    sources = fixed({1: 3.0, 2: 2.0}, {2: 9.0, 4: 8.0})
    union, query = union_of(sources, 5, complete=False)
    shares = ReciprocalRank(Config(rrf_k=60), sources).shares(union, query)
    assert union.items.tolist() == [1, 2, 4]
    assert np.allclose(shares, [[1 / 61, 1 / 62, 0], [0, 1 / 61, 1 / 62]])


def test_an_echo_shares_the_vote_of_what_it_echoes() -> None:
    class Echo(Fixed):
        name, echo_of = "echo", Fixed.name

    told, another = fixed({1: 3.0, 2: 2.0}, {2: 9.0, 4: 8.0})
    sources = [told, another, Echo(told.state, {2: 5.0})]
    union, query = union_of(sources, 5, complete=False)
    shares = ReciprocalRank(Config(rrf_k=60), sources).shares(union, query)
    assert union.items.tolist() == [1, 2, 4]
    assert np.allclose(shares, [[1 / 122, 1 / 124, 0], [0, 1 / 61, 1 / 62], [0, 1 / 122, 0]])


def test_weighted_by_hand() -> None:
    """Both are collaborative: alpha is halved; each is divided by its maximum."""
    sources = fixed({1: 4.0, 2: 2.0}, {2: 10.0, 4: 5.0})
    union, query = union_of(sources, 5, complete=True)
    shares = Weighted(Config(fusion="weighted", alpha=0.6), sources).shares(union, query)
    assert np.allclose(shares, [[0.3, 0.15, 0], [0, 0.3, 0.15]])


def test_families_share_their_weight() -> None:
    model = Recommender(
        Config(fusion="weighted", sources=("item_cf", "user_cf", "popularity", "text"), alpha=0.6, beta=0.3, gamma=0.1)
    )
    assert isinstance(model.fusion, Weighted)
    assert np.allclose(model.fusion.weights, [0.3, 0.3, 0.3, 0.1])
    assert math.isclose(model.fusion.weights.sum(), 1.0)
