"""The learned fusion against its formulas, written out."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from models import Config
from models.contexts import HISTORIES, HISTORY, SHARED
from models.fusion import Union
from models.fusion_learned import REFRESH, Learned
from models.personal import MEMORY, SHRINK
from models.sources.base import Found, Query, Source
from tests.models.test_fusion import Fixed

ITEMS = 12
HOUR_MS = 3_600_000


class Told(Fixed):
    """A source whose scores can be changed."""

    def __init__(self) -> None:  # it reads no state
        self.scores: dict[int, float] = {}


class Naive:
    """As the module says it, with lists and loops."""

    def __init__(self, config: Config, sources: int) -> None:
        self.config, self.sources, self.width = config, sources, 4 * sources + 7
        self.shown: dict[int, tuple[np.ndarray, float]] = {}
        self.quick: dict[int, np.ndarray] = {}
        self.squares: dict[int, np.ndarray] = {}
        self.steady: dict[int, np.ndarray] = {}
        self.steady_squares: dict[int, np.ndarray] = {}
        self.matrix = config.fusion_prior * np.eye(self.width)
        self.steps = 0
        self.events: dict[int, int] = {}
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.clock = 0

    def _row(self, rows: dict[int, np.ndarray], row: int) -> np.ndarray:
        if row not in rows:
            rows[row] = np.zeros(self.width)
            if row == SHARED:
                for s in range(self.sources):
                    rows[row][4 * s], rows[row][4 * s + 1] = 0.5, 1.0
        return rows[row]

    def trust(self, user: int) -> np.ndarray:
        total, count = self.shown.get(user, (np.zeros(4 * self.sources), 0.0))
        return total / (count + SHRINK)

    def features(self, union: Union, user: int) -> np.ndarray:
        out, trust = np.zeros((union.n, self.width)), self.trust(user)
        behind = 2 * self.config.candidates
        for x, item in enumerate(union.items.tolist()):
            for s in range(self.sources):
                v = union.scores[s, x] / max(union.scores[s]) if max(union.scores[s]) > 0 else 0.0
                rank = union.ranks[s, x] - 1 if union.ranks[s, x] > 0 else behind
                if v > 0:
                    out[x, 4 * s : 4 * s + 4] = v, 10 / (10 + rank), math.sqrt(v), math.log(1 + 1000 * v) / 7
                out[x, -4:] += trust[4 * s : 4 * s + 4] * out[x, 4 * s : 4 * s + 4]
            ages = self.clock - self.first.get(item, 0), self.clock - self.last.get(item, 0)
            out[x, -7:-4] = [0.2 * math.log(1 + n) for n in (self.events.get(item, 0), *ages)]
        if union.n:
            out[:, -7:-4] -= out[:, -7:-4].mean(axis=0)
        return out

    def scores(self, features: np.ndarray, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        quick = sum((self._row(self.quick, row) for row in [SHARED, *rows]), np.zeros(self.width))
        steady = self._row(self.steady, SHARED) + self._row(self.steady, rows[0])
        return features @ quick, features @ steady

    def p(self, features: np.ndarray, rows: list[int]) -> np.ndarray:
        return softmax(sum(self.scores(features, rows)) / 2)

    def parts(self, features: np.ndarray, rows: list[int], user: int) -> np.ndarray:
        """What each source adds to each candidate's score, where it adds: (n, S)."""
        mean = sum((self._row(self.quick, row) for row in [SHARED, *rows]), np.zeros(self.width))
        mean = (mean + self._row(self.steady, SHARED) + self._row(self.steady, rows[0])) / 2
        own = mean[: 4 * self.sources] + np.tile(mean[-4:], self.sources) * self.trust(user)
        said = features[:, : 4 * self.sources] * own
        return np.maximum(0.0, said.reshape(len(features), self.sources, 4).sum(axis=2))

    def learn(self, features: np.ndarray, rows: list[int], place: int, user: int) -> None:
        config = self.config
        taken = np.eye(len(features))[place]
        if user >= 0:
            total, count = self.shown.get(user, (np.zeros(4 * self.sources), 0.0))
            pull = (features.T @ (taken - self.p(features, rows)))[: 4 * self.sources]
            self.shown[user] = (1 - 1 / MEMORY) * total + pull, (1 - 1 / MEMORY) * count + 1
        quick, steady = (features.T @ (taken - softmax(s)) for s in self.scores(features, rows))
        for row in (SHARED, rows[0]):
            squares = self.steady_squares.setdefault(row, np.full(self.width, 0.1))
            squares += steady**2
            self._row(self.steady, row)[:] += config.fusion_steady_rate * steady / np.sqrt(squares)
        keep = 1 - 1 / config.fusion_horizon
        if self.steps % REFRESH == 0:
            self.between = self.matrix
        self.steps += 1
        self.matrix = keep * self.matrix + (1 - keep) * config.fusion_prior * np.eye(self.width) + np.outer(quick, quick)
        self.between = keep * self.between + np.outer(quick, quick)  # what the inverse stands for until it is worked out anew
        self._row(self.quick, SHARED)[:] += config.fusion_rate * np.linalg.solve(self.between, quick)
        for row in rows:
            squares = self.squares.setdefault(row, np.ones(self.width))
            squares += quick**2
            self._row(self.quick, row)[:] += config.fusion_context_rate * quick / np.sqrt(squares)

    def note(self, item: int) -> None:
        self.first.setdefault(item, self.clock)
        self.events[item] = self.events.get(item, 0) + 1
        self.last[item] = self.clock
        self.clock += 1


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max())
    return e / e.sum()


