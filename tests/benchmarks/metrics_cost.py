"""What watching costs: CPU of metrics and live quality beside the work itself, and the number of series.

The agents of a worker are driven in this process, in batches as they are at 1,000 events/s. Calls of metrics are noted and then
made again, by themselves, to be timed; calls of live quality are timed as they are made. They are compared with the same agents
without either. Kafka's clients are left out, so the work that is compared with is less than a worker really does: the share given
is at most too high. The clock is simulated, since what is sampled is sampled by time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

from aiokafka import ConsumerRecord
from prometheus_client import generate_latest

from models.events import Click, Impression, encode
from streams import clock
from streams.attribute import Attribute
from streams.ingest import Ingest, partition_of
from streams.learn import Learner
from streams.live_quality import LiveQuality
from streams.metrics import Metrics
from streams.recommend import Recommend
from streams.settings import Settings
from streams.transport import OutRecord

Row = tuple[str, str, str]
RATE: Final = 1_000
BATCH: Final = 20
SCRAPE_EVERY_S: Final = 5.0


Calls = list[tuple[Any, tuple[Any, ...], dict[str, Any]]]


class Nothing:
    """Stands for any metric: every attribute, item and call of it is itself."""

    def __getattr__(self, name: str) -> Nothing:
        return self

    def __getitem__(self, key: object) -> Nothing:
        return self

    def __call__(self, *_: object, **__: object) -> Nothing:
        return self


class Noting:
    """Stands for an object: does what it does, and notes every call."""

    def __init__(self, target: Any, calls: Calls) -> None:
        self._target, self._calls = target, calls

    def __getattr__(self, name: str) -> Noting:
        return Noting(getattr(self._target, name), self._calls)

    def __getitem__(self, key: object) -> Noting:
        return Noting(self._target[key], self._calls)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._calls.append((self._target, arguments, named))
        return self._target(*arguments, **named)


class Timed:
    """Stands for live quality: does what it does; `seconds` of CPU went into its calls, looking at the clock included."""

    def __init__(self, target: Any) -> None:
        self._target, self.seconds, self.calls = target, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        def call(*arguments: Any) -> Any:
            begin = time.thread_time()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.thread_time() - begin
                self.calls += 1

        return call

    def seconds_itself(self) -> float:
        """The seconds less those of as many calls of nothing."""
        idle = []
        for _ in range(5):
            nothing = Timed(Nothing())
            for _ in range(2_000):
                nothing.test(0)
            idle.append(nothing.seconds / nothing.calls)
        return self.seconds - median(idle) * self.calls


class Desk:
    """One worker's agents without Kafka: what one sends, the next one gets."""

    def __init__(self, metrics: Any, watch: Metrics | None = None) -> None:
        self.settings = Settings(cohort_window_s=36.0, cohort_lists=2_000)  # as full as by default, but soon
        self.learner = Learner(self.settings, metrics)
        self.quality: Timed | None = None
        if watch is not None:
            quality = LiveQuality(self.settings, watch, self.learner, lambda: True)
            quality.own(range(self.settings.partitions))
            self.quality = self.learner.quality = Timed(quality)  # type: ignore[assignment]
        attribute = Attribute(self.settings, metrics, self.learner, self.produce)
        self.ingest = Ingest(self.settings, metrics, self.produce)
        self.attribute = attribute
        self.recommend = Recommend(self.settings, metrics, self.learner, attribute, self, self.produce)
        self.sent: dict[str, list[ConsumerRecord]] = {}
        self.offsets: dict[tuple[str, int], int] = {}

    async def reached(self, topic: str, partition: int, offset: int) -> None:
        """The replica is always there: the batch was folded just before."""

    def position(self, topic: str, partition: int) -> int:
        """It has come as far as the log goes."""
        return self.offsets.get((topic, partition), 0)

    async def produce(self, topic: str, records: Sequence[OutRecord]) -> None:
        for partition, key, value, timestamp_ms, headers in records:
            at = timestamp_ms if timestamp_ms is not None else clock.now_ms()
            self.sent.setdefault(topic, []).append(self.record(topic, partition, key, value, at, headers))

    def record(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, at_ms: int, headers: Any = ()
    ) -> ConsumerRecord:
        offset = self.offsets.get((topic, partition), 0)
        self.offsets[topic, partition] = offset + 1
        return ConsumerRecord(topic, partition, offset, at_ms, 0, key, value, None, len(key or b""), len(value or b""), headers)

    def taken(self, topic: str) -> list[ConsumerRecord]:
        return self.sent.pop(topic, [])

    async def batch(self, clicks: Sequence[Click], shown: Sequence[Impression]) -> None:
        """Events from the platform until their lists are out and known."""
        now = clock.now_ms()
        await self.ingest.handle([self._from_platform("clicks", click, now) for click in clicks])
        lines = self.taken("interactions")
        for partition in range(self.settings.partitions):
            of_partition = [line for line in lines if line.partition == partition]
            if of_partition:
                self.learner.interactions(partition, of_partition)
        await self.recommend.handle(lines)
        for record in self.taken("recommendations"):
            self.learner.recommendations(record.partition, [record])
        if shown:
            await self.attribute.handle([self._from_platform("impressions", one, now) for one in shown])

    def _from_platform(self, topic: str, event: Click | Impression, now_ms: int) -> ConsumerRecord:
        key = event.user_id.encode()
        return self.record(topic, partition_of(key, self.settings.partitions), key, encode(event), now_ms)


