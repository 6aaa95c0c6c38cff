"""How soon lists are out, and what that takes of the machine: the simulated shop's events, with everything on.

The shop is played beforehand, with a model of its own in the place of the pipeline, so that what is measured shares the cores
with Kafka and a publisher but not with a few hundred minds. Lists are named as the pipeline names them, so clicks and impressions
are attributed as they would be.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer

from models import Recommender
from models.events import TOPIC_OF, Event, Impression, Item, encode
from streams import clock
from streams.ingest import partition_of
from streams.recommend import list_id
from streams.scrape import Scrape, quantile
from streams.settings import ROLES
from streams.shop import Shop, Shown
from tests.benchmarks.model_cost import Row
from tests.chaos.storm import Process
from tests.streams.flow import Flow, flow, page_of, settle, until

FRESHNESS: Final = "freshet_freshness_seconds"
WARM_S: Final = 8
"""The first events of a process find nothing in its caches."""
PATIENCE_S: Final = 180.0
_OPENING_MS: Final = 1_700_000_000_000


class Sent(NamedTuple):
    """A message as the platform sends it; `due` counts the events before it that change lists."""

    topic: str
    key: bytes
    value: bytes
    due: int


class Layout(NamedTuple):
    """How the roles are spread over processes: `workers` that have all but those `apart`, of which each has one process."""

    workers: int
    apart: tuple[str, ...] = ("embed",)
    """As in docker-compose.yml."""

    @property
    def together(self) -> str:
        """What a worker is started with."""
        return ",".join(role for role in ROLES if role not in self.apart)

    def __str__(self) -> str:
        group = "one worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{group}, {' and '.join(self.apart)} apart" if self.apart else group


def played(events: int, rate: int, seed: int = 7) -> list[Sent]:
    """The catalogue, and then what happens in the shop until so many events have changed lists; at `rate` of them a second by the
    shop's own clock. Impressions come on top."""
    shop, model, seen, due = Shop(seed), Recommender(), dict[str, Shown](), 0
    sent = [_sent(item, 0) for item in shop.catalogue()]
    for item in shop.catalogue():
        model.learn(item)
    while due < events:
        shopper, now_ms = shop.visitor(), _OPENING_MS + due * 1000 // rate
        last: Event | None = None
        for event in shop.step(shopper, seen.get(shopper.shopper_id), now_ms):
            sent.append(_sent(event, due))
            if not isinstance(event, Impression):
                model.learn(event, train=due % 10 == 0)
                due, last = due + 1, event
        if last is not None:
            lines = model.recommend(shopper.shopper_id, 20)
            seen[shopper.shopper_id] = Shown(list_id(shopper.shopper_id, last.event_id), tuple(line.item_id for line in lines))
    return sent


def _sent(event: Event | Impression | Item, due: int) -> Sent:
    key = event.item_id if isinstance(event, Item) else event.user_id
    return Sent(TOPIC_OF[type(event)], key.encode(), encode(event), due)


def fresh(bootstrap: str, directory: Path, rate: int, layout: Layout, seconds: int, cores: Collection[int] = ()) -> Iterator[Row]:
    """Freshness at a rate, of the processes of a layout on some `cores` (see `begin`); the bundled encoder at work, a snapshot
    now and then."""
    events = played(rate * (WARM_S + seconds), rate)
    items = [sent for sent in events if sent.topic == "items"]
    warm = [sent for sent in events[len(items) :] if sent.due < rate * WARM_S]
    rest = events[len(items) + len(warm) :]
    place, prefix = directory / f"fresh-{rate}", f"fresh{rate}."
    place.mkdir()
    with flow(bootstrap, place, prefix, embedding_model="bundled") as river:
        group = [Process(f"worker-{n}", layout.together, river) for n in range(layout.workers)]
        others = [Process(role, role, river) for role in layout.apart]
        ports, everybody = [one.port for one in group], [one.port for one in (*group, *others)]
        try:
            begin([*group, *others], cores)
            until(lambda: all(_shares(one, layout.workers) for one in group), "all are at work", PATIENCE_S)
            until(lambda: all(one.metric("freshet_ready") == 1.0 for one in others), "the others are ready", PATIENCE_S)
            for opening in (items, warm):  # what embedders have to catch up with is no part of what is measured
                publish(river, opening, rate)
                settle(river.settings, *everybody)
            before, idle = [reading(port) for port in everybody], _idle()
            was = reading(*ports)
            publish(river, rest, rate)
            after, left = [reading(port) for port in everybody], _idle() - idle
            settle(river.settings, *everybody)
            now = reading(*ports)
        finally:
            for one in [*group, *others]:
                one.kill()
    share, count = within(0.1, now, was)
    p50, p99 = (quantile(q, FRESHNESS, now, was) or 0.0 for q in (0.5, 0.99))
    cpu = ", ".join(f"{one.name} {_cpu(new, old):.0%}" for one, new, old in zip((*group, *others), after, before, strict=True))
    yield (
        f"freshness at {rate:,} events/s, {layout}, p50 / p99",
        f"{p50 * 1000:.0f} / {p99 * 1000:.0f} ms",
        f"{share:.1%} of {count:,.0f} events within 100 ms; {len(rest) / seconds:,.0f} messages/s; of a core: {cpu}; "
        f"{left / seconds / len(os.sched_getaffinity(0)):.0%} of all cores left idle; {where(cores)}",
    )


