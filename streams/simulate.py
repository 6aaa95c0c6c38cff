"""`freshet simulate`: the simulated shop against Kafka, as a platform would be connected.

It publishes events to the input topics and reads the lists it shows from the output topic; nothing else passes between the two. A
visitor is shown the newest list on the topic, or the strangers' list, or (before there is any) none.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError
from msgspec import Struct
from rich.console import Console

from models.events import POPULAR, TOPIC_OF, Click, Impression, Item, Purchase, Review, encode
from streams import clock, topics
from streams.settings import Settings
from streams.shop import Shop, ShopEvent, ShopOptions, Shopper, Shown
from streams.tail import Tail, TailError

TICK_S: Final = 0.03
"""Visits happen in small groups, so that the process sleeps in between."""
DEBT_S: Final = 1.0
"""After a pause (a broker that stood still) at most so many seconds of events are made up for."""
DELIVERY_S: Final = 30.0


class SimulateError(RuntimeError):
    """The shop cannot be opened; the text says why."""


class _Line(Struct):
    item_id: str


class _List(Struct):
    """The part of a list that a front end shows."""

    list_id: str
    log_offset: int
    items: list[_Line]


class Shelf:
    """The newest list of each user, folded from the output topic. Bound: `max_users`, the least recently changed leaves first."""

    def __init__(self, max_users: int = 100_000) -> None:
        self.max_users = max_users
        self._lists: OrderedDict[str, tuple[int, Shown]] = OrderedDict()
        self._lock = threading.Lock()
        self._decode = msgspec.json.Decoder(_List).decode

    def __len__(self) -> int:
        return len(self._lists)

    def take(self, record: Any) -> None:
        """Fold one record; what is no list, or an older one than is known, changes nothing."""
        user = (record.key or b"").decode(errors="replace")
        if record.value is None:
            with self._lock:
                self._lists.pop(user, None)
            return
        try:
            new = self._decode(record.value)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return
        with self._lock:
            known = self._lists.get(user)
            if known is not None and known[0] > new.log_offset:
                return
            self._lists[user] = (new.log_offset, Shown(new.list_id, tuple(line.item_id for line in new.items)))
            self._lists.move_to_end(user)
            if len(self._lists) > self.max_users:
                self._lists.popitem(last=False)

    def shown_to(self, user: str) -> Shown | None:
        """What this user sees: their own list, else the strangers'; None before there is any."""
        with self._lock:
            known = self._lists.get(user) or self._lists.get(POPULAR)
        return known[1] if known is not None else None


