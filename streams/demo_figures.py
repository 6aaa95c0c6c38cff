"""The figures of a demo run: what is made of the worker's metrics, read once a second, and of the lists on the output topic."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from models.events import POPULAR, Item, RecommendationList
from streams.scrape import Scrape, quantile

CTR_WINDOW_S: Final = 15.0
"""The click-through rate is compared between the first and the last so many seconds (half the shop's time if it is short)."""
RECENT_S: Final = 10.0
FRESHNESS: Final = "freshet_freshness_seconds"
EVENTS: Final = "freshet_events_total"
_IMPRESSIONS: Final = "freshet_impressions_total"
_CLICKS: Final = "freshet_clicks_attributed_total"
_LISTS: Final = "freshet_lists_total"


class Rate(Struct, frozen=True):
    """Clicks per item shown, both since some moment."""

    clicked: float
    shown: float

    def __str__(self) -> str:
        return f"{self.clicked / self.shown:.2%}" if self.shown > 0 else "-"

    @property
    def value(self) -> float:
        return self.clicked / self.shown if self.shown > 0 else 0.0


class Course:
    """Readings of the metrics in the order of time, and the figures over stretches of it.

    Bounds: the last `keep` readings, the one at which the first list was shown, and those of the first window.
    """

    def __init__(self, keep: int = 120) -> None:
        self._recent: deque[Scrape] = deque(maxlen=keep)
        self.first: Scrape | None = None  # the last one before anything happened
        self._shown: Scrape | None = None  # the last one before a list was shown
        self._opening: list[Scrape] = []  # of the first window, oldest first
        self._closed: Scrape | None = None

    def add(self, reading: Scrape) -> None:
        last = self._recent[-1] if self._recent else reading
        if self.first is None or reading.total(EVENTS) == 0:
            self.first = reading
        if self._shown is None and reading.total(_IMPRESSIONS, origin="platform") > 0:
            self._shown = last
        if self._shown is not None and reading.at - self._shown.at <= CTR_WINDOW_S + 1:
            self._opening.append(reading)
        self._recent.append(reading)

    @property
    def now(self) -> Scrape | None:
        return self._recent[-1] if self._recent else None

    def ago(self, seconds: float) -> Scrape | None:
        """The newest reading that is at least so old, else the oldest there is."""
        if not self._recent:
            return None
        return next((r for r in reversed(self._recent) if self._recent[-1].at - r.at >= seconds), self._recent[0])

    def per_second(self, figure: Callable[[Scrape], float], seconds: float = RECENT_S) -> float:
        """The rate of a counter over the last seconds."""
        new, old = self.now, self.ago(seconds)
        return (figure(new) - figure(old)) / (new.at - old.at) if new and old and new.at > old.at else 0.0

    def freshness(self, q: float, seconds: float | None = None) -> float | None:
        """A quantile from event to acknowledged list, in seconds: over the last seconds, or since the first event."""
        if self.now is None:
            return None
        return quantile(q, FRESHNESS, self.now, self.first if seconds is None else self.ago(seconds))

    def warm_freshness(self, q: float) -> float | None:
        """The same without the first window of the shop; None where the run was not longer."""
        if self.now is None or not self._opening or self.now.at - self._opening[-1].at < 1:
            return None
        return quantile(q, FRESHNESS, self.now, self._opening[-1])

    def close(self) -> None:
        """The shop has closed; what is read from now on is only the rest of the work."""
        self._closed = self.now

    def ctr(self, seconds: float = CTR_WINDOW_S) -> Rate:
        """Over the last seconds (of the shop, once it has closed: clicks that a slow worker finds later are not of that time)."""
        if self.now is None:
            return Rate(0, 0)
        end = self._closed if self._closed is not None else self.now
        return _ctr(end, self.ago(seconds + self.now.at - end.at))

    def first_ctr(self, seconds: float = CTR_WINDOW_S) -> Rate:
        """Over the first seconds in which lists were shown."""
        if self._shown is None:
            return Rate(0, 0)
        inside = [r for r in self._opening if r.at - self._shown.at <= seconds]
        return _ctr(inside[-1] if inside else self._shown, self._shown)

    def window(self) -> float:
        """Length of the two compared windows: they must not overlap."""
        if self._shown is None or self.now is None:
            return CTR_WINDOW_S
        end = self._closed if self._closed is not None else self.now
        return min(CTR_WINDOW_S, max(0.0, end.at - self._shown.at) / 2)

    def gained(self, name: str, **labels: str) -> float:
        """By how much a counter grew since the first reading."""
        return self.now.total(name, **labels) - self.first.total(name, **labels) if self.now and self.first else 0.0

    def cpu_us_per_event(self) -> float | None:
        """CPU time of the worker, text included, for each click, purchase and review; None where the platform does not tell."""
        events = sum(self.gained(EVENTS, topic=topic) for topic in ("clicks", "purchases", "reviews"))
        spent = self.gained("process_cpu_seconds_total")
        return spent / events * 1e6 if events and spent else None


def _ctr(new: Scrape | None, old: Scrape | None) -> Rate:
    if new is None or old is None:
        return Rate(0, 0)
    shown = new.total(_IMPRESSIONS, origin="platform") - old.total(_IMPRESSIONS, origin="platform")
    return Rate(new.total(_CLICKS) - old.total(_CLICKS), shown)


def behind(reading: Scrape) -> tuple[float, float]:
    """Records not finished by the agents, and not folded by the replica."""
    return reading.total("freshet_lag_records"), reading.total("freshet_replica_lag_records")


def progress(reading: Scrape) -> tuple[float, ...]:
    """Grows as long as anything is being done."""
    return (
        reading.total(EVENTS),
        reading.total("freshet_folded_total"),
        reading.total("freshet_texts_embedded_total"),
        reading.total(_LISTS) + reading.total("freshet_lists_unchanged_total"),
        reading.total("freshet_dead_letters_total"),
    )


class Viewer:
    """What can be seen on the output topic: the lists of one user who acts, and which of some awaited users have a list.

    Bounds: titles of `max_titles` items, one user's list, the awaited users who have none yet.
    """

    def __init__(self, awaited: frozenset[str] = frozenset(), max_titles: int = 20_000) -> None:
        self.missing = set(awaited)
        self.titles: dict[str, str] = {}
        self.max_titles = max_titles
        self._lock = threading.Lock()
        self._user: str | None = None
        self._value: bytes | None = None
        self._before: bytes | None = None
        self._others = 0

    def take_list(self, record: Any) -> None:
        user = (record.key or b"").decode(errors="replace")
        with self._lock:
            self.missing.discard(user)
            if record.value is None or user == POPULAR:
                return
            self._others += 1
            if user == self._user:
                self._before, self._value, self._others = self._value, record.value, 0
            elif self._user is None or self._others > 5_000:  # nothing has happened to the one we look at for a long time
                self._user, self._before, self._value, self._others = user, None, record.value, 0

    def take_item(self, record: Any) -> None:
        try:
            item = msgspec.json.decode(record.value or b"", type=Item)
        except (msgspec.MsgspecError, RecursionError):
            return
        if item.item_id in self.titles or len(self.titles) < self.max_titles:
            self.titles[item.item_id] = item.title

    def sample(self) -> tuple[RecommendationList, RecommendationList | None] | None:
        """The list of the user we look at and the one before it."""
        with self._lock:
            value, before = self._value, self._before
        if value is None:
            return None
        decode = msgspec.json.Decoder(RecommendationList).decode
        return decode(value), decode(before) if before is not None else None
