"""One run of the demo: the parts are started in the order of the flow, watched, and stopped the other way round.

Everything runs in processes of its own, as in production, on a Kafka and a Qdrant that the demo brings.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.live import Live

from streams import topics
from streams.children import Child
from streams.demo_expected import Expected
from streams.demo_figures import EVENTS, Course, Viewer, behind, progress
from streams.demo_page import dead_letters, line, page, summary
from streams.embedded_kafka import HOST, EmbeddedKafka, EmbeddedKafkaError, free_port
from streams.scrape import Scrape, scrape
from streams.settings import PREFIX, Settings
from streams.shop import ShopOptions
from streams.tail import Tail, TailError

READY_S: Final = 600.0
"""A worker that is not ready within this time has failed; it loads the text model, and the first time it compiles the kernels."""
STALL_S: Final = 60.0
"""A flow with work left in which nothing has moved for so long is stuck."""
LOOK_S: Final = 1.0
STABLE: Final = 3
"""So many looks in a row must find nothing left to do."""
LINE_EVERY_S: Final = 5.0
STOP_S: Final = 40.0
STOP_WITHOUT_KAFKA_S: Final = 5.0
"""Nothing can be delivered or committed any more."""
_REPLACED: Final = (
    "BOOTSTRAP", "SECURITY_PROTOCOL", "SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD", "SSL_CAFILE", "SSL_CERTFILE",
    "SSL_KEYFILE", "REPLICATION", "QDRANT_URL", "QDRANT_API_KEY", "STATE_DIR", "METRICS_HOST", "METRICS_PORT", "INSTANCE_ID",
)  # fmt: skip
"""Settings that lead to a Kafka, a Qdrant or a place elsewhere: the demo brings its own."""


class DemoError(RuntimeError):
    """The run cannot go on; the text says what failed."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to run: the shop for `seconds` (None: until Ctrl-C), or a file of events. `rate` is in events per second."""

    folder: Path
    seconds: float | None
    rate: float | None
    seed: int
    file: Path | None


