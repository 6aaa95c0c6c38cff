"""Ratings from neighbours: by hand, and equal to a naive recomputation after any stream of events."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Config, Erasure, Review
from models.catalogue import Catalogue
from models.events import Event, Interaction
from models.fold import Fold
from models.history import History
from models.interning import key64
from models.rating_neighbours import Neighbours, Raters, Residuals, TextProfiles
from models.rating_neighbours.texts import Means
from models.ratings import Ratings
from models.reviewers import Reviewers
from models.snapshot import checksum
from models.vectors import Vectors
from tests.models.naive import Naive
from tests.models.streams_of import Change, interleaved, shop, streams

KS = (1, 2, 5)
Opinions = dict[str, dict[str, float]]
Texts = dict[str, list[np.ndarray]]


class World:
    """A fold that only rating neighbours follow."""

    def __init__(self, config: Config | None = None, *, text: bool = False) -> None:
        self.config = config or Config()
        self.history = History(self.config)
        self.raters = Raters(self.config, self.history)
        self.texts = TextProfiles(self.config.max_vectors) if text else None
        self.ratings = Ratings(self.config, self.history)
        followers = [self.ratings, self.raters, *([self.texts] if self.texts else [])]
        catalogue = Catalogue(self.config, self.history)
        self.fold = Fold(
            self.config, self.history, catalogue, Vectors(self.config), Reviewers(self.config, self.history), followers
        )
        self.neighbours = Neighbours(self.history, self.raters, self.texts)
        self.residuals = Residuals(self.ratings, self.neighbours)

    def learn(self, *events: Event | Erasure) -> None:
        for event in events:
            self.fold.interaction(Interaction.of(event))

    def predict(
        self, user: str, item: str, system: str, similarity: str, ks: Sequence[int] = KS, share: float = 0.0
    ) -> list[float]:
        around = self.neighbours.around(self.history.users.get(user), self.history.items.get(item))
        return list(getattr(around, system)(similarity, ks, share).values)


# ------------------------------------------------------------------------------------------------ the naive twin
class Twin:
    """Everything from dictionaries of opinions, for one question at a time."""

    def __init__(self, opinions: Opinions, user_texts: Texts | None = None, item_texts: Texts | None = None) -> None:
        self.of = {user: rated for user, rated in opinions.items() if rated}
        self.by: Opinions = defaultdict(dict)
        for user, rated in self.of.items():
            for item, rating in rated.items():
                self.by[item][user] = rating
        self.user_texts, self.item_texts = user_texts or {}, item_texts or {}

    def mean(self) -> float:
        every = [rating for rated in self.of.values() for rating in rated.values()]
        return sum(every) / len(every) if every else 3.0

    def user_mean(self, user: str) -> float:
        rated = self.of.get(user, {}).values()
        return sum(rated) / len(rated) if rated else self.mean()

    def item_mean(self, item: str) -> float:
        rated = self.by.get(item, {}).values()
        return sum(rated) / len(rated) if rated else self.mean()

    def user_cf(self, user: str, item: str, similarity: str, k: int, share: float) -> float:
        similar = {"cosine": self.cosine_of(self.of), "pearson": self.pearson}[similarity]
        weighted = [
            ((1 - share) * similar(user, v) + share * text_cosine(self.user_texts, user, v), v)
            for v in self.by.get(item, {}) if v != user
        ]  # fmt: skip
        return nearest(self.user_mean(user), weighted, {v: self.of[v][item] - self.user_mean(v) for _, v in weighted}, k)

    def item_cf(self, user: str, item: str, similarity: str, k: int, share: float) -> float:
        similar = {"cosine": self.cosine_of(self.by), "adjusted": self.adjusted}[similarity]
        weighted = [
            ((1 - share) * similar(item, j) + share * text_cosine(self.item_texts, item, j), j)
            for j in self.of.get(user, {}) if j != item
        ]  # fmt: skip
        return nearest(self.item_mean(item), weighted, {j: self.of[user][j] - self.item_mean(j) for _, j in weighted}, k)

    @staticmethod
    def cosine_of(rows: Opinions) -> Callable[[str, str], float]:
        def cosine(a: str, b: str) -> float:
            x, y = rows.get(a, {}), rows.get(b, {})
            lengths = math.sqrt(sum(r * r for r in x.values()) * sum(r * r for r in y.values()))
            return sum(r * y[key] for key, r in x.items() if key in y) / lengths if lengths else 0.0

        return cosine

    def pearson(self, a: str, b: str) -> float:
        both = self.of.get(a, {}).keys() & self.of[b].keys()
        return deviations([(self.of[a][i] - self.user_mean(a), self.of[b][i] - self.user_mean(b)) for i in both])

    def adjusted(self, i: str, j: str) -> float:
        both = self.by.get(i, {}).keys() & self.by[j].keys()
        return deviations([(self.of[v][i] - self.user_mean(v), self.of[v][j] - self.user_mean(v)) for v in both])


def deviations(pairs: list[tuple[float, float]]) -> float:
    length = math.sqrt(sum(x * x for x, _ in pairs) * sum(y * y for _, y in pairs))
    return sum(x * y for x, y in pairs) / length if length > 1e-9 else 0.0


def text_cosine(texts: Texts, a: str, b: str, *, centred: bool = True) -> float:
    if not texts.get(a) or not texts.get(b):
        return 0.0
    centre = np.mean([v for said in texts.values() for v in said], axis=0) if centred else 0.0
    x, y = np.mean(texts[a], axis=0) - centre, np.mean(texts[b], axis=0) - centre
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length > 1e-9 else 0.0


def nearest(base: float, weighted: list[tuple[float, str]], above: dict[str, float], k: int) -> float:
    ranked = sorted(((round(w, 12), name) for w, name in weighted if round(w, 12) > 0), key=lambda p: (-p[0], key64(p[1])))[:k]
    return base + sum(w * above[name] for w, name in ranked) / sum(w for w, _ in ranked) if ranked else base


def assert_same(world: World, twin: Twin, users: Sequence[str], items: Sequence[str], shares: Sequence[float] = (0.0,)) -> None:
    history = world.history
    for user in users:
        for item in items:
            around = world.neighbours.around(history.users.get(user), history.items.get(item))
            means = (twin.mean(), twin.user_mean(user), twin.item_mean(item))
            assert (around.mean, around.user_mean, around.item_mean) == pytest.approx(means, abs=1e-9)
            for share in shares:
                for similarity in ("cosine", "pearson"):
                    expected = [twin.user_cf(user, item, similarity, k, share) for k in KS]
                    assert list(around.user_cf(similarity, KS, share).values) == pytest.approx(expected, abs=1e-9)
                for similarity in ("cosine", "adjusted"):
                    expected = [twin.item_cf(user, item, similarity, k, share) for k in KS]
                    assert list(around.item_cf(similarity, KS, share).values) == pytest.approx(expected, abs=1e-9)


def opinions_of(naive: Naive) -> Opinions:
    """The newest rating of each item in each window."""
    return {
        user: {e.item: e.rating for e in naive.events(user) if e.item is not None and e.rating is not None}
        for user in naive.users()
    }


# ------------------------------------------------------------------------------------------------ by hand
def review(k: int, user: str, item: str, rating: float) -> Review:
    return Review(event_id=f"r{k}", user_id=user, item_id=item, timestamp_ms=k + 1, rating=rating)


@pytest.fixture
def three() -> World:
    """Ada (mean 4): x 5, y 3. Bob (mean 3): x 4, y 2, z 3. Cyd (mean 3): x 1, y 4, z 4."""
    world = World()
    ratings = [("ada", "x", 5), ("ada", "y", 3), ("bob", "x", 4), ("bob", "y", 2), ("bob", "z", 3)]
    ratings += [("cyd", "x", 1), ("cyd", "y", 4), ("cyd", "z", 4)]
    world.learn(*(review(k, *r) for k, r in enumerate(ratings)))
    return world


def test_user_cf_by_hand(three: World) -> None:
    """Pearson over x and y: Bob (1, -1)(1, -1) / 2 = 1; Cyd (1, -1)(-2, 1) < 0 is no neighbour. Bob is 0 above his mean with z.

    Cosine: Bob 26 / sqrt(34 * 29), Cyd 17 / sqrt(34 * 33), who is 1 above her mean.
    """
    assert three.predict("ada", "z", "user_cf", "pearson") == pytest.approx([4.0, 4.0, 4.0])
    bob, cyd = 26 / math.sqrt(34 * 29), 17 / math.sqrt(34 * 33)
    assert three.predict("ada", "z", "user_cf", "cosine") == pytest.approx([4.0, *[4 + cyd / (bob + cyd)] * 2])


def test_item_cf_by_hand(three: World) -> None:
    """z has 3 and 4, mean 3.5; x mean 10/3, y mean 3. Ada's x is 5/3 above, her y is 0 above.

    Adjusted cosine with z over Bob (0 above) and Cyd (1 above): x (-2)/2 = -1, no neighbour; y 1/1 = 1, a neighbour.
    Cosine: x (12 + 4) / (5 sqrt(42)), y (6 + 16) / (5 sqrt(29)).
    """
    assert three.predict("ada", "z", "item_cf", "adjusted") == pytest.approx([3.5] * 3)
    x, y = 16 / (5 * math.sqrt(42)), 22 / (5 * math.sqrt(29))
    assert three.predict("ada", "z", "item_cf", "cosine") == pytest.approx([3.5, *[3.5 + x * (5 / 3) / (x + y)] * 2])


def test_strangers_get_means_and_only_the_newest_opinion_counts(three: World) -> None:
    assert three.predict("dan", "z", "user_cf", "cosine") == pytest.approx([26 / 8] * 3)
    assert three.predict("dan", "z", "item_cf", "cosine") == pytest.approx([3.5] * 3)
    assert three.predict("ada", "unheard of", "user_cf", "pearson") == pytest.approx([4.0] * 3)
    three.learn(review(50, "cyd", "z", 1))
    assert three.predict("dan", "z", "item_cf", "cosine") == pytest.approx([2.0] * 3)
    three.learn(Erasure(request_id="e", user_id="cyd", timestamp_ms=60))
    assert three.predict("dan", "z", "item_cf", "cosine") == pytest.approx([3.0] * 3)
    assert three.raters.row(three.history.items.get("z")).tolist() == [three.history.users.get("bob")]


# ------------------------------------------------------------------------------------------------ against the twin
@given(streams(users=5, items=5), st.integers(0, 10_000))
@settings(max_examples=60)
def test_equal_to_the_twin_after_any_stream(by_user: dict[str, list[Change]], seed: int) -> None:
    """Late events, duplicates, edits, retractions, erasures, and windows of eight events that overflow."""
    config = Config(window_events=8)
    world, naive = World(config), Naive(config)
    for event in interleaved(by_user, seed):
        world.learn(event)
        naive.learn(event)
    twin = Twin(opinions_of(naive))
    assert_same(world, twin, [*by_user, "a stranger"], [*(f"i{k}" for k in range(5)), "unheard of"])
    items = world.history.items
    for item in range(items.span):
        assert sorted(world.history.users.name(u) for u in world.raters.row(item).tolist()) == sorted(twin.by[items.name(item)])


def test_equal_to_the_twin_with_words() -> None:
    rng = np.random.default_rng(3)
    world, naive = World(text=True), Naive(Config())
    assert world.texts is not None
    user_texts: Texts = defaultdict(list)
    item_texts: Texts = defaultdict(list)
    reviews = [event for event in shop(5, 9, 8, 260) if isinstance(event, Review)]
    for k, event in enumerate(reviews):
        world.learn(event)
        naive.learn(event)
        if k % 7:  # one in seven says nothing
            vector = rng.normal(size=6) + 1.0
            vector /= np.linalg.norm(vector)
            world.texts.add(world.history.users.get(event.user_id), world.history.items.get(event.item_id), vector)
            user_texts[event.user_id].append(vector)
            item_texts[event.item_id].append(vector)
    assert len(reviews) > 60
    twin = Twin(opinions_of(naive), user_texts, item_texts)
    users, items = [f"u{k}" for k in range(9)], [f"i{k}" for k in range(8)]
    assert_same(world, twin, users, items, shares=(0.0, 0.3, 1.0))
    differ = [
        world.predict("u1", item, "user_cf", "cosine", share=0.3) != world.predict("u1", item, "user_cf", "cosine")
        for item in items
    ]
    assert any(differ)


def test_only_the_most_recent_raters_are_neighbours_but_means_go_over_all() -> None:
    world = World(Config(item_raters=16))
    for k in range(40):
        world.learn(review(2 * k, f"u{k}", "x", 1.0 if k < 20 else 5.0), review(2 * k + 1, f"u{k}", "y", 3.0))
    item = world.history.items.get("x")
    assert [world.history.users.name(u) for u in world.raters.row(item).tolist()] == [f"u{k}" for k in range(24, 40)]
    around = world.neighbours.around(-1, item)
    assert around.item_mean == pytest.approx(3.0)
    assert len(around.people) == 16
    assert world.raters.sizes()["rater_cells"][0] <= 2 * (4 + 6 + 8 + 12 + 16), "two rows, and what they have grown out of"


def test_asking_changes_nothing() -> None:
    world = World(text=True)
    world.learn(*shop(1, 6, 6, 150))
    before = checksum(world.raters.save())
    first = [world.predict(f"u{k % 7}", f"i{k % 5}", "item_cf", "adjusted") for k in range(20)]
    again = [world.predict(f"u{k % 7}", f"i{k % 5}", "item_cf", "adjusted") for k in range(20)]
    assert first == again
    assert checksum(world.raters.save()) == before
    assert (world.neighbours._place == 0).all()


# ------------------------------------------------------------------------------------------------ on top of biases
def shrunk(naive: Naive, items: float, users: float) -> tuple[float, dict[str, float], dict[str, float]]:
    """mu and b_i, shrunk by so many ratings, from everybody's newest review of each item; b_u from all reviews of the user."""
    given = naive.ratings()
    mu = sum(r for _, _, r in given) / len(given) if given else 3.0
    over: dict[str, list[float]] = defaultdict(list)
    for _, item, rating in given:
        over[item].append(rating - mu)
    of_item = defaultdict(float, {item: sum(left) / (len(left) + items) for item, left in over.items()})
    left: dict[str, list[float]] = defaultdict(list)
    for user, item, rating in naive.rated():
        left[user].append(rating - mu - of_item[item])
    return mu, of_item, defaultdict(float, {user: sum(x) / (len(x) + users) for user, x in left.items()})


