"""A reader of whole topics, outside every consumer group: each process folds all partitions into its own state.

    replica = Replica(connection, {"interactions": fold_interactions, "items": fold_items})
    await app.add_runtime_dependency(replica)        # or, without Faust: await replica.start() ... await replica.stop()
    await replica.wait_ready()                       # has folded everything that was in the topics when it started
    await replica.reached("interactions", 3, 991)    # has folded offset 991 of partition 3

A fold is a plain function of (partition, records): it must not wait, read the clock or draw random numbers, and there is no pause
between it and the new position, so whoever looks sees a state and positions that belong together. Records come in offset
order per partition; topics and partitions interleave as they arrive.

Any failure, of Kafka for good or of a fold, ends the process (`die`): the framework would only log it and leave a replica
that looks alive and is stale. The next start reads the topics again.

Bounds: a fold gets at most `slice_records` at a time and the event loop is given a turn every `SLICE_S`; `FETCH_BYTES` per
partition are fetched ahead; waiters are as many as there are concurrent `reached` calls.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import aiokafka
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, UnknownTopicOrPartitionError
from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaTopicPartition
from mode import Service

from .connection import Connection
from .lanes import die
from .topics import admin

Apply = Callable[[int, Sequence[ConsumerRecord]], None]
"""(partition, records in offset order) -> the state has changed."""

Positions = dict[tuple[str, int], int]
"""(topic, partition) -> an offset."""

PACE_S: Final = 0.003
"""Between two fetches, as in transport.py."""
SLICE_S: Final = 0.005
"""Folding yields to the event loop at least so often, save for a single slice that takes longer."""
FETCH_RECORDS: Final = 500
"""Taken from the client's buffer at a time, since unpacking them does not yield either (1 us each)."""
FETCH_BYTES: Final = 1024 * 1024
FETCH_WAIT_MS: Final = 100
"""The longest time a partition waits behind a fetch that finds nothing."""
UNHURRIED_WAIT_MS: Final = 50
UNHURRIED_BYTES: Final = 512 * 1024
"""What can wait is fetched so often, or when there is so much of it: a fetch costs by the partitions that are asked for, whatever
it brings."""


