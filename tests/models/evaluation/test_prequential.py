"""The protocol: what is scored, that nothing is learned before it is asked, and what comes out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from models.evaluation import Plan, Protocol, report, run
from models.evaluation.plan import Scored
from models.evaluation.prequential import FUSED, Query
from models.events import Click, Event, Item, ItemVector, Purchase, Review


def click(k: int, user: str, item: str) -> Click:
    return Click(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=k + 1)


def review(k: int, user: str, item: str, rating: float) -> Review:
    return Review(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=k + 1, rating=rating, text="fine")


LOG: list[Event] = [
    click(0, "a", "x"),
    click(1, "b", "y"),
    review(2, "a", "y", 2.0),
    click(3, "b", "x"),
    click(4, "a", "x"),
    review(5, "b", "z", 4.0),
    Purchase(event_id="e6", user_id="a", item_id="z", timestamp_ms=7),
]


def scored(**options: object) -> list[int]:
    return list(Plan(LOG, Protocol(**options)).scored)  # type: ignore[arg-type]


def test_what_takes_something_back_is_no_taking() -> None:
    """A return and a deleted review are learned and never scored; an edited review is an opinion like any other."""
    log: list[Event] = [
        click(0, "a", "x"),
        Purchase(event_id="e1", user_id="a", item_id="y", timestamp_ms=2, retracts="e0"),
        review(2, "a", "z", 5.0),
        Review(event_id="e3", user_id="b", item_id="z", timestamp_ms=4, retracts="e9"),
        Review(event_id="e4", user_id="b", item_id="y", timestamp_ms=5, rating=5.0, retracts="e9"),
        review(5, "b", "w", 1.0),
    ]
    assert list(Plan(log, Protocol(warmup=0)).scored) == [0, 2, 4]
    kept = Plan(log, Protocol(warmup=0, positives_only=True))
    assert [event.event_id for event in kept.events] == ["e0", "e1", "e2", "e3", "e4"]


def test_what_is_scored() -> None:
    assert scored(warmup=0.0) == [0, 1, 3, 5, 6]  # not the bad review, not the repeat
    assert scored(warmup=0.0, repeats=True) == [0, 1, 3, 4, 5, 6]
    assert scored(warmup=0.5) == [3, 5, 6]  # half of seven events, rounded down
    assert scored(warmup=4) == [5, 6]
    assert scored(warmup=0.0, kinds=frozenset({"purchase"})) == [6]
    assert scored(warmup=0.0, min_rating=2.0) == [0, 1, 2, 3, 5, 6]
    assert scored(warmup=0.0, min_history=2) == [5, 6]
    assert scored(warmup=0.0, limit=4) == [0, 1, 3]


def test_positives_only_leaves_the_others_out_of_the_log() -> None:
    plan = Plan(LOG, Protocol(positives_only=True, warmup=0.0))
    assert [event.event_id for event in plan.events] == ["e0", "e1", "e3", "e4", "e5", "e6"]


def test_what_was_known_before() -> None:
    plan = Plan(LOG, Protocol(warmup=0.0))
    assert plan.scored[3] == Scored(user_events=1, item_events=1, items=2)
    assert plan.scored[5] == Scored(user_events=2, item_events=0, items=2)
    assert plan.items == 3


@pytest.mark.parametrize("options", [{"n": 0}, {"warmup": -0.1}])
def test_senseless_protocols_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must have|warm-up"):
        Protocol(**options)  # type: ignore[arg-type]


class Popular:
    """Recommends what was taken most, and in a second source what was taken last; notes the order of calls."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.recent: list[str] = []
        self.calls: list[str] = []
        self.items: list[str] = []

    def lists(self, query: Query, n: int) -> Mapping[str, Sequence[str]]:
        self.calls.append(f"ask {query.user_id}@{query.timestamp_ms}")
        return {FUSED: [item for item, _ in self.counts.most_common(n)], "recent": self.recent[::-1]}

    def predict(self, user_id: str, item_id: str) -> float | None:
        return 3.0

    def learn(self, event: Event | Item | ItemVector) -> None:
        if isinstance(event, Item | ItemVector):
            self.items.append(f"{type(event).__name__} {event.item_id}")
            self.calls.append(f"learn {type(event).__name__} {event.item_id}")
            return
        self.calls.append(f"learn {event.event_id}")
        self.counts[event.item_id] += 1
        self.recent.append(event.item_id)


