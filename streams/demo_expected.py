"""What a file of events must come to when it has gone through the flow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from msgspec import Struct

from models.events import TOPIC_OF, Item
from streams.convert import EventFile
from streams.ingest import text_of


class Expected(Struct, frozen=True):
    """What must come of a file: events by input topic, points of reviews in Qdrant, users with a list."""

    events: Counter[str]
    points: int
    users: frozenset[str]

    @classmethod
    def of(cls, path: Path) -> Expected:
        """Reads the whole file. EventFileError where it is none."""
        events: Counter[str] = Counter()
        points: set[str] = set()
        retracted: set[str] = set()
        users: set[str] = set()
        for event in EventFile(path):
            events[TOPIC_OF[type(event)]] += 1
            if isinstance(event, Item):
                continue
            users.add(event.user_id)
            if event.retracts is not None:
                retracted.add(event.retracts)
            said = text_of(event)
            if said is not None and said.kind == "review":
                points.add(event.event_id)
        return cls(events, len(points - retracted), frozenset(users))
