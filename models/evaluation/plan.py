"""Which events of a log are scored: the protocol `prequential top-N`, in one place.

Events are replayed in order. The first `warmup` share is learned only. After it, for every *positive* event (no rating, or a
rating of at least `min_rating`) a list is asked for BEFORE the event is learned, and the event's item is looked for in it.
Without `repeats`, an event whose item the user has had already is not scored: no list without own items can hit it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from models.events import Event, Review

COLD: Final = 5
"""A user or an item with fewer past events than this counts as cold."""


class Protocol(Struct, frozen=True, kw_only=True):
    """How a log is scored. `warmup`: a share of the events, or their number if it is 1 or more."""

    n: int = 10
    warmup: float = 0.2
    min_rating: float = 4.0
    positives_only: bool = False  # leave every other event out of the log altogether (but not what takes one back)
    repeats: bool = False  # the user's own items may be recommended, and count
    kinds: frozenset[str] | None = None  # only these kinds ("click", "purchase", "review") are scored; all are learned
    min_history: int = 0  # score only users with at least so many past events
    limit: int | None = None  # only the first so many events

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"lists must have at least one place, not {self.n}")
        if self.warmup < 0:
            raise ValueError(f"the warm-up is a share (below 1) or a number of events, not {self.warmup}")


class Scored(Struct, frozen=True):
    """What was known just before a scored event: past events of its user, of its item, and the number of distinct items."""

    user_events: int
    item_events: int
    items: int


class Plan:
    """The events to replay and what is scored: `scored[k]` belongs to `events[k]`. As large as the log."""

    def __init__(self, events: Sequence[Event], protocol: Protocol) -> None:
        self.protocol = protocol
        kept = [event for event in events if not protocol.positives_only or event.retracts or is_positive(event, protocol)]
        self.events: list[Event] = kept[: protocol.limit]
        self.warmup = int(len(self.events) * protocol.warmup) if protocol.warmup < 1 else int(protocol.warmup)
        self.scored: dict[int, Scored] = {}
        self.items = self._walk()

    def _walk(self) -> int:
        """Fill `scored`; the number of distinct items of the log."""
        have: dict[str, set[str]] = {}
        item_events: Counter[str] = Counter()
        user_events: Counter[str] = Counter()
        for k, event in enumerate(self.events):
            user, item = event.user_id, event.item_id
            own = have.setdefault(user, set())
            if k >= self.warmup and self._counts(event, repeated=item in own, history=user_events[user]):
                self.scored[k] = Scored(user_events[user], item_events[item], len(item_events))
            own.add(item)
            item_events[item] += 1
            user_events[user] += 1
        return len(item_events)

    def _counts(self, event: Event, *, repeated: bool, history: int) -> bool:
        protocol = self.protocol
        return (
            is_positive(event, protocol)
            and (protocol.kinds is None or kind_of(event) in protocol.kinds)
            and (protocol.repeats or not repeated)
            and history >= protocol.min_history
        )


def is_positive(event: Event, protocol: Protocol) -> bool:
    """No rating, or a good one. What only takes something back (a return, a deleted review) is none; an edited review is."""
    rating = event.rating if isinstance(event, Review) else None
    return rating >= protocol.min_rating if rating is not None else not event.retracts


def kind_of(event: Event) -> str:
    return type(event).__name__.lower()