class Run:
    """`run()` does it all. The folder holds `kafka/`, `qdrant/`, and `logs/` with one file per process."""

    def __init__(self, settings: Settings, plan: Plan, expected: Expected | None, console: Console) -> None:
        self.plan, self.expected, self.console = plan, expected, console
        self.kafka = EmbeddedKafka(data=plan.folder / "kafka")
        self.port = free_port(self.kafka.port)
        self.settings = settings
        self.course = Course()
        self.viewer = Viewer(expected.users if expected is not None else frozenset())
        self.tail: Tail | None = None
        self.worker: Child | None = None
        self.source: Child | None = None  # the shop, or the replay of the file
        self._since = time.monotonic()
        self._printed = 0.0

    def run(self) -> list[str]:
        """What failed, in sentences; nothing where all went well or Ctrl-C ended it."""
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # a lost broker is told in a sentence
        failures: list[str] = []
        interrupted = False
        try:
            self._start()
            with self._screen() as draw:
                self._watch(draw)
                self._drain(draw)
            failures.extend(self._shortfalls())
        except KeyboardInterrupt:
            interrupted = True
        except (DemoError, EmbeddedKafkaError, topics.TopicsError, TailError) as problem:
            failures.append(str(problem))
        finally:
            failures.extend(self._stop())
        if self.course.now is not None:
            self.console.print(summary(self.course, self._extra(), with_ctr=self.plan.file is None))
        return [] if interrupted else failures

    # -- starting ---------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        with self._step("starting Kafka (the first time its jars are fetched)"):
            self.kafka.start()
            self.settings = replace(
                self.settings, bootstrap=self.kafka.bootstrap, security_protocol="PLAINTEXT", replication=1, qdrant_url="",
                state_dir=str(self.plan.folder), metrics_host=HOST, metrics_port=self.port,
            )  # fmt: skip
            topics.ensure(self.settings.connection, self.settings.topic_specs)
        with self._step("starting the worker") as say:
            self.worker = self._child("worker", "worker")
            self._await_ready(self.worker, say)
        topic = self.settings.topic
        self.tail = Tail(
            self.settings.connection,
            {topic("recommendations"): self.viewer.take_list, topic("items"): self.viewer.take_item},
            name="page",
        )
        self.tail.start()
        self.source = self._source()
        self._since = time.monotonic()

    def _child(self, name: str, *arguments: str) -> Child:
        environment = {k: v for k, v in os.environ.items() if k not in {PREFIX + name for name in _REPLACED}}
        for field in ("bootstrap", "state_dir", "metrics_host", "metrics_port", "replication"):
            environment[PREFIX + field.upper()] = str(getattr(self.settings, field))
        return Child(name, arguments, environment, self.plan.folder / "logs" / f"{name}.log")

    def _source(self) -> Child:
        plan = self.plan
        rate = ("--rate", f"{plan.rate:g}") if plan.rate is not None else ()
        if plan.file is not None:
            return self._child("replay", "replay", str(plan.file), *rate)
        room = max(0, self.settings.qdrant_local_points - ShopOptions().max_items - 1_000)
        seconds = ("--seconds", f"{plan.seconds:g}") if plan.seconds is not None else ()
        return self._child("shop", "simulate", "--seed", str(plan.seed), "--max-reviews", str(room), *rate, *seconds)

    def _await_ready(self, worker: Child, say: Callable[[str], None]) -> None:
        end = time.monotonic() + READY_S
        while True:
            reading = scrape(self._url, timeout_s=1.0)
            if reading is not None and reading.total("freshet_ready") == 1.0:
                self.course.add(reading)
                return
            self._check_alive()
            if time.monotonic() > end:
                raise DemoError(f"the worker was not ready within {READY_S:.0f} s; its log ends:\n{worker.tail()}")
            say(worker.tail(1).strip()[:100] or "loading")
            time.sleep(0.25)

    @property
    def _url(self) -> str:
        return f"http://{HOST}:{self.port}/metrics"

    # -- watching ---------------------------------------------------------------------------------------------------
    def _watch(self, draw: Callable[[str], None]) -> None:
        """Until the shop has closed or the file is published."""
        assert self.source is not None
        while self.source.code is None:
            self._look(draw, "publishing the file" if self.plan.file is not None else "Ctrl-C ends the demo")
            time.sleep(LOOK_S)
        if self.source.code:
            raise DemoError(_ended(self.source))
        self._look(draw, "")
        self.course.close()

    def _drain(self, draw: Callable[[str], None]) -> None:
        """Until all that was published is through."""
        quiet, moved = 0, time.monotonic()
        before: tuple[float, ...] = ()
        while quiet < STABLE:
            reading = self._look(draw, "finishing what was published")
            if reading is not None:
                done = progress(reading)
                idle = done == before and sum(behind(reading)) == 0 and self._all_in(reading)
                quiet = quiet + 1 if idle else 0
                if done != before:
                    before, moved = done, time.monotonic()
            if quiet == 0 and time.monotonic() - moved > STALL_S:
                lag = behind(reading) if reading is not None else "unknown"
                raise DemoError(f"nothing has moved for {STALL_S:.0f} s, (waiting, not folded): {lag}")
            time.sleep(LOOK_S / 2)

    def _all_in(self, reading: Scrape) -> bool:
        """Whether ingest has seen the whole file: until then no lag is known of what was not yet fetched."""
        if self.expected is None:
            return True
        refused = reading.total("freshet_dead_letters_total")
        return reading.total(EVENTS) + refused >= self.expected.events.total()

    def _look(self, draw: Callable[[str], None], hint: str) -> Scrape | None:
        """One reading onto the screen. DemoError where a part has ended."""
        reading = scrape(self._url)
        if reading is not None:
            self.course.add(reading)
        self._check_alive()
        if self.expected is not None and reading is not None:
            embedded = reading.total("freshet_qdrant_points", collection="reviews")
            hint = f"{hint}: {embedded:,.0f} of {self.expected.points:,} reviews in Qdrant"
        draw(hint)
        return reading

    def _check_alive(self) -> None:
        if not self.kafka.running:
            raise DemoError(f"Kafka ended; its log is {self.kafka.log}")
        if self.worker is not None and self.worker.code is not None:
            raise DemoError(_ended(self.worker))
        if self.tail is not None and self.tail.error is not None:
            raise DemoError(f"the output topic can no longer be read: {self.tail.error}")

    # -- what it came to ----------------------------------------------------------------------------------------------
    def _shortfalls(self) -> list[str]:
        """Sentences for everything that is not as a working flow leaves it."""
        if self.course.now is None:
            return ["the worker never answered on /metrics"]
        found = []
        if self.course.gained(EVENTS) <= 0:
            found.append("no event came in")
        if self.course.gained("freshet_lists_total", audience="user") <= 0:
            found.append("no list came out")
        dead = dead_letters(self.course)
        if dead:
            parts = (f"{topic} {reason} {count:,.0f}" for (topic, reason), count in dead.items())
            found.append("dead letters: " + ", ".join(parts))
        reviews = self.course.gained(EVENTS, topic="reviews")
        points = self.course.now.total("freshet_qdrant_points", collection="reviews")
        if self.expected is not None:
            found.extend(self._differences(self.expected, points))
        elif points < reviews:
            found.append(f"{reviews:,.0f} reviews came in, {points:,.0f} are in Qdrant")
        return found

    def _differences(self, expected: Expected, points: float) -> list[str]:
        found = []
        for topic, count in expected.events.items():
            got = self.course.gained(EVENTS, topic=topic)
            if got != count:
                found.append(f"{topic}: {count:,} in the file, {got:,.0f} came in")
        if points != expected.points:
            found.append(f"{expected.points:,} reviews with text in the file, {points:,.0f} points in Qdrant")
        self._await_lists()
        if self.viewer.missing:
            some = ", ".join(sorted(self.viewer.missing)[:5])
            found.append(f"{len(self.viewer.missing):,} of {len(expected.users):,} users have no list, among them {some}")
        return found

    def _await_lists(self, patience_s: float = 10.0) -> None:
        """The reader of the output topic may be a moment behind."""
        end = time.monotonic() + patience_s
        while self.viewer.missing and time.monotonic() < end:
            time.sleep(0.1)

    def _extra(self) -> dict[str, str]:
        if self.expected is None:
            return {}
        having = len(self.expected.users) - len(self.viewer.missing)
        return {
            "reviews with text in the file": f"{self.expected.points:,}",
            "users with a list / in the file": f"{having:,} / {len(self.expected.users):,}",
            "seconds": f"{time.monotonic() - self._since:,.0f}",
        }

    # -- stopping ---------------------------------------------------------------------------------------------------
    def _stop(self) -> list[str]:
        """Shop, reader, worker, Kafka; further Ctrl-C are ignored meanwhile. What did not end well, in sentences."""
        failures = []
        with _undisturbed(), self._step("stopping shop, worker, Kafka"):
            for child in (self.source, self.worker):
                if child is None:
                    continue
                if child is self.worker and self.tail is not None:
                    self.tail.close()
                early = child.code is not None and child is self.worker  # told already
                if child.stop(STOP_S if self.kafka.running else STOP_WITHOUT_KAFKA_S) != 0 and not early:
                    failures.append(_ended(child))
            self.kafka.close()
        return failures

    # -- showing ----------------------------------------------------------------------------------------------------
    @contextmanager
    def _step(self, text: str) -> Iterator[Callable[[str], None]]:
        """Says what is being done; what it is waiting for can be added."""
        if not self.console.is_terminal:
            self.console.print(text, highlight=False)
            yield lambda _: None
            return
        with self.console.status(text) as status:
            yield lambda detail: status.update(f"{text}: [dim]{detail.replace('[', '(')}[/dim]")

    @contextmanager
    def _screen(self) -> Iterator[Callable[[str], None]]:
        """A function that shows the state with a hint: as a page, or as a line now and then where there is no terminal."""
        if not self.console.is_terminal:
            yield self._print_line
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            yield lambda hint: live.update(
                page(self.course, self.viewer, f"Freshet on {self.kafka.bootstrap}", hint), refresh=True
            )

    def _print_line(self, hint: str) -> None:
        now = time.monotonic()
        if now - self._printed >= LINE_EVERY_S:
            self._printed = now
            about = f"  ({hint})" if self.expected is not None else ""
            text = line(self.course, now - self._since, with_ctr=self.expected is None)
            self.console.print(text + about, highlight=False, soft_wrap=True)


def _ended(child: Child) -> str:
    return f"the {child.name} ended with exit code {child.code}; its log ends:\n{child.tail()}"


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and its like change nothing while the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