class Platform:
    """Publishes what happens in the shop and counts what became of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sent: Counter[str] = Counter()
        self.failed = 0
        self.first_failure = ""
        _check_topics(settings)
        try:
            self._producer = KafkaProducer(
                **settings.connection.kafka_python(),
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                delivery_timeout_ms=int(DELIVERY_S * 1000),
                request_timeout_ms=int(DELIVERY_S * 500),
                max_block_ms=int(DELIVERY_S * 1000),
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except KafkaError as problem:
            raise SimulateError(f"no connection to Kafka at {settings.bootstrap}: {problem}") from problem

    def send(self, event: ShopEvent | Item) -> None:
        """To its input topic, keyed by the user's (or item's) raw id; delivery goes on in the background."""
        topic = TOPIC_OF[type(event)]
        key = event.item_id if isinstance(event, Item) else event.user_id
        self.sent[topic] += 1
        try:
            self._producer.send(self.settings.topic(topic), key=key.encode(), value=encode(event)).add_errback(self._fail)
        except KafkaError as problem:
            self._fail(problem)

    def connect(self) -> None:
        """Know where every topic is, before there are visitors to keep waiting."""
        try:
            for topic in TOPIC_OF.values():
                self._producer.partitions_for(self.settings.topic(topic))
        except KafkaError as problem:
            self._fail(problem)

    def _fail(self, problem: BaseException) -> None:
        self.failed += 1
        self.first_failure = self.first_failure or f"{type(problem).__name__}: {problem}"

    def close(self) -> None:
        """Wait until everything is delivered or has failed."""
        try:
            self._producer.flush(timeout=DELIVERY_S + 5)
        except KafkaError as problem:
            self._fail(problem)
        self._producer.close(timeout=5)


def _check_topics(settings: Settings) -> None:
    """A producer would wait long and silently for topics that are not there."""
    try:
        missing = [spec.name for spec in topics.plan(settings.connection, settings.topic_specs).missing]
    except topics.TopicsError as problem:
        raise SimulateError(str(problem)) from problem
    if missing:
        raise SimulateError(f"these topics are missing: {', '.join(missing)}. Create them with: freshet topics")


class Tally:
    """What a front end sees itself: items shown and clicked, by visitors of lists."""

    def __init__(self) -> None:
        self.shown = 0
        self.clicked = 0

    def count(self, event: ShopEvent) -> None:
        if isinstance(event, Impression):
            self.shown += len(event.items)
        elif isinstance(event, Click) and event.list_id is not None:
            self.clicked += 1


def simulate(
    settings: Settings,
    *,
    rate: float = 200.0,
    seconds: float | None = None,
    seed: int = 7,
    shoppers: int | None = None,
    review_rate: float = 10.0,
    max_reviews: int | None = None,
) -> int:
    """Run the shop until `seconds` have passed or a signal comes; the exit code.

    `rate` counts clicks, purchases and reviews per second; impressions come on top. 0: ended in good order and every message was
    delivered, 1: it was not, 2: the arguments make no shop.
    """
    console = Console(stderr=True)
    try:
        options = _options(rate, seconds, shoppers, review_rate, max_reviews)
    except ValueError as problem:
        console.print(f"[red]freshet:[/red] {problem}", highlight=False)
        return 2
    shop = Shop(seed, options, run=f"{seed}-{clock.now_ms():x}")
    end = threading.Event()
    try:
        with _signals(end):
            platform, tally = run(settings, shop, rate, seconds, end)
    except (SimulateError, TailError) as problem:
        console.print(f"[red]freshet:[/red] {problem}", highlight=False)
        return 1
    Console().print(_summary(platform, tally), highlight=False, soft_wrap=True)
    return 1 if platform.failed else 0


def run(settings: Settings, shop: Shop, rate: float, seconds: float | None, end: threading.Event) -> tuple[Platform, Tally]:
    """Open the shop, let visitors in at the rate, close it. SimulateError where Kafka or its topics are not there, TailError
    where the lists can no longer be read."""
    platform, tally, shelf = Platform(settings), Tally(), Shelf()
    visits_per_tick = 50 + int(20 * rate * TICK_S)  # a shop in which nobody clicks any more must not spin
    lists = Tail(settings.connection, {settings.topic("recommendations"): shelf.take}, name="lists")
    try:
        for item in shop.catalogue():
            platform.send(item)
        platform.connect()
        lists.start()
        started = paced_from = time.monotonic()
        events = 0
        while not end.is_set() and (seconds is None or time.monotonic() - started < seconds):
            now = time.monotonic()
            if (now - paced_from) * rate - events > DEBT_S * rate:
                paced_from, events = now, 0
            for _ in range(visits_per_tick):
                if events >= (time.monotonic() - paced_from) * rate:
                    break
                events += _visit(shop, shop.visitor(), shelf, platform, tally)
            for item in shop.novelties(clock.now_ms()):
                platform.send(item)
            if lists.error is not None:
                raise TailError(f"the lists can no longer be read: {lists.error}")
            end.wait(TICK_S)
    finally:
        lists.close()
        platform.close()
    return platform, tally


def _visit(shop: Shop, shopper: Shopper, shelf: Shelf, platform: Platform, tally: Tally) -> int:
    """One visit; the number of events (without the impression)."""
    events = shop.step(shopper, shelf.shown_to(shopper.shopper_id), clock.now_ms())
    for event in events:
        tally.count(event)
        platform.send(event)
    return sum(isinstance(event, Click | Purchase | Review) for event in events)


def _options(
    rate: float, seconds: float | None, shoppers: int | None, review_rate: float, max_reviews: int | None
) -> ShopOptions:
    if not 0 < rate <= 100_000:
        raise ValueError(f"--rate is events per second, above 0 and at most 100,000, not {rate}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"--seconds must be above 0, not {seconds}")
    given = {"shoppers": shoppers, "reviews_per_s": review_rate, "max_reviews": max_reviews}
    return ShopOptions(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _summary(platform: Platform, tally: Tally) -> str:
    sent = platform.sent
    parts = ", ".join(f"{sent[topic]:,} {topic}" for topic in ("clicks", "purchases", "reviews", "impressions", "items"))
    rate = f"{tally.clicked / tally.shown:.2%}" if tally.shown else "no list was shown"
    delivered = "all delivered"
    if platform.failed:
        delivered = f"{platform.failed:,} were not delivered, the first: {platform.first_failure}"
    return f"sent {parts}; {delivered}. Click-through rate of the lists shown: {rate}"


@contextmanager
def _signals(end: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end the shop in good order, while the block runs (only the main thread may set handlers)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: end.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
