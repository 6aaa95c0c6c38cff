"""The lock-step protocol: answers before learning, forgiving input, nothing left unanswered."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest

from models.events import Click, Event, Evidence, Item, ItemVector, Purchase, Recommended, Review
from streams.convert import BadLineError
from streams.lockstep import Lockstep, tolerant


class Popular:
    """A recommender of what was taken most."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.learned: list[Any] = []
        self.contexts: list[dict[str, str] | None] = []
        self.repeats: list[bool | None] = []

    def learn(self, event: Any) -> bool:
        self.learned.append(event)
        if not isinstance(event, Item | ItemVector):
            self.counts[event.item_id] += 1
        return True

    def has(self, user_id: str, item_id: str) -> bool:
        return any(event.user_id == user_id and event.item_id == item_id for event in self.learned if isinstance(event, Click))

    def recommend(
        self,
        user_id: str,
        n: int = 10,
        *,
        context: dict[str, str] | None = None,
        repeats: bool | None = None,
        at_ms: int | None = None,
    ) -> list[Recommended]:
        self.contexts.append(context)
        self.repeats.append(repeats)
        reasons = [Evidence(kind="p", weight=1.0)]
        return [
            Recommended(item_id=item, rank=k + 1, score=1.0, sources={"popularity": 1.0}, reasons=reasons)
            for k, (item, _) in enumerate(self.counts.most_common(n))
        ]


def talk(model: Popular, *messages: object) -> list[Any]:
    lines = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    out = io.BytesIO()
    server = Lockstep(model)
    server.serve((line + b"\n" for line in lines), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def learn(item: str, **more: object) -> dict[str, object]:
    return {"op": "learn", "event": {"type": "click", "user_id": "a", "item_id": item, "timestamp": 1.5, "event_id": item} | more}


def ask(event_id: object, **more: object) -> dict[str, object]:
    return {"op": "recommend", "event_id": event_id, "user_id": "a", "n": 2, "timestamp": 2.0, "session_id": None} | more


def test_questions_are_answered_with_what_was_learned_before_them() -> None:
    answers = talk(Popular(), ask("q1"), learn("x"), ask("q2"), learn("y"), learn("y"), learn("z"), ask("q3"))
    assert answers == [
        {"event_id": "q1", "items": []},
        {"event_id": "q2", "items": ["x"]},
        {"event_id": "q3", "items": ["y", "x"]},
    ]


def test_the_plain_protocol_is_answered_before_it_is_learned() -> None:
    event = {"user_id": "a", "item_id": "x", "timestamp": 1}
    assert talk(Popular(), event | {"event_id": "1", "score": False}, event | {"event_id": "2", "score": True}) == [
        {"event_id": "2", "items": ["x"]}
    ]


def test_a_question_is_always_answered() -> None:
    questions = [ask("1", user_id=None), ask("2", user_id=7, n=-3), ask("3", n="many"), ask(4, nonsense=[1]), ask(None, n=10**9)]
    assert [answer["event_id"] for answer in talk(Popular(), *questions)] == ["1", "2", "3", 4, None]


def test_unusable_lines_are_skipped() -> None:
    model = Popular()
    noise = [b"", b"\xff\xfe", b"{torn", b"[]", b'"text"', b"null", {"op": "sing"}, {"op": "learn"}, {"op": "learn", "event": 5},
             b"[" * 10_000, {"op": "learn", "event": {"item_id": "x"}}, {"op": "learn", "event": {"user_id": "x"}}]  # fmt: skip
    assert talk(model, *noise, learn("x"), ask("q")) == [{"event_id": "q", "items": ["x"]}]
    assert len(model.learned) == 1


def test_context_is_handed_on() -> None:
    model = Popular()
    talk(model, ask("1", context={"device": "tv", "hour": 7}), ask("2"))
    assert model.contexts == [{"device": "tv", "hour": "7"}, None]


@pytest.mark.parametrize(("items", "wanted"), [("ab" * 10, True), ("abcdefghijklmnopqrst", False)])
def test_whether_own_items_are_wanted_is_seen_from_what_is_taken(items: str, wanted: bool) -> None:
    model = Popular()
    for k, item in enumerate(items):
        talk_on = [ask(f"e{k}"), learn(item, event_id=f"e{k}")]
        if k == 0:
            server = Lockstep(model)
        for message in talk_on:
            server.handle(json.dumps(message).encode())
    assert model.repeats == [None] * 10 + [wanted] * 10


def test_item_vectors_are_learned_after_their_event() -> None:
    model = Popular()

    def text(event: Event | Item) -> list[ItemVector]:
        return [ItemVector(item_id=event.item_id, vector=b"", texts=1, model="m")] if isinstance(event, Review) else []

    server = Lockstep(model, text)
    for message in (learn("x"), learn("y", rating=5, text="fine")):
        assert server.handle(json.dumps(message).encode()) is None
    assert [type(event) for event in model.learned] == [Click, Review, ItemVector]


EVENTS: list[tuple[dict[str, object], Event | Item]] = [
    (
        {"type": "buy", "user_id": 1, "item_id": 2, "timestamp": 3.5, "event_id": 4, "session_id": 5, "context": {"d": 1}},
        Purchase(event_id="4", user_id="1", item_id="2", timestamp_ms=3500, session_id="5", context={"d": "1"}),
    ),
    (
        {"user_id": "a", "item_id": "x", "rating": 99, "text": "wow", "timestamp_ms": 7},
        Review(event_id="a|x|7", user_id="a", item_id="x", timestamp_ms=7, rating=5.0, text="wow"),
    ),
    (
        {"type": "review", "user_id": "a", "item_id": "x", "rating": None, "timestamp": -5, "event_id": "e"},
        Click(event_id="e", user_id="a", item_id="x", timestamp_ms=1),
    ),
    (
        {"type": "review", "user_id": "a", "item_id": "x", "rating": float("nan"), "timestamp": float("inf"), "event_id": "e"},
        Click(event_id="e", user_id="a", item_id="x", timestamp_ms=1),
    ),
    (
        {"type": "item", "item_id": "x", "title": "T", "categories": ["a", 1], "available": False},
        Item(item_id="x", title="T", categories=["a", "1"], available=False),
    ),
]


@pytest.mark.parametrize(("row", "event"), EVENTS)
def test_tolerant_reading(row: dict[str, object], event: Event | Item) -> None:
    assert tolerant(row) == event


@pytest.mark.parametrize("row", [{}, {"item_id": "x"}, {"user_id": "a", "item_id": ""}, {"user_id": "", "item_id": "x"}])
def test_what_names_no_user_or_no_item_is_no_event(row: dict[str, object]) -> None:
    with pytest.raises(BadLineError):
        tolerant(row)


def test_what_takes_an_event_back_names_it() -> None:
    assert _after(learn("x", retracts="e3")).retracts == "e3"
    assert _after(learn("x")).retracts is None


def _after(message: dict[str, object]) -> Any:
    model = Popular()
    talk(model, message)
    return model.learned[0]
