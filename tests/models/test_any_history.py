"""Whatever happens to a model, in whatever order, it holds what a naive recomputation from the remembered events would."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models import Click, Config, Erasure, Purchase, Recommender, Review, snapshot
from models.history import KINDS
from models.sources.item_cf import ItemCF
from tests.models.naive import Naive
from tests.models.streams_of import BEGIN, HOUR

CONFIG = Config(window_events=8, factors=2, fusion="rrf", sources=("item_cf", "user_cf", "popularity", "trending", "sequence"))
USERS = st.sampled_from([f"u{k}" for k in range(4)])
ITEMS = st.sampled_from([f"i{k}" for k in range(6)])
TIMES = st.integers(0, 40).map(lambda hours: BEGIN + hours * HOUR)
STARS = st.sampled_from([1.0, 2.5, 3.0, 4.5, 5.0])


class AnyHistory(RuleBasedStateMachine):
    """Events, copies, retractions before and after, edits, erasures; processes that are saved and start again, or crash and read
    the log again from where they were saved."""

    @initialize()
    def begin(self) -> None:
        self.model, self.naive = Recommender(CONFIG), Naive(CONFIG)
        self.log: list[Any] = []
        self.saved, self.saved_at = b"", 0

    def _happens(self, event: Any) -> None:
        self.log.append(event)
        self.model.learn(event)
        self.naive.learn(event)

    def _new_id(self) -> str:
        return f"e{len(self.log)}"

    # -------------------------------------------------------------------------------------------- what people do
    @rule(user=USERS, item=ITEMS, at=TIMES, bought=st.booleans())
    def act(self, user: str, item: str, at: int, bought: bool) -> None:
        kind = Purchase if bought else Click
        self._happens(kind(event_id=self._new_id(), user_id=user, item_id=item, timestamp_ms=at))

    @rule(user=USERS, item=ITEMS, at=TIMES, stars=STARS)
    def review(self, user: str, item: str, at: int, stars: float) -> None:
        self._happens(Review(event_id=self._new_id(), user_id=user, item_id=item, timestamp_ms=at, rating=stars))

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        self._happens(data.draw(st.sampled_from(self.log)))

    @rule(user=USERS, item=ITEMS, at=TIMES, which=st.integers(0, 40), stars=st.none() | STARS)
    def take_back(self, user: str, item: str, at: int, which: int, stars: float | None) -> None:
        """An event of the past, or one that has not come yet; with stars an edit."""
        common = {"event_id": self._new_id(), "user_id": user, "item_id": item, "timestamp_ms": at, "retracts": f"e{which}"}
        self._happens(Click(**common) if stars is None else Review(rating=stars, **common))

    @rule(user=USERS, at=TIMES)
    def erase(self, user: str, at: int) -> None:
        self._happens(Erasure(request_id=self._new_id(), user_id=user, timestamp_ms=at))

    # -------------------------------------------------------------------------------------------- what happens to processes
    @rule()
    def save(self) -> None:
        meta = snapshot.Meta(settings=snapshot.fingerprint(CONFIG))
        self.saved, self.saved_at = b"".join(snapshot.frames(meta, self.model.save())), len(self.log)

    @rule()
    def crash(self) -> None:
        """Start from the snapshot and read the rest of the log."""
        self.model = Recommender(CONFIG)
        if self.saved:
            self.model.restore(snapshot.read(io.BytesIO(self.saved).readinto, len(self.saved))[1])
        for event in self.log[self.saved_at :]:
            self.model.learn(event)

    # -------------------------------------------------------------------------------------------- what must hold
    @invariant()
    def remembers_what_the_naive_one_does(self) -> None:
        if not hasattr(self, "model"):
            return
        history = self.model.history
        for user in (f"u{k}" for k in range(4)):
            index = history.users.get(user)
            window = history.window(index) if index >= 0 else []
            held = [(int(e["ts"]), history.items.name(int(e["item"])), int(e["kind"])) for e in window if e["item"] >= 0]
            wanted = [(e.timestamp_ms, e.item, KINDS[e.kind]) for e in self.naive.events(user) if e.item]
            assert sorted(held) == sorted(wanted)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        clean = Recommender(CONFIG)
        for event in self.log:
            clean.learn(event)
        assert self.model.digest() == clean.digest(), "one clean pass"
        takers, items = self.naive.takers(), self.model.history.items
        pairs = next(source.pairs for source in self.model.sources if isinstance(source, ItemCF))
        for item, users in takers.items():
            index = items.get(item)
            assert int(self.model.history.takers[index]) == len(users)
            held = {items.name(int(pair["item"])): int(pair["count"]) for pair in pairs.row(index)}
            assert held == {other: len(users & more) for other, more in takers.items() if other != item and users & more}


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
