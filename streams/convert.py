"""Files of interactions become our events: neutral JSON lines and the public data sets, recognised by their content.

    for event in read_events("reviews.jsonl.gz"):
        ...

What a reader promises, whatever the file:

- every event passes the limits of `models.events` (it goes through the same `decode` as a message from Kafka);
- event ids are those of the file, or derived from the content, never from the position in the file, and unique;
- time order. Where all times are whole days, ties are broken by sha1(user|item): such files are grouped by item or by user,
  and replaying a day in file order would give the next item away. Finer times keep the order of the file inside a tie.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from models.events import TOPIC_OF, Click, Event, Item, Purchase, Refusal, Review, decode, encode

Order = Literal["time", "file"]
DAY_MS: Final = 86_400_000
MAX_LINE_BYTES: Final = 1 << 20  # four times the largest message; a longer line is no line of events
_FAR_FUTURE_MS: Final = 1 << 60  # a file is history: it is not held against a clock


class EventFileError(ValueError):
    """A file that cannot be read as events; the message names the file and, where it applies, the line."""


class BadLineError(ValueError):
    """Raised by a converter for a line it cannot turn into an event."""


class Converter(Struct, frozen=True):
    """One file format. `sniff` looks at the first line; `convert` makes one event of a line, or None for a line without one."""

    name: str
    sniff: Callable[[str], bool]
    convert: Callable[[str], Event | Item | None]
    encoding: str = "utf-8"
    collapse: bool = False  # identical lines are one event (formats whose times are days and that log every page view)


# ------------------------------------------------------------------------------------------------ building events
def interaction(
    kind: str, user_id: str, item_id: str, timestamp_ms: int, *, rating: float | None = None, text: str = "", title: str = "",
    session_id: str | None = None, event_id: str = "",
) -> Event:  # fmt: skip
    """The event of a row. Purchases by their usual names; a row with a rating is a review; everything else is a click."""
    common: dict[str, Any] = {
        "event_id": event_id, "user_id": user_id, "item_id": item_id, "timestamp_ms": timestamp_ms, "session_id": session_id,
    }  # fmt: skip
    if rating is not None:
        return Review(**common, rating=rating, text=text, title=title)
    if kind in PURCHASE_WORDS:
        return Purchase(**common)
    return Click(**common)


PURCHASE_WORDS: Final = frozenset({"purchase", "buy", "order", "transaction"})


def parse_json(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise BadLineError(f"not JSON: {problem}") from None
    if not isinstance(row, dict):
        raise BadLineError("not a JSON object")
    return row


def field(row: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """The value of a mandatory field of the given type (numbers exclude booleans)."""
    value = row.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadLineError(f"field {name!r} is missing or not usable: {value!r}"[:200])
    return value


def _neutral(line: str) -> Event | Item:
    """A line in our own form (`timestamp_ms`, tagged by `type`) or in the common one (`timestamp` in seconds)."""
    row = parse_json(line)
    kind = row.get("type")
    if kind == "item" or ("timestamp_ms" in row and kind in {"click", "purchase", "review"}):
        topic = {"item": "items", "click": "clicks", "purchase": "purchases", "review": "reviews"}[str(kind)]
        event = decode(topic, json.dumps(row).encode(), now_ms=_FAR_FUTURE_MS)
        if isinstance(event, Refusal):
            raise BadLineError(f"{event.reason}: {event.detail}")
        assert isinstance(event, Click | Purchase | Review | Item)
        return event
    return common_interaction(row)


def common_interaction(row: dict[str, Any]) -> Event:
    """The event of a JSON object with user_id, item_id, timestamp (seconds) and optional type, rating, text, session_id.

    Raises `BadLineError` naming the field at fault.
    """
    seconds = field(row, "timestamp", (int, float))
    if not 0 <= seconds < 1e12:
        raise BadLineError(f"field 'timestamp' is not a time in seconds: {seconds!r}")
    rating = row.get("rating")
    if rating is not None:
        rating = float(field(row, "rating", (int, float)))
    session = row.get("session_id")
    return interaction(
        str(row.get("type") or "click"), str(field(row, "user_id", (str, int))), str(field(row, "item_id", (str, int))),
        max(1, round(seconds * 1000)), rating=rating, text=str(row.get("text") or ""), title=str(row.get("title") or ""),
        session_id=None if session is None else str(session), event_id=str(row.get("event_id") or ""),
    )  # fmt: skip


def _is_neutral(line: str) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and (row.get("type") == "item" or ("user_id" in row and "item_id" in row))


NEUTRAL: Final = Converter("neutral JSON lines", _is_neutral, _neutral)


def converters() -> tuple[Converter, ...]:
    """Every known format, in the order in which they are tried."""
    from streams.datasets import DATASETS

    return (NEUTRAL, *DATASETS)


# ------------------------------------------------------------------------------------------------ reading
class EventFile:
    """The events of one file. Iterating again reads again; `skipped` counts what a lenient pass left out.

    With `order="time"` the whole file is held in memory and sorted; `"file"` streams it as it lies, holding one 20-byte digest
    for each line that has no id of its own or whose format collapses repeats.
    """

    def __init__(self, path: Path | str, *, lenient: bool = False, order: Order = "time") -> None:
        self.path = Path(path)
        self.lenient = lenient
        self.order = order
        self.skipped = 0
        self.first_problem: str | None = None
        self.converter = self._recognise()

    def __iter__(self) -> Iterator[Event | Item]:
        self.skipped, self.first_problem = 0, None
        events = self._in_file_order()
        return iter(_in_time_order(list(events))) if self.order == "time" else events

    def _recognise(self) -> Converter:
        head = next((line for _, line in self._lines("latin-1")), None)
        if head is None:
            raise EventFileError(f"{self.path}: no lines in it")
        for converter in converters():
            if converter.sniff(head):
                return converter
        names = ", ".join(converter.name for converter in converters())
        raise EventFileError(f"{self.path}:1: no known form of events (known: {names}); it begins {head[:80]!r}")

    def _in_file_order(self) -> Iterator[Event | Item]:
        occurrences: Counter[bytes] = Counter()
        lines_seen: set[bytes] = set()
        for number, line in self._lines(self.converter.encoding):
            if self.converter.collapse and _known(line, lines_seen):
                continue
            try:
                event = self.converter.convert(line)
                if event is not None:
                    yield _checked(_identified(event, occurrences))
            except BadLineError as problem:
                self._note(EventFileError(f"{self.path}:{number}: {problem}"))

    def _note(self, problem: EventFileError) -> None:
        if not self.lenient:
            raise problem from None
        self.skipped += 1
        self.first_problem = self.first_problem or str(problem)

    def _lines(self, encoding: str) -> Iterator[tuple[int, str]]:
        """Numbered lines without the empty ones. Refuses what is not text of that encoding, torn gzip and endless lines."""
        number = 0
        try:
            with _open(self.path) as stream:
                while raw := stream.readline(MAX_LINE_BYTES):
                    number += 1
                    if len(raw) == MAX_LINE_BYTES:
                        raise EventFileError(f"{self.path}:{number}: a line of more than {MAX_LINE_BYTES} bytes")
                    try:
                        line = raw.decode(encoding).rstrip("\r\n")
                    except UnicodeDecodeError as problem:
                        self._note(EventFileError(f"{self.path}:{number}: not {encoding}: {problem}"))
                        continue
                    if line.strip():
                        yield number, line
        except (EOFError, gzip.BadGzipFile, OSError) as problem:
            raise EventFileError(f"{self.path}: after line {number}: {problem}") from problem


def read_events(path: Path | str, *, lenient: bool = False, order: Order = "time") -> Iterator[Event | Item]:
    """The events of a file, its form recognised by its first line.

    Raises `EventFileError` with file and line for anything that is not an event; `lenient` skips such lines instead
    (use `EventFile` to learn how many).
    """
    return iter(EventFile(path, lenient=lenient, order=order))


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _checked(event: Event | Item) -> Event | Item:
    """The event after the door every message from Kafka goes through."""
    result = decode(TOPIC_OF[type(event)], encode(event), now_ms=_FAR_FUTURE_MS)
    if isinstance(result, Refusal):
        raise BadLineError(f"{result.reason}: {result.detail}")
    assert isinstance(result, Click | Purchase | Review | Item)
    return result


def _known(line: str, seen: set[bytes]) -> bool:
    """Whether this very line came before; remembers it."""
    digest = hashlib.sha1(line.encode(), usedforsecurity=False).digest()
    if digest in seen:
        return True
    seen.add(digest)
    return False


def _identified(event: Event | Item, occurrences: Counter[bytes]) -> Event | Item:
    """The event with an id made of its content; the second, third... of identical events get a number."""
    if isinstance(event, Item) or event.event_id:
        return event
    digest = hashlib.sha1(encode(event), usedforsecurity=False).digest()
    occurrences[digest] += 1
    count = occurrences[digest]
    return replace(event, event_id=digest[:10].hex() + (f"-{count}" if count > 1 else ""))


def _in_time_order(events: list[Event | Item]) -> list[Event | Item]:
    """Catalogue entries first, then the interactions by time (see the module on ties)."""
    items = [event for event in events if isinstance(event, Item)]
    rest = [event for event in events if not isinstance(event, Item)]
    if all(event.timestamp_ms % DAY_MS == 0 for event in rest):
        rest.sort(key=lambda event: (event.timestamp_ms, tie_break(event.user_id, event.item_id)))
    else:
        rest.sort(key=lambda event: event.timestamp_ms)
    return [*items, *rest]


def tie_break(user_id: str, item_id: str) -> str:
    """The place of an event inside a tie in time: sha1 of `user|item`, in hexadecimal."""
    return hashlib.sha1(f"{user_id}|{item_id}".encode(), usedforsecurity=False).hexdigest()