class Replica(Service):  # type: ignore[misc]  # mode is not followed by mypy
    """See the module.

    topics         full topic name -> its fold
    resume         (topic, partition) -> first offset to read, from a snapshot of the state; everything else from its beginning.
                   An attribute as well, to be set before the start
    pace_s         pause between two fetches
    slice_records  most records given to a fold at once
    unhurried      topics of which a record may be folded `UNHURRIED_WAIT_MS` later than it could be. They have a client of
                   their own, so that the others' fetches are small and are not answered by what can wait
    patience_s     how long Kafka may take to answer a request, or a topic to appear at the start
    fail           called with a sentence and the exception when reading or folding failed

    Attributes:
        ready: set once everything that was there at the start has been folded.
    """

    def __init__(
        self,
        connection: Connection,
        topics: Mapping[str, Apply],
        *,
        resume: Mapping[tuple[str, int], int] | None = None,
        unhurried: Collection[str] = (),
        pace_s: float = PACE_S,
        slice_records: int = 50,
        patience_s: float = 40.0,
        fail: Callable[[str, BaseException], Any] = die,
        **service: Any,
    ) -> None:
        super().__init__(**service)
        if not topics or slice_records < 1:
            raise ValueError("a replica needs at least one topic and one record per slice")
        if not topics.keys() >= set(unhurried):
            raise ValueError(f"unhurried topics that are not read: {sorted(set(unhurried) - topics.keys())}")
        self.connection, self.topics = connection, dict(topics)
        self.pace_s, self.slice_records, self.fail = pace_s, slice_records, fail
        self.unhurried = frozenset(unhurried)
        self.ready = asyncio.Event()
        self._patience_ms = int(patience_s * 1000)
        self.resume: Positions = dict(resume or {})
        self._next: dict[tuple[str, int], int] = {}  # the next offset to fold
        self._ends: dict[tuple[str, int], int] = {}  # where the topics ended at the start
        self._waiters: dict[tuple[str, int], list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._order = itertools.count()
        self._clients: dict[str, Any] = {}  # by topic; there are two at most

    # -- for those who depend on it ---------------------------------------------------------------------------------
    async def wait_ready(self) -> None:
        """Until everything that was in the topics at the start has been folded."""
        await self.ready.wait()

    async def reached(self, topic: str, partition: int, offset: int) -> None:
        """Until the record at `offset` has been folded. KeyError for a topic or partition that is not read."""
        if not self._next:
            await self.ready.wait()
        key = topic, partition
        if self._next[key] > offset:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters[key], (offset, next(self._order), done))
        await done

    async def caught_up(self, topic: str, partition: int) -> None:
        """Until everything that is in the partition at this moment has been folded."""
        tp = TopicPartition(topic, partition)
        end = (await self._clients[topic].end_offsets([tp]))[tp]
        if end > 0:
            await self.reached(topic, partition, end - 1)

    @property
    def positions(self) -> Positions:
        """(topic, partition) -> the next offset to fold. Taken together with the state, between two turns of the event loop,
        this is what a snapshot needs for `resume`."""
        return dict(self._next)

    def position(self, topic: str, partition: int) -> int:
        """The next offset to fold; 0 before the start."""
        return self._next.get((topic, partition), 0)

    def folded(self, topic: str) -> int:
        """Sum of the topic's positions over its partitions: grows with every record, and is the same on every replica that has
        folded the same. 0 before the start."""
        return sum(position for (name, _), position in list(self._next.items()) if name == topic)

    def lag(self) -> dict[str, int]:
        """Topic -> records in Kafka that are not folded yet, as far as the last fetches tell. Any thread may ask."""
        lags = dict.fromkeys(self.topics, 0)
        for (topic, partition), position in list(self._next.items()):
            seen = self._clients[topic].highwater(TopicPartition(topic, partition)) or 0
            lags[topic] += max(0, max(seen, self._ends[topic, partition]) - position)
        return lags

    def places(self) -> dict[tuple[str, int], tuple[int, int]]:
        """(topic, partition) -> (next offset to fold, end as far as the last fetches tell). Any thread may ask."""
        found = {}
        for key, position in list(self._next.items()):
            seen = self._clients[key[0]].highwater(TopicPartition(*key)) or 0
            found[key] = (position, max(seen, self._ends[key], position))
        return found

    # -- life -------------------------------------------------------------------------------------------------------
    async def on_start(self) -> None:
        begin: Positions = {}
        try:
            await self._connect([topic for topic in self.topics if topic not in self.unhurried], FETCH_WAIT_MS, 1, begin)
            await self._connect(self.unhurried, UNHURRIED_WAIT_MS, UNHURRIED_BYTES, begin)
        except BaseException:
            await self.on_stop()
            raise
        self._waiters = {key: [] for key in begin}
        self._next = begin

    async def _connect(self, topics: Collection[str], wait_ms: int, least_bytes: int, begin: Positions) -> None:
        """One client for some topics, at the offsets that it puts into `begin`."""
        if not topics:
            return
        client = aiokafka.AIOKafkaConsumer(
            **self.connection.aiokafka(),
            enable_auto_commit=False,
            auto_offset_reset="none",  # a position outside the log means a state that does not fit it: fail, do not guess
            isolation_level="read_committed",
            request_timeout_ms=self._patience_ms,
            fetch_max_wait_ms=wait_ms,
            fetch_min_bytes=least_bytes,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._clients |= dict.fromkeys(topics, client)
        await client.start()
        await self._assign(client, topics, begin)

    async def on_stop(self) -> None:
        for client in set(self._clients.values()):
            await client.stop()

    @Service.task  # type: ignore[untyped-decorator]
    async def _read(self) -> None:
        try:
            await asyncio.gather(*(self._read_from(client) for client in set(self._clients.values())))
        except asyncio.CancelledError:
            raise
        except ConsumerStoppedError as exc:
            if not self.should_stop:
                self.fail("the replica's consumer was stopped", exc)
        except BaseException as exc:
            self.fail("the replica cannot go on", exc)

    async def _read_from(self, client: Any) -> None:
        while not self.should_stop:
            await self._read_once(client)

    # -- how --------------------------------------------------------------------------------------------------------
    async def _assign(self, client: Any, topics: Iterable[str], begin: Positions) -> None:
        partitions = [tp for topic in topics for tp in await self._partitions(client, topic)]
        client.assign(partitions)
        begins, ends = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
        for tp in partitions:
            key = tp.topic, tp.partition
            position = self.resume.get(key, begins[tp])
            if not begins[tp] <= position <= ends[tp]:
                raise ValueError(f"{tp.topic}/{tp.partition} has offsets {begins[tp]}..{ends[tp]}, not {position} to resume from")
            client.seek(tp, position)
            self._ends[key], begin[key] = ends[tp], position

    async def _partitions(self, client: Any, topic: str) -> list[TopicPartition]:
        try:
            known = await client._client._wait_on_metadata(topic)
        except UnknownTopicOrPartitionError:
            raise LookupError(f"Kafka at {self.connection.bootstrap} has no topic {topic}: freshet topics creates it") from None
        return [TopicPartition(topic, partition) for partition in sorted(known)]

    async def _read_once(self, client: Any) -> None:
        fetched = await client.getmany(timeout_ms=200, max_records=FETCH_RECORDS)
        began = time.perf_counter()
        for tp, records in fetched.items():
            began = await self._fold(tp, records, began)
        if not self.ready.is_set() or not fetched:
            await self._catch_up(client)
        await asyncio.sleep(self.pace_s if fetched and self.ready.is_set() else 0)

    async def _fold(self, tp: TopicPartition, records: Sequence[ConsumerRecord], began: float) -> float:
        key, apply = (tp.topic, tp.partition), self.topics[tp.topic]
        for start in range(0, len(records), self.slice_records):
            part = records[start : start + self.slice_records]
            apply(tp.partition, part)
            self._next[key] = part[-1].offset + 1
            self._wake(key)
            if time.perf_counter() - began > SLICE_S:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return began

    def _wake(self, key: tuple[str, int]) -> None:
        waiters, position = self._waiters[key], self._next[key]
        while waiters and waiters[0][0] < position:
            done = heapq.heappop(waiters)[2]
            if not done.done():  # else whoever waited has been cancelled
                done.set_result(None)

    async def _catch_up(self, client: Any) -> None:
        """Ready when every position has passed the end noted at the start. Aborted transactions and markers have offsets but
        bring no records, so the client's own position counts as well: all of what it has passed has been folded by now."""
        for key, end in self._ends.items():
            tp = TopicPartition(*key)
            if self._clients[key[0]] is client and self._next[key] < max(end, client.highwater(tp) or 0):
                self._next[key] = max(self._next[key], await client.position(tp))
                self._wake(key)
        if all(self._next[key] >= end for key, end in self._ends.items()):
            self.ready.set()


class Extent(NamedTuple):
    """Topics as they are in Kafka at some moment."""

    ids: dict[str, str]
    """Topic -> Kafka's id of it: a topic that is made anew under the same name has another one."""
    begins: Positions
    ends: Positions


def extent(connection: Connection, topics: Iterable[str]) -> Extent:
    """What there is of these topics. LookupError if one does not exist, `topics.TopicsError` if Kafka cannot be asked."""
    names = list(topics)
    begins: Positions = {}
    ends: Positions = {}
    with admin(connection) as client:
        ids = {topic["name"]: str(topic["topic_id"]) for topic in client.describe_topics(names)}
    for name in names:
        with reader(connection, name) as kafka:
            partitions = kafka.assignment()
            begins |= {(tp.topic, tp.partition): offset for tp, offset in kafka.beginning_offsets(partitions).items()}
            ends |= {(tp.topic, tp.partition): offset for tp, offset in kafka.end_offsets(partitions).items()}
    return Extent(ids, begins, ends)


async def record_at(connection: Connection, topic: str, partition: int, offset: int, *, patience_s: float = 10.0) -> Any:
    """One record, an aiokafka ConsumerRecord; None if there is none at that offset. For what is seldom needed: it connects anew.

    Raises:
        KafkaError, TimeoutError: Kafka does not answer.
    """
    kafka = aiokafka.AIOKafkaConsumer(
        **connection.aiokafka(), enable_auto_commit=False, auto_offset_reset="none", isolation_level="read_committed"
    )
    await asyncio.wait_for(kafka.start(), patience_s)
    try:
        tp = TopicPartition(topic, partition)
        kafka.assign([tp])
        begins, ends = await kafka.beginning_offsets([tp]), await kafka.end_offsets([tp])
        if not begins[tp] <= offset < ends[tp]:
            return None
        kafka.seek(tp, offset)
        record = await asyncio.wait_for(kafka.getone(tp), patience_s)
        return record if record.offset == offset else None
    finally:
        await kafka.stop()


def read_all(connection: Connection, topic: str, *, patience_s: float = 30.0) -> Iterator[Any]:
    """Every record of a topic up to where it ended when asked, in offset order per partition; kafka-python's ConsumerRecords.

    For tools and tests. LookupError if the topic does not exist, TimeoutError if Kafka delivers nothing for `patience_s`."""
    with reader(connection, topic) as kafka:
        yield from _read(kafka, kafka.beginning_offsets(kafka.assignment()), _ends(kafka), patience_s)


def read_from(connection: Connection, topic: str, last: int | None, *, patience_s: float = 30.0) -> Iterator[Any]:
    """As `read_all`, but only the last so many offsets of each partition."""
    with reader(connection, topic) as kafka:
        begins, ends = kafka.beginning_offsets(kafka.assignment()), _ends(kafka)
        if last is not None:
            begins = {tp: max(begin, ends[tp] - last) for tp, begin in begins.items()}
        yield from _read(kafka, begins, ends, patience_s)


def read_until(connection: Connection, topic: str, until: Positions | None, *, patience_s: float = 30.0) -> Iterator[Any]:
    """As `read_all`, but up to the given offsets; LookupError where the topic does not reach that far."""
    with reader(connection, topic) as kafka:
        ends = _ends(kafka)
        wanted = ends if until is None else {tp: until.get((tp.topic, tp.partition), 0) for tp in ends}
        short = [f"{tp.topic}/{tp.partition} ends at {ends[tp]}, not at {at}" for tp, at in wanted.items() if at > ends[tp]]
        if short:
            raise LookupError("; ".join(short))
        yield from _read(kafka, kafka.beginning_offsets(kafka.assignment()), wanted, patience_s)


def _ends(kafka: Any) -> dict[Any, int]:
    found: dict[Any, int] = kafka.end_offsets(kafka.assignment())
    return found


def _read(kafka: Any, begins: Mapping[Any, int], ends: Mapping[Any, int], patience_s: float) -> Iterator[Any]:
    for tp, begin in begins.items():
        kafka.seek(tp, begin)
    heard = time.monotonic()
    while any(kafka.position(tp) < end for tp, end in ends.items()):
        found = kafka.poll(500)
        for tp, records in found.items():
            yield from (record for record in records if record.offset < ends[tp])
        if found:
            heard = time.monotonic()
        elif time.monotonic() - heard > patience_s:
            raise TimeoutError(f"nothing was delivered for {patience_s:.0f} s")


@contextmanager
def reader(connection: Connection, topic: str) -> Iterator[Any]:
    """A KafkaConsumer without a group, assigned to all partitions of a topic. LookupError if there is no such topic."""
    kafka = KafkaConsumer(
        **connection.kafka_python(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    try:
        numbers = kafka.partitions_for_topic(topic)
        if not numbers:
            raise LookupError(f"Kafka at {connection.bootstrap} has no topic {topic}")
        kafka.assign([KafkaTopicPartition(topic, number) for number in sorted(numbers)])
        yield kafka
    finally:
        kafka.close()
