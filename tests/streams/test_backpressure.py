"""More than a worker can do, on a real Kafka: it coalesces, stays within its memory and in its group, says so, and catches up."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaProducer

from models import Click
from models.events import ItemVector, encode
from streams.embedded_kafka import EmbeddedKafka
from streams.lanes import HIGH_WATER_BYTES
from tests.models.streams_of import BEGIN
from tests.streams.flow import Flow, flow, until

_numbers = itertools.count(1)
LISTS = ("--roles", "ingest,recommend,attribute")
USERS, ITEMS, PARTITIONS = 300, 400, 2
FLOOD = 40_000


@contextmanager
def river_of(kafka: EmbeddedKafka, directory: Path, **settings: str) -> Iterator[Flow]:
    options = {"snapshots": "false", "model_embedding_dim": "4", "training_per_s": "5", "partitions": str(PARTITIONS)}
    with flow(kafka.bootstrap, directory, f"pressure{next(_numbers)}.", **{**options, **settings}) as made:
        yield made


def click(k: int) -> Click:
    return Click(
        event_id=f"e{k}", user_id=f"u{(k * 7919) % USERS}", item_id=f"i{(k * k + k // 50) % ITEMS}", timestamp_ms=BEGIN + 10 * k
    )


def publish(river: Flow, begin: int, end: int) -> None:
    """As fast as Kafka takes them."""
    producer = KafkaProducer(**river.settings.connection.kafka_python(), linger_ms=20, batch_size=200_000)
    topic = river.settings.topic("clicks")
    for k in range(begin, end):
        event = click(k)
        producer.send(topic, key=event.user_id.encode(), value=encode(event))
    producer.flush()
    producer.close()


class Watcher(threading.Thread):
    """Looks at a worker every now and then and remembers the largest of what it saw."""

    def __init__(self, river: Flow) -> None:
        super().__init__(daemon=True)
        self.river, self.over = river, threading.Event()
        self.memory = self.lag = 0.0

    def run(self) -> None:
        while not self.over.wait(0.3):
            self.memory = max(self.memory, self.river.metric("process_resident_memory_bytes"))
            self.lag = max(self.lag, self.river.metric("freshet_lag_records"))


def lists(river: Flow) -> float:
    return river.metric("freshet_lists_total", audience="user") + river.metric("freshet_lists_unchanged_total")


def batches(river: Flow) -> tuple[float, float]:
    return tuple(river.metric(f"freshet_batch_records_{what}", agent="recommend") for what in ("count", "sum"))  # type: ignore[return-value]


def freshest(river: Flow) -> float:
    """Events whose lists are out."""
    return river.metric("freshet_freshness_seconds_count")


def late(river: Flow) -> float:
    """Events whose lists came later than a second."""
    return freshest(river) - river.metric("freshet_freshness_seconds_bucket", le="1.0")


@pytest.mark.timeout(500)
def test_a_flood_is_coalesced_within_memory_and_membership(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with river_of(kafka, tmp_path) as river:
        worker = river.start(*LISTS)
        publish(river, 0, 3_000)  # a worker that has done some work has all its memory but for what grows with the log
        river.settle()
        before, rebalances = river.metric("process_resident_memory_bytes"), river.metric("freshet_rebalance_seconds_count")
        served, taken, were_late = lists(river), batches(river), late(river)
        watcher = Watcher(river)
        watcher.start()
        began = time.monotonic()
        sent = 3_000
        while watcher.lag <= FLOOD / 2 and sent < 8 * FLOOD:  # a quick worker beside a slow platform needs more of it
            publish(river, sent, sent + FLOOD)
            sent += FLOOD
            time.sleep(1.0)  # the watcher has looked
        published_s, flood = time.monotonic() - began, sent - 3_000
        until(lambda: river.metric("freshet_folded_total") == sent, "all of it is folded", 240)
        river.settle()
        took_s = time.monotonic() - began
        watcher.over.set()
        watcher.join()
        made, batch = lists(river) - served, batches(river)
        mean = (batch[1] - taken[1]) / (batch[0] - taken[0])
        grown = watcher.memory - before
        print(f"published in {published_s:.0f} s, through after {took_s:.0f} s; {made:.0f} lists for {flood} events")
        print(f"{mean:.0f} events a batch, largest lag {watcher.lag:.0f}, memory {before / 1e6:.0f} + {grown / 1e6:.0f} MB")
        assert watcher.lag > FLOOD / 2, "it was more than a worker can do, and the lag says so"
        assert made < 0.6 * flood, "it coalesces"
        assert mean > 50, "and its batches say so"
        assert late(river) > were_late, "and the staleness"
        assert river.metric("freshet_rebalance_seconds_count") == rebalances, "it kept its partitions"
        assert worker.poll() is None
        queues = PARTITIONS * (HIGH_WATER_BYTES + 1_000_000)  # of interactions, with one fetch on top; clicks do not wait
        assert grown < queues + 60e6, "its memory is what its queues may hold, and what the model grows by"
        after = freshest(river)
        river.send("clicks", click(10**6))
        until(lambda: freshest(river) == after + 1, "it serves as before")
        assert {f"u{u}" for u in range(USERS)} <= river.lists().keys(), "nobody was left out"


@contextmanager
def hanging() -> Iterator[int]:
    """A server that takes connections and never says a word; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.mark.timeout(200)
def test_lists_go_on_beside_a_qdrant_that_hangs(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with hanging() as port:
        options: dict[str, Any] = {"qdrant_url": f"http://127.0.0.1:{port}", "qdrant_deadline_ms": "50", "qdrant_failures": "2"}
        with river_of(kafka, tmp_path, qdrant_pause_s="3600", **options) as river:
            river.start(*LISTS)
            vectors(river)
            for begin in range(0, 1_200, 60):  # a batch or two each, all of which would wait
                river.send_all([("clicks", click(k)) for k in range(begin, begin + 60)])
                until(lambda end=begin + 60: freshest(river) == end, "everybody has a list")
            scanned, asked = river.metric("freshet_near_answers_total", by="scan"), river.metric("freshet_qdrant_failures_total")
            assert lists(river) > 100
            assert scanned == lists(river)
            assert asked == 2, "two questions, and no other while it rests"
            assert river.metric("freshet_qdrant_resting") == 1
            assert batches(river)[0] > 5 * asked


def vectors(river: Flow) -> None:
    """What people took has vectors: there is something to ask about."""
    rng = np.random.default_rng(1)
    for k in range(ITEMS):
        vector = rng.normal(size=8).astype("<f4")
        vector /= np.linalg.norm(vector)
        message = ItemVector(item_id=f"i{k}", vector=vector.tobytes(), texts=1, model="test")
        river.producer.send(river.settings.topic("item-vectors"), key=message.item_id.encode(), value=encode(message))
    river.producer.flush()