class Traffic:
    """The same shop for everybody: people see their list, click on something of it now and then, else on what is liked."""

    def __init__(self, desk: Desk, seed: int = 3) -> None:
        self.desk, self.rng, self.number = desk, random.Random(seed), 0

    def batch(self) -> tuple[list[Click], list[Impression]]:
        clicks, shown, now = [], [], clock.now_ms()
        for _ in range(BATCH):
            self.number += 1
            user = f"u{self.rng.randrange(2_000)}"
            served = self.desk.learner.served.last(user)
            item, list_id = f"i{int(self.rng.paretovariate(0.7)) % 2_000}", None
            if served is not None and served.items:
                view = {"user_id": user, "list_id": served.list_id, "items": list(served.items), "timestamp_ms": now}
                shown.append(Impression(event_id=f"v{self.number}", **view))  # type: ignore[arg-type]
                if self.rng.random() < 0.3:
                    item, list_id = self.rng.choice(served.items), served.list_id
            clicks.append(Click(event_id=f"e{self.number}", user_id=user, item_id=item, timestamp_ms=now, list_id=list_id))
        return clicks, shown


def spent(desk: Desk, traffic: Traffic, batches: int, tick: Any) -> float:
    """CPU seconds of the agents over so many batches."""
    total = 0.0
    loop = asyncio.new_event_loop()
    for _ in range(batches):
        tick()
        clicks, shown = traffic.batch()
        begin = time.process_time()
        loop.run_until_complete(desk.batch(clicks, shown))
        total += time.process_time() - begin
    loop.close()
    return total


def again(calls: Calls) -> float:
    """CPU seconds of making these calls once more, and nothing else."""
    begin = time.process_time()
    for function, arguments, named in calls:
        function(*arguments, **named)
    done = time.process_time()
    for _, _, _ in calls:
        pass
    return (done - begin) - (time.process_time() - done)


def metrics_cost(batches: int = 500) -> Iterator[Row]:
    """Rows for the table."""
    now = [1_700_000_000_000.0]
    real = clock.now_ms

    def tick() -> None:
        now[0] += BATCH * 1000 / RATE

    clock.now_ms = lambda: int(now[0])
    try:
        metrics, calls = Metrics(), Calls()
        watched, bare = Desk(Noting(metrics, calls), metrics), Desk(Nothing())
        assert watched.quality is not None
        traffics = {desk: Traffic(desk) for desk in (watched, bare)}
        for desk, traffic in traffics.items():  # compiles, and fills the shop
            spent(desk, traffic, 500, tick)
        calls.clear()
        watched.quality.seconds, watched.quality.calls = 0.0, 0
        spent(watched, traffics[watched], batches, tick)
        work_s = spent(bare, traffics[bare], batches, tick)
        calling_s = median(again(calls) for _ in range(3))
        quality_s = watched.quality.seconds_itself()
    finally:
        clock.now_ms = real
    events = batches * BATCH
    work, calling, quality = (s / events * 1e6 for s in (work_s, calling_s, quality_s))
    scrapes = []
    for _ in range(9):
        begin = time.process_time()
        text = generate_latest(metrics.registry)
        scrapes.append(time.process_time() - begin)
    series = sum(1 for line in text.decode().splitlines() if line and not line.startswith("#"))
    scraping = median(scrapes) / SCRAPE_EVERY_S / RATE * 1e6
    price = calling + quality + scraping
    for what, cost, parts in (
        ("metrics", calling + scraping, f"calls {calling:.1f}, scrapes {scraping:.1f}"),
        ("live quality", quality, f"{quality:.1f}"),
        ("both", price, f"{price:.1f}"),
    ):
        share = f"{cost / (work + price):.1%} of the agents' CPU"
        yield f"{what} at {RATE:,} events/s", share, f"{parts} us an event, beside {work:.0f} us of work"
    yield "series of a process that makes lists", f"{series}", "and a few for each partition and part of the model"
