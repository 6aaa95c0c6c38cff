"""The whole of Freshet as it is deployed, on one machine: worker and embedder as processes of their own, Kafka, Qdrant, a busy
shop, messages that cannot be used now and then."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from models.events import Click, Erasure, encode
from streams import topics
from streams.clock import now_ms
from streams.scrape import scrape
from streams.settings import Settings
from tests.deploy.prometheus import wait
from tests.streams.flow import free_port

RATE = 25
"""Events per second of the shop."""
READY_S = 120.0


class Stage:
    """`start_*` and `stop` are what an operator does to its parts."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.folder = folder
        self.qdrant_port, self.worker_port, self.embedder_port = free_port(), free_port(), free_port()
        self.environment = {
            "FRESHET_BOOTSTRAP": bootstrap,
            "FRESHET_TOPIC_PREFIX": "stage.",
            "FRESHET_APP_ID": "stage",
            "FRESHET_EMBEDDING_MODEL": "hashing",
            "FRESHET_QDRANT_URL": f"http://127.0.0.1:{self.qdrant_port}",
            "FRESHET_QDRANT_DEADLINE_MS": "500",  # the stand-in scans in Python
            "FRESHET_SESSION_TIMEOUT_S": "6",
            "FRESHET_COHORT_WINDOW_S": "2",
            "FRESHET_SNAPSHOT_INTERVAL_S": "3",
        }
        self.settings = Settings.load(self.environment)
        topics.ensure(self.settings.connection, self.settings.topic_specs)
        self.producer = KafkaProducer(**self.settings.connection.kafka_python())
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self._done = threading.Event()
        self._oddities = threading.Thread(target=self._odd, daemon=True)

    def begin(self) -> None:
        self.start_qdrant()
        self.start_worker()
        self.start_embedder()
        self._start("shop", "-m", "streams.cli", "simulate", "--rate", str(RATE), "--review-rate", "4")
        self._oddities.start()

    def start_qdrant(self) -> None:
        self._start("qdrant", "-m", "tests.deploy.qdrant_server", str(self.qdrant_port), str(self.folder / "qdrant"))
        wait(lambda: scrape(f"http://127.0.0.1:{self.qdrant_port}/metrics"), "Qdrant")

    def start_worker(self) -> None:
        self._start("worker", "-m", "streams.cli", "worker", "--roles", "ingest,recommend,attribute", port=self.worker_port)
        wait(lambda: self.ready(self.worker_port), "the worker", READY_S)

    def start_embedder(self) -> None:
        self._start("embedder", "-m", "streams.cli", "worker", "--roles", "embed", port=self.embedder_port)
        wait(lambda: self.ready(self.embedder_port), "the embedder", READY_S)

    def ready(self, port: int) -> bool:
        for name, part in self.parts.items():
            assert part.poll() is None, f"{name} ended with {part.poll()}:\n{(self.folder / f'{name}.log').read_text()[-3000:]}"
        reading = scrape(f"http://127.0.0.1:{port}/metrics")
        return reading is not None and reading.total("freshet_ready") == 1.0

    def _start(self, name: str, *arguments: str, port: int = 0) -> None:
        state = {"FRESHET_STATE_DIR": str(self.folder / name), "FRESHET_METRICS_PORT": str(port)}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(
                [sys.executable, *arguments], env={**os.environ, **self.environment, **state}, stdout=log, stderr=log
            )

    def stop(self, name: str) -> None:
        """As an operator or a machine that is shut down: SIGTERM."""
        part = self.parts.pop(name)
        part.send_signal(signal.SIGTERM)
        part.wait(60)

    def send(self, topic: str, key: str, value: bytes) -> None:
        self.producer.send(self.settings.topic(topic), key=key.encode(), value=value)

    def late(self) -> float:
        """Events whose lists the worker that runs now has made more than a second late."""
        reading = scrape(f"http://127.0.0.1:{self.worker_port}/metrics")
        if reading is None:
            return 0.0
        return reading.total("freshet_freshness_seconds_count") - reading.total("freshet_freshness_seconds_bucket", le="1.0")

    def _odd(self) -> None:
        """What a shop does not do, too little of it to matter: messages that cannot be used, clicks of lists that nobody knows,
        people who ask to be forgotten."""
        number = 0
        while not self._done.wait(2.0):
            number += 1
            user = f"odd{number % 7}"
            self.send("clicks", user, b"no event")
            click: dict[str, Any] = {"user_id": user, "item_id": "odd", "timestamp_ms": now_ms()}
            self.send("clicks", user, encode(Click(event_id=f"odd{number}", list_id="unheard-of", **click)))
            if number % 5 == 0:
                self.send("erasures", user, encode(Erasure(request_id=f"forget{number}", user_id=user, timestamp_ms=now_ms())))

    def close(self) -> None:
        self._done.set()
        for name in ("shop", "embedder", "worker", "qdrant"):
            with contextlib.suppress(KeyError):
                self.stop(name)
        self.producer.close()


@contextlib.contextmanager
def stage(bootstrap: str, folder: Path) -> Iterator[Stage]:
    made = Stage(bootstrap, folder)
    try:
        made.begin()
        yield made
    finally:
        made.close()
