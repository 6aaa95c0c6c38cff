"""`freshet evaluate --stdio`: anyone can test the recommender from outside, one JSON object per line.

    {"op": "recommend", "event_id": "e7", "user_id": "ada", "n": 10, "timestamp": 1.5, "session_id": null, "type": "click"}
        -> {"event_id": "e7", "items": ["i1", "i2", ...]}          flushed at once; made before anything that follows
    {"op": "learn", "event": {"type": "click", "event_id": "e7", "user_id": "ada", "item_id": "i2", "timestamp": 1.5, ...}}

Whether lists may hold what the user has already is not said by the protocol and is learned: first from the stream (do people come
back to items?), then from the outcomes of the questions themselves (was what they took theirs already?).

An event may name an earlier one that it takes back (`"retracts": "e3"`). Without `op`, a line is an event of the plain protocol:
with `"score": true` it is answered first and learned afterwards. Unknown fields are ignored. A line that cannot be used is
reported on standard error and skipped; a question is always answered.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, Final, Protocol

import msgspec

from models.events import Event, Item, ItemVector, Recommended, ReviewVector
from streams.convert import BadLineError, interaction

log = logging.getLogger(__name__)

MAX_LISTED: Final = 1_000
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Model(Protocol):
    """The part of the recommender this needs."""

    def learn(self, event: Any) -> bool: ...

    def recommend(
        self,
        user_id: str,
        n: int = 10,
        *,
        context: dict[str, str] | None = None,
        repeats: bool | None = None,
        at_ms: int | None = None,
    ) -> list[Recommended]: ...

    def has(self, user_id: str, item_id: str) -> bool: ...


class Outcomes:
    """What was taken when a list was asked for: something the user had already, or something new? Bound: `pending` questions."""

    enough: Final = 10
    often: Final = 0.02

    def __init__(self, pending: int = 10_000) -> None:
        self.asked = 0
        self.returned = 0
        self._bound = pending
        self._pending: dict[str, None] = {}

    @property
    def repeats(self) -> bool | None:
        """Whether lists should hold own items; None: too little is known."""
        return None if self.asked < self.enough else self.returned >= self.often * self.asked

    def question(self, event_id: str) -> None:
        """A list was asked for before this event."""
        if len(self._pending) >= self._bound:
            del self._pending[next(iter(self._pending))]
        self._pending[event_id] = None

    def is_pending(self, event_id: str) -> bool:
        return event_id in self._pending

    def outcome(self, event_id: str, *, own: bool) -> None:
        """The event came, about an item of the user's own or not."""
        del self._pending[event_id]
        self.asked += 1
        self.returned += own


class Lockstep:
    """Answers questions and learns events as they come. `text` gives the vectors that an event's text changes."""

    def __init__(self, model: Model, text: Callable[[Event | Item], Sequence[ItemVector | ReviewVector]] | None = None) -> None:
        self.model = model
        self.text = text
        self.skipped = 0
        self.outcomes = Outcomes()

    def serve(self, lines: Iterable[bytes], out: IO[bytes]) -> None:
        """Until the input ends."""
        for line in lines:
            if not line.strip():
                continue
            answer = self.handle(line)
            if answer is not None:
                out.write(answer + b"\n")
                out.flush()

    def handle(self, line: bytes) -> bytes | None:
        """The answer to one line, None if it asks nothing."""
        try:
            message = _decode(line)
            if not isinstance(message, dict):
                raise BadLineError("not a JSON object")
            match message.get("op"):
                case "recommend":
                    return self._answer(message)
                case "learn":
                    event = message.get("event")
                    self._learn(event if isinstance(event, dict) else message)
                    return None
                case None:
                    answer = self._answer(message) if message.get("score") is True else None
                    self._learn(message)
                    return answer
                case other:
                    raise BadLineError(f"unknown op {other!r}")
        except (BadLineError, msgspec.MsgspecError, RecursionError, ValueError) as problem:
            self.skipped += 1
            if self.skipped <= 20:
                log.warning("line skipped: %s: %.100r", problem, line)
            return None

    def _answer(self, question: dict[str, Any]) -> bytes:
        user, n = question.get("user_id"), question.get("n", 10)
        n = min(MAX_LISTED, n) if isinstance(n, int) and n > 0 else 10
        items: list[str] = []
        if user is not None and user != "":
            context = _context(question.get("context"))
            at_ms = _milliseconds(question) if "timestamp" in question or "timestamp_ms" in question else None
            lines = self.model.recommend(str(user), n, context=context, repeats=self.outcomes.repeats, at_ms=at_ms)
            items = [line.item_id for line in lines]
            self.outcomes.question(str(question.get("event_id")))
        return _encode({"event_id": question.get("event_id"), "items": items})

    def _learn(self, row: dict[str, Any]) -> None:
        event = tolerant(row)
        if not isinstance(event, Item) and self.outcomes.is_pending(event.event_id):
            self.outcomes.outcome(event.event_id, own=self.model.has(event.user_id, event.item_id))
        self.model.learn(event)
        for vector in self.text(event) if self.text is not None else ():
            self.model.learn(vector)  # after the event: the fusion must not be taught with what the event itself says


def tolerant(row: dict[str, Any]) -> Event | Item:
    """The event of a JSON object, forgiving where a meaning is left: ids of any type, ratings beyond 1..5 are clipped, times may
    be in seconds or milliseconds or absent. Raises `BadLineError` where no user or no item is named.
    """
    item = row.get("item_id")
    if item is None or item == "":
        raise BadLineError("no item_id")
    if row.get("type") == "item":
        categories = row.get("categories") or []
        return Item(
            item_id=str(item), title=str(row.get("title") or ""), description=str(row.get("description") or ""),
            categories=[str(name) for name in categories] if isinstance(categories, list) else [],
            available=row.get("available") is not False,
        )  # fmt: skip
    user = row.get("user_id")
    if user is None or user == "":
        raise BadLineError("no user_id")
    session = row.get("session_id")
    timestamp_ms = _milliseconds(row)
    rating = _number(row.get("rating"))
    event = interaction(
        str(row.get("type") or "click"), str(user), str(item), timestamp_ms,
        rating=None if rating is None else min(5.0, max(1.0, rating)),
        text=str(row.get("text") or ""), title=str(row.get("title") or ""),
        session_id=None if session is None else str(session),
        event_id=str(row.get("event_id") or f"{user}|{item}|{timestamp_ms}"),
    )  # fmt: skip
    context, retracts = _context(row.get("context")), row.get("retracts")
    if context or retracts:
        event = msgspec.structs.replace(event, context=context, retracts=str(retracts) if retracts else None)
    return event


def _milliseconds(row: dict[str, Any]) -> int:
    exact = _number(row.get("timestamp_ms"))
    seconds = _number(row.get("timestamp"))
    value = exact if exact is not None else (seconds or 0.0) * 1000
    return max(1, min(round(value), 1 << 60))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _context(value: Any) -> dict[str, str] | None:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) and value else None
