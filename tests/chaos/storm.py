"""Two workers and an embedder under a storm: processes die and freeze, the broker goes, the disk is full, Qdrant is locked,
and the platform repeats itself, mixes its order and sends rubbish. A supervisor starts again what ended, as a process manager
does."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from models.events import Event, encode
from streams.embedded_kafka import EmbeddedKafka
from tests.streams.flow import PATIENCE_S, Flow, free_port, settle

LISTS = "ingest,recommend,attribute"
AGAIN = (1, 70)
"""Exit codes after which a process manager starts a process again: Kafka was away at the start, or an error of ours."""
SESSION_S = 6
POISON = (
    b"\xff\x00",
    b"",
    b"[" * 5_000,
    b'{"event_id": 7}',
    b'{"event_id":"e","user_id":"@popular","item_id":"i","timestamp_ms":1}',
)


class Process:
    """One worker or embedder with a state directory and a metrics port of its own."""

    def __init__(self, name: str, roles: str, river: Flow) -> None:
        self.name, self.roles, self.river = name, roles, river
        self.directory = river.directory / name
        self.directory.mkdir()
        self.port, self.starts, self.kills = free_port(), 0, 0
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False

    def start(self) -> None:
        own = {
            "FRESHET_STATE_DIR": str(self.directory), "FRESHET_METRICS_PORT": str(self.port), "FRESHET_INSTANCE_ID": self.name,
        }  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker", "--roles", self.roles],
                env={**os.environ, **self.river.environment, **own},
                stdout=log,
                stderr=log,
            )
        self.starts, self.wanted = self.starts + 1, True

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.wanted = False
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE_S)
        self.kills += 1

    def stop(self, patience_s: float = PATIENCE_S) -> int:
        self.wanted = False
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(patience_s)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        self.river.metrics_port = self.port
        return self.river.metric(name, **labels)


class Storm:
    """See the module. `seed` decides everything but the timing."""

    def __init__(self, broker: EmbeddedKafka, river: Flow, seed: int) -> None:
        self.broker, self.river, self.chance = broker, river, random.Random(seed)
        self.workers = [Process("w1", LISTS, river), Process("w2", LISTS, river)]
        self.embedder = Process("e1", "embed", river)
        self.happened: Counter[str] = Counter()
        self.poisoned = 0
        self._lock = threading.RLock()  # the supervisor keeps its hands off what a fault is about to do
        self._over = threading.Event()
        self._problems: list[str] = []
        self._threads: list[threading.Thread] = []

    @property
    def processes(self) -> list[Process]:
        return [*self.workers, self.embedder]

    def begin(self) -> None:
        for process in self.processes:
            process.start()
        self._run(self._supervise)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        for process in self.processes:
            if process.process is not None and process.process.poll() is None:
                process.signal(signal.SIGCONT)
                process.process.kill()
                process.process.wait()

    def _run(self, body: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=body, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _supervise(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                for process in self.processes:
                    code = process.process.poll() if process.process is not None else None
                    if process.wanted and code is not None:
                        if code not in AGAIN:
                            self._problems.append(f"{process.name} ended with {code}:\n{process.log()[-3000:]}")
                        self.happened[f"started again after {code}"] += 1
                        process.start()

    def check(self) -> None:
        assert not self._problems, self._problems[0]

    # -- the platform -----------------------------------------------------------------------------------------------
    def publish(self, events: Sequence[Event], seconds: float) -> threading.Thread:
        """All of them over so many seconds, some twice, some out of order, rubbish in between. Ends when all are acknowledged."""
        return self._run(lambda: self._publish(list(events), seconds))

    def _publish(self, events: list[Event], seconds: float) -> None:
        topics = {"Click": "clicks", "Purchase": "purchases", "Review": "reviews"}
        chance = random.Random(self.chance.random())
        for start in range(0, len(events), 400):  # every tenth stretch arrives in disorder
            if chance.random() < 0.1:
                part = events[start : start + 400]
                chance.shuffle(part)
                events[start : start + 400] = part
        try:
            producer = KafkaProducer(
                **self.river.settings.connection.kafka_python(), acks="all", enable_idempotence=True, delivery_timeout_ms=600_000,
                linger_ms=5,
            )  # fmt: skip
            sent, began = [], time.monotonic()
            for k, event in enumerate(events):
                while (ahead := began + k * seconds / len(events) - time.monotonic()) > 0:
                    time.sleep(min(ahead, 0.2))
                topic = self.river.settings.topic(topics[type(event).__name__])
                for _ in range(2 if chance.random() < 0.05 else 1):
                    sent.append(producer.send(topic, key=event.user_id.encode(), value=encode(event)))
                if chance.random() < 0.01:
                    self.poisoned += 1
                    sent.append(producer.send(topic, key=b"rubbish", value=chance.choice(POISON)))
            for future in sent:
                future.get(600)
            producer.close(timeout=30)
        except BaseException as problem:  # told to whoever checks
            self._problems.append(f"the platform failed: {problem!r}")

    # -- faults -----------------------------------------------------------------------------------------------------
    def kill(self, process: Process) -> None:
        """SIGKILL, and after a while a new start."""
        with self._lock:
            process.kill()
        time.sleep(self.chance.choice([0.0, 0.5, 3.0]))
        with self._lock:
            process.start()

    def restart(self, process: Process) -> None:
        """As a rolling restart does it."""
        with self._lock:
            process.wanted = False
            code = process.stop() if process.process is not None and process.process.poll() is None else 0
            if code not in (0, -signal.SIGTERM, *AGAIN):  # -SIGTERM: it was still importing
                self._problems.append(f"{process.name} was told to stop and ended with {code}:\n{process.log()[-3000:]}")
            process.start()

    def freeze(self, process: Process) -> None:
        """Longer than the group waits: somebody else gets its partitions while it thinks it has them."""
        process.signal(signal.SIGSTOP)
        time.sleep(SESSION_S + self.chance.uniform(2, 4))
        process.signal(signal.SIGCONT)

    def lose_broker(self) -> None:
        self.chance.choice([self.broker.stop, self.broker.kill])()
        time.sleep(self.chance.uniform(1, 5))
        self.broker.start()

    def pause_broker(self) -> None:
        """It is there and does not answer."""
        assert self.broker.process is not None
        pid = self.broker.process.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.chance.uniform(2, 6))
        os.kill(pid, signal.SIGCONT)

    def fill_disk(self, process: Process) -> None:
        """For a while no file of the process can grow past a megabyte: snapshots cannot be written."""
        if process.process is None or process.process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            pid = process.process.pid
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000_000, before[1]))
            time.sleep(self.chance.uniform(5, 10))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    def lock_qdrant(self) -> None:
        """Somebody else holds the files of the embedded store: it answers nothing and takes nothing."""
        held = []
        for file in Path(self.embedder.directory).glob("qdrant/collection/*/storage.sqlite"):
            connection = sqlite3.connect(file, timeout=1, isolation_level=None)
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("BEGIN EXCLUSIVE")
            held.append(connection)
        time.sleep(self.chance.uniform(6, 10))
        for connection in held:
            connection.close()

    def rage(self, kills: int, others: Sequence[str], pause_s: tuple[float, float]) -> None:
        """Kill every process so many times, with the other faults in between, in an order that the seed decides."""
        faults: list[tuple[str, Callable[[], None]]] = []
        for process in self.processes:
            faults += [(f"kill {process.name}", lambda process=process: self.kill(process)) for _ in range(kills)]
        faults += [(name, lambda name=name: self._other(name)) for name in others]
        self.chance.shuffle(faults)
        for name, fault in faults:
            self.check()
            fault()
            self.happened[name] += 1
            time.sleep(self.chance.uniform(*pause_s))

    def _other(self, name: str) -> None:
        worker = self.chance.choice(self.workers)
        faults: dict[str, Callable[[], None]] = {
            "restart": lambda: self.restart(self.chance.choice(self.processes)),
            "freeze": lambda: self.freeze(worker),
            "lose broker": self.lose_broker,
            "pause broker": self.pause_broker,
            "fill disk": lambda: self.fill_disk(worker),
            "lock qdrant": self.lock_qdrant,
        }
        faults[name]()

    # -- after it ---------------------------------------------------------------------------------------------------
    def settle(self, patience_s: float) -> None:
        """Everybody is ready and nobody is behind, for some seconds."""
        settle(self.river.settings, *(one.port for one in self.processes), patience_s=patience_s, looks=30, check=self.check)

    def digests(self) -> list[str]:
        """What each worker says of its state when it stops."""
        self._over.set()
        found = []
        for process in self.workers:
            assert process.stop() == 0, process.log()[-3000:]
            found.append(process.log().rsplit("state digest ", 1)[1].split()[0])
        assert self.embedder.stop() == 0, self.embedder.log()[-3000:]
        return found


def same(one: Any, other: Any, what: str) -> None:
    """A short message for large sets."""
    missing, extra = sorted(set(one) - set(other))[:5], sorted(set(other) - set(one))[:5]
    assert set(one) == set(other), f"{what}: missing {missing}, too many {extra}"
