"""Workers on a broker, a platform which feeds them, and the count of what was lost or done twice."""

from __future__ import annotations

import collections
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from kafka import KafkaProducer

from streams import topics
from streams.connection import Connection
from streams.replica import read_all
from tests.chaos.copy_worker import PLACE

PARTITIONS = 6
PATIENCE_S = 240.0


class Count(NamedTuple):
    sent: int
    lost: int
    repeated: int


class Cluster:
    """Some copy workers in one group on topics of their own. Truth is in the two topics: every offset of the source must be in
    the target; what is there more than once was done twice."""

    def __init__(self, connection: Connection, directory: Path, name: str, **environment: str) -> None:
        self.connection, self.directory = connection, directory
        self.source, self.target = f"{name}-source", f"{name}-target"
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self._begins: dict[int, int] = {}  # where in its log a worker's present life begins
        self._feeding: threading.Thread | None = None
        self._failed: list[BaseException] = []
        self._enough = threading.Event()
        self.environment = {
            "BOOTSTRAP": connection.bootstrap,
            "GROUP": name,
            "SOURCE": self.source,
            "TARGET": self.target,
            "PARTITIONS": str(PARTITIONS),
            **environment,
        }
        specs = [topics.TopicSpec(name=t, partitions=PARTITIONS, replication=1, config={}) for t in (self.source, self.target)]
        topics.ensure(connection, specs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._enough.set()
        for worker in self.workers.values():
            worker.kill()
            worker.wait()
        if self._feeding is not None:
            self._feeding.join(30)

    # -- workers ----------------------------------------------------------------------------------------------------
    def start(self, number: int = 0, **environment: str) -> None:
        static = {"INSTANCE": f"w{number}"} if "STATIC" in self.environment else {}
        own = {"NUMBER": str(number), "DIRECTORY": str(self.directory / f"data-{number}"), **static, **environment}
        with self.log(number).open("ab") as log:
            self._begins[number] = log.tell()
            self.workers[number] = subprocess.Popen(
                [sys.executable, "-u", "-m", "tests.chaos.copy_worker", "worker", "--without-web", "-l", "info"],
                env={**os.environ, **self.environment, **own},
                stdout=log,
                stderr=log,
            )

    def log(self, number: int = 0) -> Path:
        return self.directory / f"worker-{number}.log"

    def terminate(self, number: int = 0) -> int:
        """A planned stop; the exit code."""
        self.workers[number].send_signal(signal.SIGTERM)
        return self.workers[number].wait(PATIENCE_S)

    def kill(self, number: int = 0) -> None:
        self.workers[number].kill()
        self.workers[number].wait()

    def revive(self) -> None:
        """What a process manager does: start those again which ended because the broker was away when they began."""
        for number, code in self.dead().items():
            assert code == 1, f"worker {number} ended with {code}"
            self.start(number)

    def joined(self, number: int = 0) -> None:
        """Until the worker has partitions: while it is still importing, a signal to stop just ends it."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(rb"\] assigned [1-9]", (said := self.log(number).read_bytes()[self._begins[number] :])):
            assert time.monotonic() < end, said[-3000:].decode(errors="replace")
            time.sleep(0.2)

    def wait_exit(self, number: int = 0) -> int:
        return self.workers[number].wait(PATIENCE_S)

    # -- platform ---------------------------------------------------------------------------------------------------
    def send(self, values: list[bytes], partition: int | None = None) -> None:
        producer = KafkaProducer(**self.connection.kafka_python())
        futures = [producer.send(self.source, key=b"u%d" % (n % 97), value=v, partition=partition) for n, v in enumerate(values)]
        for future in futures:
            future.get(PATIENCE_S)
        producer.close()

    def feed(self, per_second: int, seconds: float) -> None:
        """In the background, also while the broker is away; `count` waits for its end."""

        def run() -> None:
            try:
                producer = KafkaProducer(**self.connection.kafka_python(), linger_ms=5, delivery_timeout_ms=180_000)
                began, sent, futures = time.monotonic(), 0, []
                while sent < per_second * seconds and not self._enough.is_set():
                    due = int(min(time.monotonic() - began, seconds) * per_second) - sent
                    for _ in range(due):
                        futures.append(producer.send(self.source, key=b"u%d" % (sent % 997), value=b"%d" % sent))
                        sent += 1
                    time.sleep(0.01)
                for future in futures:
                    future.get(180)
                producer.close(timeout=10)
            except BaseException as exc:  # handed to the test that waits
                self._failed.append(exc)

        self._feeding = threading.Thread(target=run, daemon=True)
        self._feeding.start()

    # -- truth ------------------------------------------------------------------------------------------------------
    def copies(self) -> collections.Counter[tuple[int, int]]:
        return collections.Counter(PLACE.unpack(record.value) for record in read_all(self.connection, self.target))

    def originals(self) -> set[tuple[int, int]]:
        return {(record.partition, record.offset) for record in read_all(self.connection, self.source)}

    def until(self, copied: int) -> None:
        """Until so many originals have been copied."""
        end = time.monotonic() + PATIENCE_S
        while len(self.copies()) < copied:
            assert time.monotonic() < end, f"{len(self.copies())} of {copied} copied after {PATIENCE_S:.0f} s"
            time.sleep(0.2)

    def count(self) -> Count:
        """Wait until everything sent has been copied, or for as long as patience lasts, and count."""
        if self._feeding is not None:
            self._feeding.join(300)
            assert not self._feeding.is_alive(), "the platform hangs"
        assert not self._failed, self._failed
        wanted, end = self.originals(), time.monotonic() + PATIENCE_S
        copies = self.copies()
        while not wanted <= copies.keys() and time.monotonic() < end:
            time.sleep(0.3)
            copies = self.copies()
        return Count(len(wanted), len(wanted - copies.keys()), sum(copies.values()) - len(copies))

    def dead(self) -> dict[int, int | None]:
        """Workers that ended though nobody asked them to, with their exit codes."""
        return {number: worker.poll() for number, worker in self.workers.items() if worker.poll() is not None}