def test_every_event_is_asked_for_before_it_is_learned() -> None:
    subject = Popular()
    run(subject, Plan(LOG, Protocol(warmup=3)))
    assert subject.calls == [
        "learn e0", "learn e1", "learn e2", "ask b@4", "learn e3", "learn e4", "ask b@6", "learn e5", "ask a@7", "learn e6",
    ]  # fmt: skip


def test_ranks_of_every_source() -> None:
    result = run(Popular(), Plan(LOG, Protocol(warmup=3, n=2)))
    # before e3 the counts are y 2, x 1, and the newest are y y x, once each and two at most: y x
    assert result.ranks[FUSED].tolist() == [1, -1, -1]
    # newest first: e3 wants x of (y, x); e5 wants z of (x, y); e6 wants z of (z, x)
    assert result.ranks["recent"].tolist() == [1, -1, 0]
    assert result.users.tolist() == [0, 0, 1]


def test_the_catalogue_is_learned_first_and_gives_diversity() -> None:
    subject = Popular()
    catalogue = [Item(item_id="x", categories=["one"]), Item(item_id="y", categories=["two"]), Item(item_id="z")]
    out = report(run(subject, Plan(LOG, Protocol(warmup=3)), catalogue=catalogue))
    assert subject.items == ["Item x", "Item y", "Item z"]
    assert out["sources"][FUSED]["diversity"] == pytest.approx(1.0)


def test_vectors_of_texts_are_learned_after_their_event_and_give_diversity_where_there_are_no_categories() -> None:
    axes = {"x": [1.0, 0.0], "y": [0.0, 2.0]}

    def text(event: Event | Item) -> list[ItemVector]:
        if event.item_id not in axes:
            return []
        return [ItemVector(item_id=event.item_id, vector=np.array(axes[event.item_id], "<f4").tobytes(), texts=1, model="m")]

    subject = Popular()
    out = report(run(subject, Plan(LOG[:4], Protocol(warmup=3)), catalogue=[Item(item_id="z")], text=text))
    assert subject.items == ["Item z", "ItemVector x", "ItemVector y", "ItemVector y", "ItemVector x"]
    assert subject.calls[-3:] == ["ask b@4", "learn e3", "learn ItemVector x"]
    assert out["sources"][FUSED]["diversity"] == pytest.approx(1.0)


def test_ratings_stand_beside_constants() -> None:
    out = report(run(Popular(), Plan(LOG, Protocol(warmup=1))))
    # ratings 2 and 4, the model says 3; the running median says 3 (nothing yet) then 2
    assert out["ratings"]["n"] == 2
    assert out["ratings"]["model"]["mae"] == pytest.approx(1.0)
    assert out["ratings"]["median"]["mae"] == pytest.approx((1 + 2) / 2)


def test_the_report_is_plain_data() -> None:
    out = report(run(Popular(), Plan(LOG, Protocol(warmup=3, n=2))))
    assert json.loads(json.dumps(out)) == out
    assert list(out["sources"]) == [FUSED, "recent"]
    assert out["sources"]["recent"]["hr"] == pytest.approx(2 / 3)
    measures = [name + suffix for name in ("hr", "ndcg", "mrr", "precision", "recall", "f1") for suffix in ("", "_se")]
    assert out["segments"][FUSED]["new item"] == pytest.approx({"n": 1, "users": 1} | dict.fromkeys(measures, 0.0))
    assert out["segments"][FUSED]["warm user"] == {"n": 0}
    assert out["curves"]["event"] == [3, 5, 6]
    assert out["curves"]["hr"]["recent"] == [1.0, 0.0, 1.0]


def test_an_empty_log_has_a_report() -> None:
    out = report(run(Popular(), Plan([], Protocol())))
    assert out["scored"] == 0
    assert out["sources"] == {}
    assert out["ratings"] is None


def test_progress_is_told_after_every_event() -> None:
    seen: list[int] = []
    run(Popular(), Plan(LOG, Protocol()), progress=seen.append)
    assert seen == list(range(1, 8))


def test_coverage_counts_the_catalogue() -> None:
    """Two of the log's three items are ever listed; with two more in the catalogue, one of them known already, of four."""
    log: list[Event] = [click(0, "a", "x"), click(1, "b", "y"), click(2, "c", "z")]
    for catalogue, share in (((), 2 / 3), ((Item(item_id="x"), Item(item_id="w")), 2 / 4)):
        found = report(run(Popular(), Plan(log, Protocol(warmup=0)), catalogue=catalogue))
        assert found["sources"][FUSED]["coverage"] == pytest.approx(share)
        assert found["items"] == round(2 / share)