def asked(rng: random.Random, sources: list[Told], fusion: Learned, *, told: bool = False) -> tuple[Union, Query]:
    """A request at some time by somebody, and what the sources find for it: anything, or what they have been `told`."""
    for source in () if told else sources:
        source.scores = {i: rng.random() ** 3 for i in rng.sample(range(ITEMS), rng.randint(0, 6))}
    query = Query(
        user=rng.randrange(-1, 5), profile=np.zeros(rng.choice([0, 3, 9, 40])), now_ms=0, k=8, open_items=np.ones(ITEMS),
        seen=np.zeros(ITEMS), stamp=1, at_ms=rng.randrange(10_000) * HOUR_MS,
        pause_ms=rng.choice([-1, 0, HOUR_MS // 2, 100 * HOUR_MS]),
        context=rng.choice([None, {"device": "phone"}, {"device": "tv", "country": "at"}]),
    )  # fmt: skip
    query.key = query.user + 1
    several: list[Source] = [*sources]
    union = Union(several, 8)
    union.ensure(ITEMS)
    for s, source in enumerate(sources):
        union.counts[s] = source.find(query, Found(union.found_items[s], union.found_scores[s]))
    union.merge(query, complete=True)
    return union, query


@pytest.mark.parametrize("seed", range(4))
def test_it_learns_as_the_formulas_say(seed: int) -> None:
    rng = random.Random(seed)
    config = Config(
        fusion_horizon=rng.choice([100.0, 3000.0]), fusion_prior=rng.choice([1.0, 10.0]), fusion_memory=100_000, personal_users=9
    )
    sources = [Told(), Told(), Told()]
    fusion, naive = Learned(config, [*sources]), Naive(config, len(sources))
    fusion.ensure(ITEMS)
    steps = 0
    for _ in range(300):
        union, query = asked(rng, sources, fusion)
        taken = rng.choice([*sources[0].scores, rng.randrange(ITEMS)])  # the first source is worth listening to
        features, rows = naive.features(union, query.user), fusion.contexts.rows(query).tolist()
        if union.n:
            shares = fusion.shares(union, query)
            assert np.allclose(shares.sum(axis=0), naive.p(features, rows), atol=1e-6)  # trust is kept in float32
            assert (shares >= 0).all()
            parts = naive.parts(features, rows, query.user)
            known = parts.sum(axis=1) > 1e-3
            divided = (parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-9) * shares.sum(axis=0)[:, None])[known]
            assert np.allclose(shares.T[known], divided, atol=1e-5)
        fusion.learn(union, query, taken)
        if taken in union.items:
            naive.learn(features, fusion.contexts.rows(query).tolist(), union.items.tolist().index(taken), query.user)
            steps += 1
        fusion.note(taken)
        naive.note(taken)
    assert steps > 100
    for row, weights in naive.quick.items():
        assert np.allclose(fusion.new.weights[row], weights, atol=1e-5)
    for row, weights in naive.steady.items():
        assert np.allclose(fusion.new.steady[row], weights, atol=1e-5)
    for user, (total, _) in naive.shown.items():
        assert np.allclose(fusion.trust(query).of(user + 1), naive.trust(user), atol=1e-5)
        assert np.abs(total).max() > 0
    assert set(naive.shown) == {0, 1, 2, 3, 4}
    assert {row for row in naive.steady} <= {SHARED, *range(HISTORY, HISTORY + HISTORIES)}


def test_it_starts_as_scores_and_reciprocal_ranks_of_all_alike() -> None:
    sources = [Told(), Told()]
    fusion = Learned(Config(), [*sources])
    fusion.ensure(ITEMS)
    sources[0].scores, sources[1].scores = {1: 4.0, 2: 2.0}, {2: 8.0, 3: 2.0}
    rng = random.Random(0)
    union, query = asked(rng, sources, fusion)
    weights = fusion.new.together(fusion.contexts.rows(query))
    assert weights.tolist() == [0.5, 1.0, 0.0, 0.0] * 2 + [0.0] * 7
    assert union.n


def test_an_echo_starts_from_nothing_and_is_learned() -> None:
    """What is taken is what the echo names first and the other source last."""

    class Echo(Told):
        name, echo_of = "echo", Told.name

    sources = [Told(), Echo()]
    fusion = Learned(Config(), [*sources])
    fusion.ensure(ITEMS)
    rng = random.Random(0)
    for turn in range(200):
        best, last = rng.sample(range(ITEMS), 2)
        sources[0].scores, sources[1].scores = {last: 4.0, best: 2.0}, {best: 4.0, last: 2.0}
        union, query = asked(rng, sources, fusion, told=True)
        shares = fusion.shares(union, query).copy()
        assert shares.sum() == pytest.approx(1.0)
        if turn == 0:
            assert not shares[1].any()
            assert fusion.new.together(fusion.contexts.rows(query)).tolist() == [0.5, 1.0, *[0.0] * 13]
        fusion.learn(union, query, best)
        fusion.note(best)
    assert union.items[shares.sum(axis=0).argmax()] == best
    assert shares[1].any()


def test_where_it_is_worse_than_a_source_that_source_ranks_alone() -> None:
    """What is taken is always the first of one source, but the learned ranking, told to, says the opposite."""
    sources = [Told(), Told()]
    fusion = Learned(Config(fusion_memory=20, fusion_rate=1e-9, fusion_context_rate=0, fusion_steady_rate=0), [*sources])
    fusion.ensure(ITEMS)
    rng = random.Random(3)
    fusion.new.weights[SHARED] = fusion.new.steady[SHARED] = 0
    fusion.new.weights[SHARED, 0:4] = fusion.new.steady[SHARED, 0:4] = -5
    for _ in range(60):
        union, query = asked(rng, sources, fusion)
        if sources[0].scores:
            fusion.learn(union, query, max(sources[0].scores, key=sources[0].scores.__getitem__))
    while not (sources[0].scores and sources[1].scores):
        union, query = asked(rng, sources, fusion)
    assert fusion.new.fallback() == 0
    shares = fusion.shares(union, query)
    assert shares[1].sum() == 0.0
    assert math.isclose(shares[0].sum(), 1.0)
    assert union.items[int(shares[0].argmax())] == max(sources[0].scores, key=sources[0].scores.__getitem__)


@pytest.mark.parametrize(("below", "falls_back"), [(-1.0, False), (0.0, False), (0.9, False), (1.1, True)])
def test_it_falls_back_only_where_it_is_clearly_below_the_best_source(below: float, falls_back: bool) -> None:
    """`below`: how far the learned ranking is below the best source, in parts of the margin of two standard errors."""
    config = Config()
    side = Learned(config, [Told(), Told()]).new
    side.tested = config.fusion_memory
    margin = 2.0 * math.sqrt(0.3 / config.fusion_memory)
    side.gains[:] = 0.1, 0.3, 0.3 - below * margin
    assert side.fallback() == (1 if falls_back else None)
    side.tested -= 1
    assert side.fallback() is None, "too early to say"


def test_lists_with_a_users_own_items_and_without_have_trusts_of_their_own() -> None:
    sources = [Told(), Told(), Told()]
    fusion, rng = Learned(Config(personal_users=9), [*sources]), random.Random(5)
    fusion.ensure(ITEMS)
    for _ in range(40):
        union, query = asked(rng, sources, fusion)
        query.user, query.key, query.repeats = 3, 4, True
        fusion.learn(union, query, rng.randrange(ITEMS))
    assert fusion.trust_again.of(4).any()
    assert fusion.trust(query) is fusion.trust_again
    assert not fusion.trust_new.of(4).any()
    fusion.forget_user(4)
    assert not fusion.trust_again.of(4).any()