def pulled(weighted: list[tuple[float, float]]) -> float:
    return sum(w * d for w, d in weighted) / (sum(abs(w) for w, _ in weighted) + 2.0)


@given(streams(users=5, items=5), st.integers(0, 10_000))
@settings(max_examples=40)
def test_neighbours_on_top_of_biases_equal_the_twin(by_user: dict[str, list[Change]], seed: int) -> None:
    config = Config(window_events=8, factors=0)
    world, naive = World(config), Naive(config)
    for event in interleaved(by_user, seed):
        world.learn(event)
        naive.learn(event)
    twin, (mu, of_item, of_user) = Twin(opinions_of(naive)), shrunk(naive, config.item_shrink, config.user_shrink)
    for user in [*by_user, "a stranger"]:
        mine = twin.of.get(user, {})
        for item in [*(f"i{k}" for k in range(5)), "unheard of"]:
            base = mu + of_item[item] + of_user[user]
            items, users = [], []
            for j in mine.keys() - {item}:
                n = len(twin.by[item].keys() & twin.by[j].keys())
                items.append((twin.adjusted(item, j) * n / (n + 20), mine[j] - mu - of_user[user] - of_item[j]))
            for v in twin.by[item].keys() - {user}:
                n = len(mine.keys() & twin.of[v].keys())
                users.append((twin.pearson(user, v) * n / (n + 20), twin.of[v][item] - twin.user_mean(v) - of_item[item]))
            found = world.residuals.expected(world.history.users.get(user), world.history.items.get(item))
            by_items, by_users = base + pulled(items), base + pulled(users)
            assert found == pytest.approx((base, by_items, by_users, (by_items + by_users + base) / 3), abs=1e-9)


