"""The slow twin of the model: plain dictionaries, everything recomputed from the remembered events at every question."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models import Config
from models.events import Erasure, Event, Interaction
from models.interning import key64


def shrunk_cosine(a: dict[str, float], b: dict[str, float], shrink: float) -> float:
    """Cosine over the common keys, times n / (n + shrink) for n of them; 0 where one has no length."""
    common = sorted(a.keys() & b.keys())
    length = math.sqrt(sum(a[x] ** 2 for x in common) * sum(b[x] ** 2 for x in common))
    if length < 1e-9:
        return 0.0
    return sum(a[x] * b[x] for x in common) / length * len(common) / (len(common) + shrink)


def coarse(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What is left of vectors (n, dim) held in bytes, as `models.coarse` says."""
    scale = np.abs(matrix).max(axis=1, keepdims=True) / 127
    return np.rint(matrix / np.where(scale > 0, scale, 1.0)) * scale


def turned(direction: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What is left of a direction (dim,) that such vectors are compared with."""
    step = np.abs(direction).max() / min(32767, 2**31 // (128 * len(direction)) - 1)
    return np.rint(direction / step) * step


@dataclass
class Remembered:
    """One event of a window."""

    event_id: str
    timestamp_ms: int
    item: str | None  # None: retracted
    kind: str
    rating: float | None


class Naive:
    """Which events are remembered, and what follows from them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.windows: dict[str, list[Remembered]] = defaultdict(list)
        self.erased: dict[str, int] = {}
        self.now_ms = 0
        self.weight = {"click": config.click_weight, "purchase": config.purchase_weight, "review": config.review_weight}

    # ---------------------------------------------------------------------------------------- learning
    def learn(self, event: Event | Erasure | Interaction) -> None:
        line = Interaction.of(event)
        if line.kind == "erasure":
            self.windows.pop(line.user_id, None)
            self.erased[line.user_id] = max(line.timestamp_ms, self.erased.get(line.user_id, 0))
            return
        if line.timestamp_ms <= self.erased.get(line.user_id, 0):
            return
        window = self.windows[line.user_id]
        if line.kind != "retraction" and any(e.event_id == line.event_id and e.item is not None for e in window):
            return
        if line.retracts:
            self._retract(window, line)
        if line.kind != "retraction" and not any(e.event_id == line.event_id for e in window):
            entered = self._insert(
                window, Remembered(line.event_id, line.timestamp_ms, line.item_id, line.kind, line.rating)
            )  # fmt: skip
            if entered:
                self.now_ms = max(self.now_ms, line.timestamp_ms)

    def _retract(self, window: list[Remembered], line: Interaction) -> None:
        assert line.retracts
        for event in window:
            if event.event_id == line.retracts:
                event.item = event.rating = None
                return
        self._insert(window, Remembered(line.retracts, line.timestamp_ms, None, "", None))

    def _insert(self, window: list[Remembered], event: Remembered) -> bool:
        if len(window) >= self.config.window_events:
            if event.timestamp_ms < window[0].timestamp_ms:
                return False
            window.pop(0)
        place = len(window)
        while place and window[place - 1].timestamp_ms > event.timestamp_ms:
            place -= 1
        window.insert(place, event)
        return True

    # ---------------------------------------------------------------------------------------- what follows
    def events(self, user: str) -> list[Remembered]:
        """The live events, oldest first."""
        return [e for e in self.windows.get(user, []) if e.item is not None]

    def users(self) -> list[str]:
        return [user for user in self.windows if self.events(user)]

    def good(self, event: Remembered) -> bool:
        return event.kind != "review" or (event.rating or 0) >= self.config.positive_rating

    def profile(self, user: str) -> list[tuple[str, float]]:
        """Distinct positive items and their weights, by their last positive event, the newest last."""
        events = self.events(user)
        verdict: dict[str, bool] = {}
        last: dict[str, int] = {}
        weight: dict[str, float] = {}
        for k, event in enumerate(events):
            assert event.item
            if event.kind == "review":
                verdict[event.item] = self.good(event)
            if self.good(event):
                last[event.item] = k
                weight[event.item] = max(weight.get(event.item, 0.0), self.weight[event.kind])
        return [(item, weight[item]) for item in sorted(last, key=last.__getitem__) if verdict.get(item, True)]

    def takers(self) -> dict[str, set[str]]:
        """Item -> users whose profile holds it."""
        takers: dict[str, set[str]] = defaultdict(set)
        for user in self.users():
            for item, _ in self.profile(user):
                takers[item].add(user)
        return dict(takers)

    def seen(self, user: str) -> set[str]:
        return {e.item for e in self.events(user) if e.item}

    def known_items(self) -> set[str]:
        return {item for user in self.users() for item in self.seen(user)}

    def rated(self) -> list[tuple[str, str, float]]:
        """(user, item, stars) of every remembered review."""
        return [(u, e.item or "", e.rating or 0.0) for u in self.users() for e in self.events(u) if e.kind == "review"]

    def ratings(self) -> list[tuple[str, str, float]]:
        """(user, item, stars) of everybody's newest review of each item."""
        return [(user, item, stars) for (user, item), stars in {(u, i): r for u, i, r in self.rated()}.items()]

    # ---------------------------------------------------------------------------------------- sources
    def item_cf(self, user: str) -> dict[str, float]:
        takers, scores = self.takers(), defaultdict(float)
        newest = self.profile(user)[::-1][: self.config.item_cf_items]
        for age, (j, weight) in enumerate(newest):
            for i in takers:
                together = len(takers[i] & takers[j])
                if i != j and together:
                    part = self.config.item_cf_decay**age * weight
                    scores[i] += part * together / math.sqrt(len(takers[i]) * len(takers[j]))
        return dict(scores)

    def similar_users(self, user: str) -> dict[str, float]:
        takers, weights = self.takers(), defaultdict(float)
        newest = self.profile(user)[::-1][: self.config.user_cf_items]
        for age, (j, weight) in enumerate(newest):
            for v in takers[j] - {user}:
                part = self.config.user_cf_decay**age * weight / math.sqrt(len(takers[j]))
                weights[v] += part / math.sqrt(len(self.profile(v)) + 1)
        return dict(weights)

    def user_cf(self, user: str) -> dict[str, float]:
        """Only where no more than `user_cf_neighbours` users are similar: the cut between equals is not repeated here."""
        scores: dict[str, float] = defaultdict(float)
        neighbours = self.similar_users(user)
        assert len(neighbours) <= self.config.user_cf_neighbours
        for v, weight in neighbours.items():
            for i, _ in self.profile(v)[-self.config.user_cf_neighbour_items :]:
                scores[i] += weight
        return dict(scores)

    def opinions(self) -> dict[str, dict[str, float]]:
        """User -> the newest rating of each item (stars), the newest first."""
        reviews = {u: [e for e in self.events(u)[::-1] if e.kind == "review"] for u in self.users()}
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for user, newest_first in reviews.items():
            for e in newest_first:
                found[user].setdefault(e.item or "", e.rating or 0.0)
        return dict(found)

    def deviations(self) -> dict[str, dict[str, float]]:
        """As `opinions`, less the mean of the user's."""
        return {
            u: {item: stars - sum(rated.values()) / len(rated) for item, stars in rated.items()}
            for u, rated in self.opinions().items()
        }

    def user_cf_pearson(self, user: str) -> dict[str, float]:
        """Where no item has more than `item_raters` raters."""
        above, scores = self.deviations(), defaultdict(float)
        mine = above.get(user, {})
        asked = list(mine)[: self.config.rated_items]
        peers = {v for v, theirs in above.items() if v != user and any(j in theirs for j in asked)}
        weights = {v: round(shrunk_cosine(mine, above[v], self.config.rated_shrink), 12) for v in peers}
        near = sorted((v for v in peers if weights[v] > 0), key=lambda v: (-weights[v], key64(v)))
        for v in near[: self.config.rated_neighbours]:
            for i, deviation in above[v].items():
                scores[i] += weights[v] * deviation
        return {i: score for i, score in scores.items() if score > 1e-9}

    def item_cf_adjusted(self, user: str) -> dict[str, float]:
        """Where no item has more than `item_raters` raters."""
        above, scores = self.deviations(), defaultdict(float)
        by: dict[str, dict[str, float]] = defaultdict(dict)
        for v, rated in above.items():
            for item, deviation in rated.items():
                by[item][v] = deviation
        for age, (j, deviation) in enumerate([*above.get(user, {}).items()][: self.config.rated_items]):
            for i in by.keys() - {j}:
                taste = self.config.rated_decay**age * (deviation + 1.0)
                scores[i] += taste * shrunk_cosine(by[i], by[j], self.config.rated_shrink)
        return {i: score for i, score in scores.items() if score > 1e-9}

    def popularity(self) -> dict[str, float]:
        return {item: float(len(users)) for item, users in self.takers().items()}

    def trending(self, half_life_ms: float) -> dict[str, float]:
        """Relative to an event of weight 1 now."""
        scores: dict[str, float] = defaultdict(float)
        for user in self.users():
            best: dict[str, float] = defaultdict(float)
            for e in self.events(user):
                if self.good(e) and e.item:
                    worth = self.weight[e.kind] * 2.0 ** ((e.timestamp_ms - self.now_ms) / half_life_ms)
                    best[e.item] = max(best[e.item], worth)
            for item, worth in best.items():
                scores[item] += worth
        return dict(scores)

    # ---------------------------------------------------------------------------------------- ratings
    def predict(self, user: str, item: str) -> float:
        ratings = self.ratings()
        if not ratings:
            return 3.0
        mean = sum(r for _, _, r in ratings) / len(ratings)

        def item_bias(i: str) -> float:
            mine = [r - mean for _, j, r in ratings if i == j]
            return sum(mine) / (len(mine) + self.config.item_shrink) if mine else 0.0

        mine = [r - mean - item_bias(i) for u, i, r in self.rated() if u == user]
        user_bias = sum(mine) / (len(mine) + self.config.user_shrink) if mine else 0.0
        return min(5.0, max(1.0, mean + item_bias(item) + user_bias))
