"""Reading whole topics without a consumer group: what a platform's front end, a page or a tool does with our output."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.connection import Connection

log = logging.getLogger(__name__)

POLL_MS: Final = 200
METADATA_S: Final = 5.0
FETCH_BYTES: Final = 4 * 1024 * 1024
FETCH_MIN_BYTES: Final = 64 * 1024
FETCH_WAIT_MS: Final = 50  # up to here records are collected: a fetch costs far more than a record


class TailError(RuntimeError):
    """Kafka cannot be read; the text says why and what to do."""


def consumer(connection: Connection) -> Any:
    """A KafkaConsumer without a group, which commits nothing. TailError where there is no Kafka."""
    try:
        return KafkaConsumer(
            **connection.kafka_python(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            max_partition_fetch_bytes=FETCH_BYTES,
            check_crcs=False,  # in Python it costs more than all the rest; the broker has checked what it stored
            fetch_min_bytes=FETCH_MIN_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            metrics_enabled=False,
            bootstrap_timeout_ms=10_000,
        )
    except KafkaError as problem:
        raise TailError(f"no connection to Kafka at {connection.bootstrap}: {problem}") from problem


def partitions(client: Any, topic: str, timeout_s: float = METADATA_S) -> list[TopicPartition]:
    """All partitions of a topic, in order. TailError where it does not exist within the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = client.partitions_for_topic(topic)
        if found:
            return [TopicPartition(topic, p) for p in sorted(found)]
        if time.monotonic() > deadline:
            raise TailError(f"topic {topic} does not exist: freshet topics creates the topics")
        time.sleep(0.1)


class Tail(threading.Thread):
    """Gives every record of some topics, from their beginnings on, to one function per topic, in a thread of its own.

    A failure ends the thread and stays in `error`. `offsets` is where it has arrived: the next offset of each partition.
    """

    def __init__(self, connection: Connection, topics: Mapping[str, Callable[[Any], None]], *, name: str = "tail") -> None:
        super().__init__(name=name, daemon=True)
        self.connection, self.topics = connection, dict(topics)
        self.error: Exception | None = None
        self.offsets: dict[tuple[str, int], int] = {}
        self._end = threading.Event()

    def run(self) -> None:
        try:
            client = consumer(self.connection)
            try:
                self._read(client)
            finally:
                client.close()
        except Exception as problem:
            self.error = problem
            log.error("reading %s ended: %s", ", ".join(self.topics), problem)

    def _read(self, client: Any) -> None:
        wanted = [tp for topic in self.topics for tp in partitions(client, topic)]
        client.assign(wanted)
        client.seek_to_beginning(*wanted)
        while not self._end.is_set():
            for tp, records in client.poll(timeout_ms=POLL_MS, max_records=1_000).items():
                take = self.topics[tp.topic]
                for record in records:
                    take(record)
                self.offsets[tp.topic, tp.partition] = records[-1].offset + 1

    def close(self, timeout_s: float = 10.0) -> None:
        """End the thread and wait for it."""
        self._end.set()
        if self.is_alive():
            self.join(timeout_s)

    def caught_up(self, topic: str) -> bool:
        """Whether everything that is in the topic now has been taken. TailError where Kafka cannot be asked."""
        client = consumer(self.connection)
        try:
            ends = client.end_offsets(partitions(client, topic))
            starts = client.beginning_offsets(list(ends))
        except KafkaError as problem:
            raise TailError(f"Kafka at {self.connection.bootstrap} does not answer: {problem}") from problem
        finally:
            client.close()
        return all(self.offsets.get((tp.topic, tp.partition), starts[tp]) >= end for tp, end in ends.items())


def newest(client: Any, partition: TopicPartition, key: bytes) -> Any | None:
    """The last record of a key in a partition, None where there is none.

    Looks back from the end in growing windows, since those who are asked about are mostly those who act; each record is read once
    at most.
    """
    end = client.end_offsets([partition])[partition]
    start = client.beginning_offsets([partition])[partition]
    client.assign([partition])
    width = 1_000
    while end > start:
        begin = max(start, end - width)
        found = None
        for record in _between(client, partition, begin, end):
            if record.key == key:
                found = record
        if found is not None:
            return found
        end, width = begin, width * 4
    return None


def _between(client: Any, partition: TopicPartition, begin: int, end: int) -> Iterator[Any]:
    """The records of [begin, end); offsets that compaction removed are passed over."""
    client.seek(partition, begin)
    while client.position(partition) < end:
        for record in client.poll(timeout_ms=POLL_MS).get(partition, ()):
            if record.offset < end:
                yield record