def test_tastes_that_cancel_out_are_told_apart_by_neighbours() -> None:
    """On average everybody and everything is the same: biases know nothing, neighbours do."""
    world = World(Config(factors=0))
    pairs = [(user, item) for user in range(12) for item in range(12) if (user, item) not in ((0, 0), (1, 0))]
    world.learn(*(review(k, f"u{u}", f"i{i}", 5 if u % 2 == i % 2 else 1) for k, (u, i) in enumerate(pairs)))
    like, unlike = (world.residuals.expected(world.history.users.get(u), world.history.items.get("i0")) for u in ("u0", "u1"))
    assert abs(like.biases - unlike.biases) < 0.5
    assert like.items > unlike.items + 1
    assert like.users > unlike.users + 1
    assert like.blend > unlike.blend + 1


# ------------------------------------------------------------------------------------------------ running means
@pytest.mark.parametrize("centred", [True, False])
def test_means_equal_a_recomputation_with_removals_and_reused_rows(centred: bool) -> None:
    rng, dice = np.random.default_rng(1), random.Random(1)
    means, said = Means(bound=12, centred=centred), defaultdict[int, list[np.ndarray]](list)
    for _ in range(400):
        index = dice.randrange(20)
        what = dice.random()
        if what < 0.7:
            vector = rng.normal(size=5)
            means.add(index, vector)
            if said[index] or sum(map(bool, said.values())) < 12:
                said[index].append(vector)
        elif what < 0.95 and said[index]:
            means.remove(index, said[index].pop(dice.randrange(len(said[index]))))
        else:
            means.drop(index)
            said[index].clear()
        assert len(means) == sum(map(bool, said.values())) <= 12
    assert means.left_out > 0
    texts = {str(index): vectors for index, vectors in said.items()}
    others = np.arange(20, dtype=np.int32)
    for index in range(20):
        expected = [text_cosine(texts, str(index), str(other), centred=centred) for other in others]
        assert means.cosines(index, others) == pytest.approx(expected, abs=1e-9)