def begin(group: Sequence[Process], cores: Collection[int]) -> None:
    """Start the workers, on `cores` if there are any: then who starts them keeps to others, and Kafka with it."""
    for one in group:
        one.start()
        if cores and one.process is not None:
            os.sched_setaffinity(one.process.pid, cores)  # its threads are still to come


def where(cores: Collection[int]) -> str:
    """What a figure was measured on."""
    if not cores:
        return f"{len(os.sched_getaffinity(0))} cores, shared with Kafka and the publisher"
    return f"cores of their own ({', '.join(map(str, sorted(cores)))}), Kafka and the publisher on others"


def _cpu(new: Scrape, old: Scrape) -> float:
    name = "process_cpu_seconds_total"
    return (new.total(name) - old.total(name)) / (new.at - old.at)


def _idle() -> float:
    """Seconds, over all cores, in which this machine has had nothing to do since it started."""
    return float(Path("/proc/uptime").read_text().split()[1])


def _shares(one: Process, workers: int) -> bool:
    topic, partitions = one.river.settings.topic("interactions"), one.river.settings.partitions
    return one.metric("freshet_ready") == 1.0 and one.metric("freshet_owned_partitions", topic=topic) <= -(-partitions // workers)


def publish(river: Flow, messages: Sequence[Sent], rate: int) -> None:
    """Sends each message when it is due, fifty times a second some. AssertionError where this machine cannot.

    What is there already is kept out of garbage collections: looking through a shop's history takes a quarter of a second, in
    which nothing would be sent, and then all of it at once."""
    gc.collect()
    gc.freeze()
    try:
        asyncio.run(_publish(river, messages, rate))
    finally:
        gc.unfreeze()


async def _publish(river: Flow, messages: Sequence[Sent], rate: int) -> None:
    """One batch for each partition: sent one by one, messages would take more of the cores than a broker does."""
    settings, topics = river.settings, {sent.topic: river.settings.topic(sent.topic) for sent in messages}
    async with AIOKafkaProducer(**settings.connection.aiokafka()) as kafka:
        begun, first = time.monotonic(), messages[0].due
        sending: list[asyncio.Future[Any]] = []
        for due, some in itertools.groupby(messages, key=lambda sent: (sent.due - first) * 50 // rate):
            await asyncio.sleep(max(0.0, begun + due / 50 - time.monotonic()))
            now_ms, batches = clock.now_ms(), dict[tuple[str, int], list[Sent]]()
            for sent in some:
                batches.setdefault((topics[sent.topic], partition_of(sent.key, settings.partitions)), []).append(sent)
            for (topic, partition), batch in batches.items():
                sending += [await kafka.send_batch(made, topic, partition=partition) for made in _batches(kafka, batch, now_ms)]
        await asyncio.gather(*sending)
    late_s = time.monotonic() - begun - (messages[-1].due - first) / rate
    assert late_s < 1.0, f"this machine is too slow for the publisher: it was {late_s:.1f} s late"


def _batches(kafka: AIOKafkaProducer, messages: list[Sent], now_ms: int) -> Iterator[Any]:
    """What goes to one partition, as full as batches get."""
    batch = kafka.create_batch()
    for sent in messages:
        if batch.append(key=sent.key, value=sent.value, timestamp=now_ms) is None:
            yield batch
            batch = kafka.create_batch()
            assert batch.append(key=sent.key, value=sent.value, timestamp=now_ms) is not None, "a message fits into a batch"
    yield batch


def reading(*ports: int) -> Scrape:
    """What the processes with these metrics ports say, added up."""
    return Scrape("\n".join(page_of(port, "/metrics") for port in ports), time.monotonic())


def within(edge_s: float, new: Scrape, old: Scrape) -> tuple[float, float]:
    """The part of the events between two readings whose lists were out so soon (an edge of the histogram), and their number."""
    counts = {edge: count - old.buckets(FRESHNESS).get(edge, 0.0) for edge, count in new.buckets(FRESHNESS).items()}
    return counts[edge_s] / counts[float("inf")], counts[float("inf")]
