from __future__ import annotations

import math
from collections import defaultdict

import pytest

from models import Click, Config, Recommender
from models.sources.neighbours import LONG, SETTINGS, Setting
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.state import scores
from tests.models.streams_of import Change, interleaved, shop


class TestNeighbours(SourceContract):
    registered = "neighbours"
    sources = tuple(setting.name for setting in SETTINGS)

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        """Only where no more users are near than are taken: the cut between equals is not repeated here."""
        setting = next(setting for setting in SETTINGS if setting.name == source)
        takers, events = naive.takers(), sum(len(naive.events(u)) for u in naive.users())
        weight, match = defaultdict(float), {}
        for age, (j, _) in enumerate(naive.profile(user)[::-1][: setting.items]):
            for v in takers[j] - {user}:
                weight[v] += setting.decay**age * math.log((events + 1) / len(takers[j]))
                match.setdefault(v, j)
        assert len(weight) <= setting.users
        result = defaultdict(float)
        for v, w in weight.items():
            items = [item for item, _ in naive.profile(v)]
            w /= math.sqrt(min(len(items), LONG) + 5)
            place = items.index(match[v])
            for q, i in enumerate(items):
                if abs(q - place) <= setting.reach:
                    fade = math.exp(-abs(q - place) / setting.spread) * (1 if q >= place else 0.5)
                    result[i] += w * fade
        return {i: score / len(takers[i]) ** setting.share for i, score in result.items()}


def test_by_hand() -> None:
    """x: a b, z: c a; y has a. E = 5, 3 users have a: near by log(6 / 3) / sqrt(2 + 5). b comes after a, c before."""
    model = Recommender(Config(sources=("neighbours",)))
    for k, (user, item) in enumerate([("x", "a"), ("x", "b"), ("z", "c"), ("z", "a"), ("y", "a")]):
        model.learn(Click(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=k + 1))
    near = math.log(6 / 3) / math.sqrt(7)
    found = scores(model, "neighbours_session", "y")
    assert list(found) == ["b", "c"]
    assert math.isclose(found["b"], near * math.exp(-1 / 2))
    assert math.isclose(found["c"], near * math.exp(-1 / 2) / 2)


@pytest.mark.parametrize("place", [0, 3, 35, 36, 67, 68, 98, 99])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_what_a_peer_has_far_behind_is_found(setting: Setting, place: int) -> None:
    """A peer with a hundred items, of which the user has one, wherever it stands: what is near it counts, and nothing else."""
    model = Recommender(Config(sources=("neighbours",), candidates=100))
    items = [f"i{k}" for k in range(100)]
    for k, item in enumerate(items):
        model.learn(Click(event_id=f"e{k}", user_id="peer", item_id=item, timestamp_ms=k + 1))
    model.learn(Click(event_id="own", user_id="me", item_id=items[place], timestamp_ms=200))
    near = math.log(102 / 2) / math.sqrt(min(100, LONG) + 5)
    expected = {}
    for k, item in enumerate(items):
        if k != place and abs(k - place) <= setting.reach:
            expected[item] = near * math.exp(-abs(k - place) / setting.spread) * (1 if k > place else 0.5)
    assert scores(model, setting.name, "me") == pytest.approx(expected)


def test_scores_are_the_same_to_the_last_bit_however_the_log_interleaved() -> None:
    """Sums made in another order differ in their last bits: peers are always added up in the order of their keys."""
    by_user: dict[str, list[Change]] = defaultdict(list)
    for event in shop(4, users=60, items=25, events=900):
        by_user[event.user_id].append(event)
    models = []
    for seed in range(3):
        model = Recommender(Config(sources=("user_cf", "neighbours"), fusion="rrf"))
        for event in interleaved(by_user, seed):
            model.learn(event)
        models.append(model)
    for user in sorted(by_user)[:30]:
        for source in ("user_cf", *TestNeighbours.sources):
            first, *others = (scores(model, source, user) for model in models)
            assert first
            assert all(found == first for found in others)
