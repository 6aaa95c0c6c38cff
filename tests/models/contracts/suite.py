"""What every candidate source owes. A source's file subclasses `SourceContract`; `test_every_source_has_a_contract` wants one for
each entry of the registry.

The expected values come from `expected`: the naive twin of the source over the remembered events.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import Click, Config, Recommender
from models.events import Item, ItemVector
from tests.models.naive import Naive
from tests.models.state import UNTOUCHED, ask, evidence, full_state, scores
from tests.models.streams_of import BEGIN, HOUR, Change, interleaved, shop, streams

LATE = BEGIN + 10_000 * HOUR


class SourceContract(ABC):
    """Subclass it as `Test...` and set what is below."""

    registered: str
    """Name in the registry."""
    sources: tuple[str, ...] = ()
    """Names of its instances, if it has others than `registered`."""
    config: Config = Config()
    """Parameters other than the default; `sources` is set here."""
    tolerance: float = 1e-9
    """Relative, against the naive twin."""
    absolute: float = 1e-12
    """Of a score near 0: more where it is a difference of float32 sums."""
    personal = True
    """Whether different users get different candidates."""
    exact = True
    """Whether it follows from the remembered events alone: order does not matter and events can be taken back."""

    # ---------------------------------------------------------------------------------------- to be given
    @abstractmethod
    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float] | None:
        """Scores of all items for a user, those the user knows included; None: there is no naive twin."""

    def background(self) -> Iterable[Item | ItemVector]:
        """What is learned before the events: a catalogue, vectors."""
        return ()

    # ---------------------------------------------------------------------------------------- helpers
    @property
    def names(self) -> tuple[str, ...]:
        return self.sources or (self.registered,)

    def model(self, log: Iterable[Change] = (), **parameters: object) -> Recommender:
        given_ = {name: getattr(self.config, name) for name in self.config.__struct_fields__}
        plain = {"sources": (self.registered,), "fusion": "rrf", "factors": 0, "repeats": "never"}
        model = Recommender(Config(**{**given_, **plain, **parameters}))
        for entry in self.background():
            model.learn(entry)
        for event in log:
            model.learn(event)
        return model

    def compare(self, model: Recommender, naive: Naive, user: str) -> None:
        """Every source of the model against its naive twin."""
        for source in self.names:
            wanted = self.expected(naive, source, user)
            if wanted is None:
                continue
            seen = naive.seen(user)
            wanted = {item: score for item, score in wanted.items() if score > 0 and item not in seen}
            found = scores(model, source, user)
            if len(wanted) <= 40:
                assert set(found) == set(wanted)
            for item, score in found.items():
                assert math.isclose(score, wanted[item], rel_tol=self.tolerance, abs_tol=self.absolute), (source, item)

    # ---------------------------------------------------------------------------------------- the contract
    def test_an_empty_model_finds_nothing(self) -> None:
        model = self.model()
        for source in self.names:
            assert scores(model, source, "nobody") == {}

    def test_a_stranger_breaks_nothing(self) -> None:
        model = self.model(shop(1, users=9, items=12, events=150))
        for source in self.names:
            assert all(score > 0 for score in scores(model, source, "nobody").values())

    def test_candidates_are_sorted_distinct_allowed_and_bounded(self) -> None:
        model = self.model(shop(2, users=12, items=40, events=400))
        model.remove_item("i0")
        model.learn(Item(item_id="i1", available=False))
        for user in (f"u{k}" for k in range(12)):
            known = {model.history.items.name(e["item"]) for e in model.history.window(model.history.users.get(user))}
            for source in self.names:
                found = scores(model, source, user, k=7)
                values = list(found.values())
                assert len(found) <= 40
                assert values == sorted(values, reverse=True)
                assert all(0 < v < math.inf for v in values)
                assert not set(found) & (known | {"i0", "i1"})

    def test_agrees_with_the_naive_twin(self) -> None:
        log = shop(3, users=10, items=20, events=300)
        model, naive = self.model(log), Naive(self.model().config)
        for event in log:
            naive.learn(event)
        for user in naive.users():
            self.compare(model, naive, user)

    @settings(
        max_examples=40,
        database=None,  # examples of one source mean nothing to another
        suppress_health_check=list(HealthCheck),  # inherited on purpose: one test, many classes
    )
    @given(streams(), st.integers(0, 99))
    def test_agrees_with_the_naive_twin_whatever_happens(self, by_user: dict[str, list[Change]], seed: int) -> None:
        model, naive = self.model(window_events=8), Naive(self.model(window_events=8).config)
        for event in interleaved(by_user, seed):
            model.learn(event)
            naive.learn(event)
        for user in by_user:
            self.compare(model, naive, user)

    def test_a_duplicate_changes_nothing(self) -> None:
        log = shop(4, users=6, items=15, events=120)
        model = self.model(log)
        before = full_state(model)
        assert not any(model.learn(event) for event in log)
        assert full_state(model) == before

    def test_reading_changes_nothing(self) -> None:
        model = self.model(shop(5, users=8, items=20, events=200))
        before = full_state(model)
        for k in range(1000):
            model.recommend(f"stranger {k}", 5)
            model.recommend(f"u{k % 8}", 5, context={"device": "phone"})
            model.predict(f"stranger {k}", f"i{k % 25}")
        model.popular()
        model.similar_items("i1")
        model.similar_users("u1")
        model.taste("u1")
        model.lists("u2", 1000)
        assert full_state(model) == before

    def test_a_retracted_event_equals_one_that_never_happened(self) -> None:
        if not self.exact:
            pytest.skip("learned by gradient steps: nothing can be taken back")
        log = shop(6, users=6, items=15, events=150)
        gone = {event.event_id for event in log[::7]}
        model, never = self.model(log), self.model(e for e in log if e.event_id not in gone)
        for event in log[::7]:
            back = Click(
                event_id=f"{event.event_id}-back", user_id=event.user_id, item_id=event.item_id, timestamp_ms=LATE,
                retracts=event.event_id,
            )  # fmt: skip
            assert model.learn(back)
        self.same_lists(model, never, [f"u{k}" for k in range(6)])

    def test_an_erased_user_equals_one_never_seen(self) -> None:
        if not self.exact:
            pytest.skip("learned by gradient steps: nothing can be taken back")
        from models import Erasure

        log = shop(7, users=6, items=15, events=150)
        model, never = self.model(log), self.model(e for e in log if e.user_id != "u3")
        assert model.learn(Erasure(request_id="x", user_id="u3", timestamp_ms=LATE))
        self.same_lists(model, never, [f"u{k}" for k in range(6)])

    def test_the_order_in_which_users_come_does_not_matter(self) -> None:
        if not self.exact:
            pytest.skip("learned by gradient steps: they depend a little on order")
        by_user: dict[str, list[Change]] = {}
        for event in shop(8, users=7, items=15, events=150):
            by_user.setdefault(event.user_id, []).append(event)
        one, other = self.model(interleaved(by_user, 1)), self.model(interleaved(by_user, 2))
        self.same_lists(one, other, list(by_user))

    def same_lists(self, one: Recommender, other: Recommender, users: list[str]) -> None:
        """The same digest, the same candidates in the same order, equal scores."""
        assert one.digest() == other.digest()
        for user in users:
            for source in self.names:
                left, right = scores(one, source, user), scores(other, source, user)
                assert list(left) == list(right)
                top = max(left.values(), default=1.0), max(right.values(), default=1.0)
                assert np.allclose(np.array([*left.values()]) / top[0], np.array([*right.values()]) / top[1], rtol=1e-9)

    def test_checkerboard(self) -> None:
        """Even users take even items, odd users odd ones: the one item withheld from a user comes first."""
        if not self.personal:
            pytest.skip("the same for everybody")
        log: list[Change] = []
        for k in range(400):
            user, item = k // 20 % 20, 2 * (k % 10) + (k // 20 % 20) % 2
            if item // 2 % 10 != user // 2 % 10:
                log.append(
                    Click(event_id=f"e{k}", user_id=f"u{user}", item_id=f"i{item}", timestamp_ms=BEGIN + k * HOUR)
                )  # fmt: skip
        model = self.model(log)
        for user in range(20):
            withheld = f"i{2 * (user // 2 % 10) + user % 2}"
            for source in self.names:
                assert next(iter(scores(model, source, f"u{user}"))) == withheld

    def test_scores_of_any_items_agree_with_the_candidates(self) -> None:
        model = self.model(shop(9, users=10, items=30, events=300))
        items = np.arange(model.history.items.span, dtype=np.int32)
        for user in [f"u{k}" for k in range(10)]:
            query = ask(model, user)
            union = model.asking.candidates(query, complete=False)
            for s, source in enumerate(model.sources):
                out = np.full(len(items), np.nan)
                source.score(query, items, out)
                assert np.isfinite(out).all()
                assert (out >= 0).all()
                count = int(union.counts[s])
                found = union.found_items[s, :count]
                assert np.allclose(out[found], union.found_scores[s, :count], rtol=1e-9)

    def test_evidence_is_part_of_the_score_and_of_the_history(self) -> None:
        model = self.model(shop(10, users=10, items=30, events=300))
        for user in [f"u{k}" for k in range(10)]:
            query = ask(model, user)
            own = set(query.profile["item"].tolist())
            union = model.asking.candidates(query, complete=False)
            for s, source in enumerate(model.sources):
                found = union.found_items[s, : int(union.counts[s])].copy()
                if not len(found):
                    continue
                grounds, room = source.grounds, evidence(source, query, found)
                assert grounds.kind
                fraction = room.fraction[: len(found)]
                if grounds.pieces:
                    assert (fraction >= 0).all()
                    assert (fraction.sum(axis=1) <= 1 + 1e-9).all()
                named = fraction > 0 if grounds.pieces else np.arange(fraction.shape[1]) == np.zeros((len(found), 1))
                if grounds.item:
                    assert set(room.item[: len(found)][named].tolist()) <= own
                if grounds.number:
                    assert (room.number[: len(found)][named] >= 0).all()
                for field, wanted in zip(room, (grounds.pieces, grounds.item, grounds.number, grounds.text), strict=True):
                    rest = field[len(found) if wanted else 0 :]
                    assert (rest == UNTOUCHED).all(), "only what it gives is written, and only for the items asked for"

    def test_stays_within_its_bounds(self) -> None:
        small = {
            "max_users": 64, "max_items": 64, "max_events": 4096, "window_events": 16, "max_pairs": 4096, "max_neighbours": 16,
            "max_followers": 16, "item_users": 16, "item_raters": 16, "board_items": 16, "category_items": 16,
            "max_categories": 16, "max_vectors": 16,
        }  # fmt: skip
        model = self.model(shop(11, users=300, items=200, events=2000), **small)
        for name, (used, bound) in model.sizes().items():
            assert 0 <= used <= bound, name
        for user in ("u1", "u2", "nobody"):
            for source in self.names:
                assert all(score > 0 for score in scores(model, source, user).values())
