"""Logging: readable or JSON lines on standard error; who complains thousands of times a second is heard once a second.

Texts of messages, user ids and secrets never get here: we log none, and the libraries that would (at DEBUG they print what they
send and receive) stay at INFO. What a line is about goes into fields of its own (`extra={"event_id": ...}`, see `FIELDS`), so
that a log store can be asked for one event, list or place in the log.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

LIBRARIES: Final = ("aiokafka", "kafka", "faust", "mode", "asyncio", "qdrant_client", "httpx", "httpcore", "urllib3")
"""Not below INFO, whatever the level: their DEBUG shows payloads. Some are quieter still."""
QUIET: Final = {"httpx": logging.WARNING, "httpcore": logging.WARNING, "kafka": logging.WARNING, "asyncio": logging.WARNING}
LIMITED: Final = ("aiokafka", "kafka", "streams.ingest")
"""While a broker is away the clients loop without a pause: 3,000 lines a second. Ingest has a line for each refused message."""
FIELDS: Final = ("event_id", "list_id", "topic", "partition", "offset", "reason", "agent")
"""What a line may be about, in the order of printing."""


class RateLimit(logging.Filter):
    """Lets the same message (by its template, not its arguments) of the loggers below `names` through once per `interval_s`, with
    the number of those left out. Bound: `max_templates` templates are remembered, the oldest is forgotten."""

    def __init__(
        self,
        names: tuple[str, ...] = LIMITED,
        interval_s: float = 1.0,
        max_templates: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.names, self.interval_s, self.max_templates, self.clock = names, interval_s, max_templates, clock
        self._seen: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()  # -> last let through, left out since

    def filter(self, record: logging.LogRecord) -> bool:
        if not any(record.name == name or record.name.startswith(name + ".") for name in self.names):
            return True
        key, now = (record.name, record.levelno, str(record.msg)), self.clock()
        last, left_out = self._seen.get(key, (None, 0))
        if last is not None and now - last < self.interval_s:
            self._seen[key] = (last, left_out + 1)
            return False
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > self.max_templates:
            self._seen.popitem(last=False)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", None
        return True


class Remembered(NamedTuple):
    """A warning or an error that was logged: when (seconds since the epoch), how bad, by whom, what."""

    created: float
    level: str
    logger: str
    text: str


class Recent(logging.Filter):
    """Lets everything through and remembers the last `most` warnings and errors, for the page that people look at. `count` is
    called with the level of each."""

    def __init__(self, most: int = 50) -> None:
        super().__init__()
        self._lines: deque[Remembered] = deque(maxlen=most)
        self.count: Callable[[str], object] = lambda level: None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            text = (record.getMessage() + about(record))[:2_000]
            self._lines.append(Remembered(record.created, record.levelname, record.name, text))
            self.count(record.levelname)
        return True

    def lines(self) -> list[Remembered]:
        """Oldest first. Any thread may ask."""
        return list(self._lines)


def about(record: logging.LogRecord) -> str:
    """The fields of a line as text: ` event_id=e1 partition=3`."""
    return "".join(f" {name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name))


class Readable(logging.Formatter):
    """`12:00:00.123 INFO  streams.app  text`; further lines are indented, so that no text can pass for a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        text = record.getMessage() + about(record)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{when} {record.levelname:<8} {record.name}  " + text.replace("\r", "\\r").replace("\n", "\n    ")


class JsonLines(logging.Formatter):
    """One object per line: `time` (UTC), `level`, `logger`, `message`, the fields the line has and, for errors, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str = "INFO", json: bool = False) -> None:
    """Set up logging of this process; may be called again. ValueError for an unknown level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if json else Readable())
    handler.addFilter(RateLimit())
    handler.addFilter(Recent())
    root = logging.getLogger()
    root.setLevel(level)
    root.handlers = [handler]
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(max(root.level, QUIET.get(name, logging.INFO)))
        library.handlers, library.propagate = [], True
    logging.captureWarnings(True)


def recent() -> Recent:
    """What remembers this process's warnings; one that hears nothing where logging was not set up by `configure`."""
    found = (one for handler in logging.getLogger().handlers for one in handler.filters if isinstance(one, Recent))
    return next(found, Recent())
