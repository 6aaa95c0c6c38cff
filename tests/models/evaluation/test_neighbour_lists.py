"""The papers' systems: equal to their formulas written down naively, bounded, and without a look ahead."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import Plan, Protocol, run
from models.evaluation.neighbour_lists import ITEM_CF, SYSTEMS, USER_CF, NeighbourLists, System, TooLargeError, label
from models.evaluation.prequential import Query
from models.events import Click, Event, Review

KS = (1, 2, 3, None)
SHARE = 0.3
DIM = 4


def query(user: str) -> Query:
    return Query("e", "click", user, 1, None, None)


def vector(event: Event) -> np.ndarray | None:
    """A direction that depends on the text: the words stand for themselves."""
    if not isinstance(event, Review) or not event.text:
        return None
    raw = np.random.default_rng(int(event.text)).normal(size=DIM)
    return (raw / np.linalg.norm(raw)).astype(np.float32)


def log(seed: int, events: int) -> list[Event]:
    rng = np.random.default_rng(seed)
    return [
        Review(
            event_id=f"e{k}", user_id=f"u{rng.integers(6)}", item_id=f"i{min(rng.integers(9), rng.integers(9))}",
            timestamp_ms=k + 1, rating=4.0, text=str(rng.integers(50)) if rng.random() < 0.7 else "",
        )
        for k in range(events)
    ]  # fmt: skip


class Naive:
    """Everything from the log, one dictionary at a time."""

    def __init__(self, events: list[Event]) -> None:
        self.items: dict[str, set[str]] = defaultdict(set)
        self.people: dict[str, set[str]] = defaultdict(set)
        said: dict[str, list[np.ndarray]] = defaultdict(list)
        everything: list[np.ndarray] = []
        for event in events:
            self.items[event.user_id].add(event.item_id)
            self.people[event.item_id].add(event.user_id)
            if (words := vector(event)) is not None:
                said[event.user_id].append(words.astype(float))
                said[event.item_id].append(words.astype(float))
                everything.append(words.astype(float))
        centre = np.mean(everything, axis=0) if everything else np.zeros(DIM)
        self.means = {name: np.mean(vectors, axis=0) - centre for name, vectors in said.items()}

    def w(self, sets: dict[str, set[str]], a: str, b: str, share: float) -> float:
        cf = len(sets[a] & sets[b]) / math.sqrt(len(sets[a]) * len(sets[b]))
        text = 0.0
        if a in self.means and b in self.means:
            x, y = self.means[a], self.means[b]
            lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
            text = max(0.0, float(x @ y) / lengths) if lengths > 1e-9 else 0.0
        return (1 - share) * cf + share * text

    def scores(self, system: System, k: int | None, user: str) -> dict[str, float]:
        share = SHARE if system.text else 0.0
        scores: dict[str, float] = defaultdict(float)
        if system.side == "users":
            order = list(self.items)
            near = sorted((v for v in order if v != user), key=lambda v: (-self.w(self.items, user, v, share), order.index(v)))
            for v in near[:k]:
                for i in self.items[v]:
                    scores[i] += self.w(self.items, user, v, share)
            return scores
        order = list(self.people)
        for j in self.items[user]:
            near = sorted((i for i in order if i != j), key=lambda i, j=j: (-self.w(self.people, i, j, share), order.index(i)))
            for i in near[:k]:
                scores[i] += self.w(self.people, i, j, share)
        return scores

    def full(self, system: System, k: int | None, user: str) -> dict[str, float]:
        """With popularity behind, own items left out."""
        scores = self.scores(system, k, user) if user in self.items else {}
        most = max(len(people) for people in self.people.values())
        own = self.items.get(user, set())
        return {
            i: scores.get(i, 0.0) + 1e-6 * len(people) / (1 + most) for i, people in self.people.items() if i not in own
        }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_lists_are_those_of_the_formulas(seed: int, events: int) -> None:
    """Compared by the scores of what is listed: ties may stand in either order."""
    taken = log(seed, events)
    subject, naive = NeighbourLists(SYSTEMS, KS, text_share=SHARE, text=vector), Naive(taken)
    alone = NeighbourLists((ITEM_CF,), (None,))  # goes another way
    for event in taken:
        subject.learn(event)
        alone.learn(event)
    for user in [*naive.items, "stranger"]:
        lists = subject.lists(query(user), 4)
        assert set(lists) == {label(system, k) for system in SYSTEMS for k in KS}
        expected = naive.full(ITEM_CF, None, user)
        listed = alone.lists(query(user), 4)[label(ITEM_CF, None)]
        assert [expected[i] for i in listed] == pytest.approx(sorted(expected.values(), reverse=True)[:4], abs=1e-8)
        for system in SYSTEMS:
            for k in KS:
                expected = naive.full(system, k, user)
                listed = lists[label(system, k)]
                assert len(listed) == len(set(listed)) == min(4, len(expected))
                best = sorted(expected.values(), reverse=True)[: len(listed)]
                assert [expected[i] for i in listed] == pytest.approx(best, abs=1e-6 if system.text else 1e-8)


def test_a_small_case_by_hand() -> None:
    """a: x y; b: x y z; c: y w. For a: cos(a, b) = 2 / sqrt(6) brings z, cos(a, c) = 1 / 2 brings w.
    z has b alone: cos(z, x) = 1 / sqrt(2), cos(z, y) = 1 / sqrt(3); w has c alone: cos(w, y) = 1 / sqrt(3)."""
    subject = NeighbourLists((USER_CF, ITEM_CF), (1, None))
    for k, (user, items) in enumerate({"a": "xy", "b": "xyz", "c": "yw"}.items()):
        for item in items:
            subject.learn(Click(event_id=f"{user}{item}", user_id=user, item_id=item, timestamp_ms=k + 1))
    assert subject.lists(query("a"), 2) == {name: ["z", "w"] for name in (
        "UserCF K=1", "UserCF K=all", "ItemCF K=1", "ItemCF K=all",
    )}  # fmt: skip
    assert subject.lists(query("stranger"), 2)["ItemCF K=all"] == ["y", "x"]


def test_own_items_are_listed_only_where_they_may_return() -> None:
    events = [Click(event_id=str(k), user_id=u, item_id=i, timestamp_ms=k + 1) for k, (u, i) in enumerate(["ax", "bx", "by"])]
    for repeats, expected in ((False, ["y"]), (True, ["x", "y"])):
        subject = NeighbourLists((USER_CF,), (5,), repeats=repeats)
        for event in events:
            subject.learn(event)
        assert sorted(subject.lists(query("a"), 5)["UserCF K=5"]) == expected


def test_a_log_too_large_for_its_matrices_is_refused() -> None:
    subject = NeighbourLists((ITEM_CF,), most_cells=1000)
    clicks = [Click(event_id=str(k), user_id="a", item_id=f"i{k}", timestamp_ms=k + 1) for k in range(33)]
    for click in clicks[:32]:
        subject.learn(click)
    with pytest.raises(TooLargeError, match="matrix of more than 1,000 cells"):
        subject.learn(clicks[32])


def test_evaluated_like_every_other_subject() -> None:
    """Everybody takes one of two pairs: who has the one is told the other, as soon as somebody has shown it."""
    rows: list[Event] = []
    for k in range(30):
        for part in "ab":
            rows.append(Click(event_id=f"e{k}{part}", user_id=f"u{k}", item_id=f"{part}{k % 2}", timestamp_ms=len(rows) + 1))
    result = run(NeighbourLists((ITEM_CF,), (1, None)), Plan(rows, Protocol(n=1, warmup=20)))
    for name in ("ItemCF K=1", "ItemCF K=all"):
        second = result.user_events == 1
        assert (result.ranks[name][second] == 0).all()
