"""What an end-to-end test needs: a worker as a process, a platform that sends events, a consumer that reads lists."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from models.events import RecommendationList, encode
from streams import topics
from streams.settings import Settings

PATIENCE_S = 180.0
TAKES = {
    "ingest": ("clicks", "purchases", "reviews", "items", "erasures"), "recommend": ("interactions",),
    "attribute": ("impressions",), "embed": ("item-texts",),
}  # fmt: skip
"""Role -> the topics of its agent."""
FOLDS = ("interactions", "items", "item-vectors", "review-vectors", "recommendations", "weights")
"""The topics of a replica."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(ask: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true answer; fails naming what did not come."""
    end = time.monotonic() + patience_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.1)


def digest_in(log: str) -> str:
    """What the worker said of its state when it stopped."""
    return log.rsplit("state digest ", 1)[1].split()[0]


class Places(NamedTuple):
    """How far a process says that it is: its roles, and topic and partition -> the first offset that is not done, or folded."""

    roles: frozenset[str]
    done: dict[tuple[str, int], int]
    folded: dict[tuple[str, int], int]


def page_of(port: int, path: str) -> str:
    """What a process on this machine answers; empty where it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def places(port: int) -> Places | None:
    """From the status page, all of it at one moment; None where the process is not ready."""
    head, *tables = re.split(r"\n{2,}", page_of(port, "/statusz"))
    if "\nREADY" not in head:
        return None
    rows: dict[str, dict[tuple[str, int], int]] = {"partitions of the agents": {}, "replica": {}}
    for table in tables:
        title, *lines = table.splitlines()
        found = rows.get(title.split(":")[0])
        if found is not None:
            cells = [line.split() for line in lines if line.strip() != "none"]
            found.update({(topic, int(partition)): int(at) for topic, partition, at, *_ in cells})
    roles = head.splitlines()[0].split(" ", 2)[2].split(", ")
    return Places(frozenset(roles), *rows.values())


def settle(
    settings: Settings,
    *ports: int,
    patience_s: float = PATIENCE_S,
    looks: int = 3,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Everything that is in the topics has been done by the processes with these metrics ports, and nothing more comes of it.

    Where the topics end is what the broker says: processes know only of what they have fetched, so the lag that they tell is 0
    until they see what has just been sent. That the ends are the same before and after asking them makes it one moment. So it
    must be at so many looks in a row; `check` is called at each.
    """
    partitions = range(settings.partitions)
    names = {settings.topic(topic) for topic in (*FOLDS, *itertools.chain(*TAKES.values()))}
    kafka = KafkaConsumer(**settings.connection.kafka_python(), enable_auto_commit=False, group_id=None)
    quiet = 0

    def ends() -> dict[tuple[str, int], int]:
        asked = [TopicPartition(name, partition) for name in names for partition in partitions]
        return {(tp.topic, tp.partition): offset for tp, offset in kafka.end_offsets(asked).items()}

    def reached(at: dict[tuple[str, int], int], found: list[Places]) -> bool:
        done: dict[tuple[str, int], int] = {}
        for place, offset in itertools.chain.from_iterable(one.done.items() for one in found):
            done[place] = min(offset, done.get(place, offset))  # two may think that it is theirs
        for role in frozenset().union(*(one.roles for one in found)):
            taken = [(settings.topic(topic), partition) for topic in TAKES[role] for partition in partitions]
            if any(done.get(place, -1) < at[place] for place in taken):
                return False
        folds = [(settings.topic(topic), partition) for topic in FOLDS for partition in partitions]
        replicas = [one.folded for one in found if "recommend" in one.roles]
        return all(folded.get(place, -1) >= at[place] for folded in replicas for place in folds)

    def still() -> bool:
        nonlocal quiet
        check()
        before, found = ends(), [places(port) for port in ports]
        ready = [one for one in found if one is not None]
        calm = len(ready) == len(ports) and reached(before, ready) and ends() == before
        quiet = quiet + 1 if calm else 0
        return quiet >= looks

    try:
        until(still, "everything is done", patience_s)
    finally:
        kafka.close()


