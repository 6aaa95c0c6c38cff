from __future__ import annotations

import math
from collections import defaultdict
from itertools import groupby

from models import Click, Config, Recommender
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive
from tests.models.state import scores

SPAN = 20


def followed(naive: Naive) -> dict[tuple[str, str], float]:
    """S, in units of one: how closely the second item follows the first where it does so most closely, over all users."""
    counted: dict[tuple[str, str], float] = defaultdict(float)
    for user in naive.users():
        sequence = [item for item, _ in groupby(e.item for e in naive.events(user) if naive.good(e))]
        nearest: dict[tuple[str, str], int] = {}
        for b, later in enumerate(sequence):
            for a in range(max(0, b - SPAN), b):
                pair = sequence[a] or "", later or ""
                nearest[pair] = min(b - a, nearest.get(pair, SPAN))
        for pair, gap in nearest.items():
            counted[pair] += round(1000 * math.exp(-(gap - 1) / 5)) / 1000
    return dict(counted)


class TestSequence(SourceContract):
    registered = "sequence"
    sources = ("sequence", "proximity")

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        config, s, result = naive.config, followed(naive), defaultdict(float)
        items = {item for pair in s for item in pair}
        ahead = {i: sum(w for (a, _), w in s.items() if a == i) for i in items}
        behind = {i: sum(w for (_, b), w in s.items() if b == i) for i in items}
        newest = naive.profile(user)[::-1][: config.sequence_items]
        for age, (j, _) in enumerate(newest):
            weight = config.sequence_decay**age
            for i in items if j in items else ():
                if source == "sequence":
                    result[i] += weight * s.get((j, i), 0.0) / (ahead[j] + 1)
                else:
                    near, a = s.get((j, i), 0.0) + s.get((i, j), 0.0), config.proximity_share
                    result[i] += weight * near / (ahead[j] + behind[j] + 1) ** (1 - a) / (ahead[i] + behind[i] + 1) ** a
        return dict(result)


class TestSequenceOfLongWindows(TestSequence):
    """Sequences longer than the span, windows that overflow."""

    config = Config(window_events=30)


def taken(model: Recommender, *moves: tuple[str, str]) -> None:
    for k, (user, item) in enumerate(moves):
        model.learn(Click(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=k + 1))


def test_by_hand() -> None:
    """x: a b c. For who has a alone, b follows at once (1) and c at a distance (exp(-1/5) = .819): both over 1 + 1.819."""
    model = Recommender(Config(sources=("sequence",)))
    taken(model, ("x", "a"), ("x", "b"), ("x", "c"), ("y", "a"))
    found = scores(model, "sequence", "y")
    assert list(found) == ["b", "c"]
    assert math.isclose(found["b"], 1 / 2.819)
    assert math.isclose(found["c"], 0.819 / 2.819)


def test_order_counts_for_the_sequence_and_not_for_proximity() -> None:
    model = Recommender(Config(sources=("sequence",)))
    taken(model, ("x", "a"), ("x", "b"), ("y", "b"))
    assert scores(model, "sequence", "y") == {}
    assert list(scores(model, "proximity", "y")) == ["a"]


def test_memory_that_must_grow_in_the_middle_loses_nothing() -> None:
    """A single user of many items: rows and pools grow while one event is counted."""
    model = Recommender(Config(sources=("sequence",), max_followers=4096))
    naive = Naive(model.config)
    for k in range(400):
        event = Click(event_id=f"e{k}", user_id="x", item_id=f"i{k * k % 211}", timestamp_ms=k + 1)
        model.learn(event)
        naive.learn(event)
    s = followed(naive)
    order = model.sources[0].order  # type: ignore[attr-defined]
    index = model.history.items.get
    for (a, b), weight in s.items():
        row = order.following.row(index(a))
        assert math.isclose(row["count"][row["item"] == index(b)][0], 1000 * weight)
    assert order.following.totals[0] == order.preceding.totals[0] == len(s)