class Flow:
    """One topic prefix on a real broker, the processes on it, and a platform's view of it."""

    def __init__(self, bootstrap: str, directory: Path, prefix: str, **settings: str) -> None:
        self.directory = directory
        self.metrics_port = free_port()
        self.environment = {
            "FRESHET_BOOTSTRAP": bootstrap,
            "FRESHET_TOPIC_PREFIX": prefix,
            "FRESHET_APP_ID": prefix + "app",
            "FRESHET_STATE_DIR": str(directory),
            "FRESHET_EMBEDDING_MODEL": "hashing",
            "FRESHET_METRICS_PORT": str(self.metrics_port),
            "FRESHET_SESSION_TIMEOUT_S": "6",
            **{f"FRESHET_{name.upper()}": value for name, value in settings.items()},
        }
        self.settings = Settings.load(self.environment)
        topics.ensure(self.settings.connection, self.settings.topic_specs)
        self.producer = KafkaProducer(**self.settings.connection.kafka_python())
        self.workers: list[subprocess.Popen[bytes]] = []

    # -- processes ------------------------------------------------------------------------------------------------
    def start(self, *arguments: str, wait: bool = True) -> subprocess.Popen[bytes]:
        log = (self.directory / f"worker-{len(self.workers)}.log").open("wb")
        with log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker", *arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        if wait:
            until(lambda: worker.poll() is not None or self.metric("freshet_ready") == 1.0, "the worker is ready")
            assert worker.poll() is None, f"the worker ended with {worker.returncode}:\n{self.log()[-3000:]}"
        return worker

    def stop(self, worker: subprocess.Popen[bytes]) -> str:
        """A clean stop; the worker's log."""
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(PATIENCE_S)
        assert code == 0, f"exit code {code}:\n{self.log()[-3000:]}"
        return self.log()

    def log(self, index: int = -1) -> str:
        index = index % len(self.workers)
        return (self.directory / f"worker-{index}.log").read_text(errors="replace")

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        self.producer.close()

    # -- the platform ---------------------------------------------------------------------------------------------
    def send(self, topic: str, event: Any, key: str | None = None) -> None:
        """An event (a struct, or raw bytes with a key); returns when the broker has it."""
        raw = event if isinstance(event, bytes) or event is None else encode(event)
        name = key if key is not None else getattr(event, "item_id" if topic == "items" else "user_id", "nobody")
        self.producer.send(self.settings.topic(topic), key=name.encode(), value=raw).get(PATIENCE_S)

    def send_all(self, messages: list[tuple[str, Any]]) -> None:
        futures = [
            self.producer.send(
                self.settings.topic(topic),
                key=(event.item_id if topic == "items" else event.user_id).encode(),
                value=encode(event),
            )
            for topic, event in messages
        ]
        for future in futures:
            future.get(PATIENCE_S)

    # -- the consumer ---------------------------------------------------------------------------------------------
    def read(self, topic: str) -> list[Any]:
        """Every record on a topic, in the order of its partitions."""
        name = self.settings.topic(topic)
        consumer = KafkaConsumer(**self.settings.connection.kafka_python(), enable_auto_commit=False, group_id=None)
        try:
            parts = [TopicPartition(name, p) for p in range(self.settings.partitions)]
            consumer.assign(parts)
            consumer.seek_to_beginning(*parts)
            ends = consumer.end_offsets(parts)
            records = []
            while any(consumer.position(p) < ends[p] for p in parts):
                for batch in consumer.poll(500).values():
                    records.extend(batch)
            return sorted(records, key=lambda r: (r.partition, r.offset))
        finally:
            consumer.close()

    def lists(self) -> dict[str, RecommendationList]:
        """The list that holds for each user."""
        found: dict[str, RecommendationList] = {}
        for record in self.read("recommendations"):
            user = record.key.decode()
            if record.value is None:
                found.pop(user, None)
            else:
                found[user] = msgspec.json.decode(record.value, type=RecommendationList)
        return found

    def list_of(self, user: str, holds: Callable[[RecommendationList], bool] = bool) -> RecommendationList:
        def ask() -> RecommendationList | None:
            served = self.lists().get(user)
            return served if served is not None and holds(served) else None

        return until(ask, f"a list for {user} as expected")

    # -- the SRE --------------------------------------------------------------------------------------------------
    def metrics(self) -> str:
        return page_of(self.metrics_port, "/metrics")

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series of that name with these labels; 0 where there is none."""
        total = 0.0
        for line in self.metrics().splitlines():
            found = re.match(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", line)
            if found and found[1] == name:
                have = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if all(have.get(k) == v for k, v in labels.items()):
                    total += float(found[3])
        return total

    def settle(self) -> None:
        """Everything sent is through: no agent and no replica is behind."""
        settle(self.settings, self.metrics_port)


@contextlib.contextmanager
def flow(bootstrap: str, directory: Path, prefix: str, **settings: str) -> Iterator[Flow]:
    made = Flow(bootstrap, directory, prefix, **settings)
    try:
        yield made
    finally:
        made.close()
