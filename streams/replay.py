"""`freshet replay`: real logs published to the input topics, as a platform would publish them.

Every message is accounted for: `publish` returns when the broker has acknowledged each of them, or raises.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.events import TOPIC_OF, Event, Item, encode
from streams.connection import Connection
from streams.convert import EventFile, EventFileError

IN_FLIGHT: Final = 10_000
"""At most so many messages wait for their acknowledgement; then publishing waits."""


class ReplayError(RuntimeError):
    """Messages could not be delivered; the message says which and why."""


def publish(
    events: Iterable[Event | Item],
    connection: Connection,
    *,
    topic: Callable[[str], str] = str,
    rate: float | None = None,
    timeout_s: float = 60.0,
    progress: Callable[[int], None] | None = None,
) -> Counter[str]:
    """Produce the events in order, keyed by their raw ids; the number of messages acknowledged by input topic.

    `topic` gives the full name of an input topic; `rate` is in events per second (None: as fast as the broker takes them);
    `progress` is told the number of acknowledged messages. Raises `ReplayError` for the first message not acknowledged within
    `timeout_s`, topics that do not exist included; what was acknowledged before stays published.
    """
    if rate is not None and rate <= 0:
        raise ReplayError(f"the rate must be above 0 events per second, not {rate}")
    try:
        producer = KafkaProducer(
            **connection.kafka_python(),
            acks="all",
            enable_idempotence=True,
            linger_ms=5 if rate else 20,
            batch_size=131_072,
            max_block_ms=int(timeout_s * 1000),
            delivery_timeout_ms=int(timeout_s * 1000),
            request_timeout_ms=int(timeout_s * 500),
            bootstrap_timeout_ms=int(timeout_s * 1000),
            allow_auto_create_topics=False,
        )
    except KafkaError as problem:
        raise ReplayError(f"no connection to Kafka at {connection.bootstrap}: {problem}") from problem
    try:
        return _publish(producer, events, topic, rate, timeout_s, progress)
    finally:
        producer.close(timeout=5)


def _publish(
    producer: KafkaProducer, events: Iterable[Event | Item], topic: Callable[[str], str], rate: float | None, timeout_s: float,
    progress: Callable[[int], None] | None,
) -> Counter[str]:  # fmt: skip
    delivered: Counter[str] = Counter()
    waiting: deque[tuple[str, str, Any]] = deque()
    done = 0

    def settle(until: int) -> None:
        nonlocal done
        while len(waiting) > until or (waiting and waiting[0][2].is_done):
            name, key, future = waiting.popleft()
            try:
                future.get(timeout=timeout_s)
            except KafkaError as problem:
                raise ReplayError(f"{name}: the message of {key!r} was not delivered: {problem!r}") from problem
            delivered[name] += 1
            done += 1
        if progress is not None:
            progress(done)

    start = time.monotonic()
    for count, event in enumerate(events):
        if rate is not None and (ahead := start + count / rate - time.monotonic()) > 0:
            time.sleep(ahead)
        name = TOPIC_OF[type(event)]
        key = event.item_id if isinstance(event, Item) else event.user_id
        try:
            future = producer.send(topic(name), key=key.encode(), value=encode(event))
        except KafkaError as problem:
            raise ReplayError(f"{topic(name)}: {problem} (freshet topics creates the topics)") from problem
        waiting.append((name, key, future))
        if count % 256 == 0 or rate is not None:
            settle(IN_FLIGHT)
    producer.flush(timeout=timeout_s)
    settle(0)
    return delivered


# ------------------------------------------------------------------------------------------------ command line
def replay(
    files: Annotated[list[Path], typer.Argument(help="Files of events: neutral JSON lines or one of the known data sets.")],
    rate: Annotated[float | None, typer.Option(help="Events per second.", min=0.001)] = None,
    fast: Annotated[bool, typer.Option("--fast", help="As fast as Kafka takes them (the default without --rate).")] = False,
    limit: Annotated[int | None, typer.Option(help="Only the first so many events.", min=1)] = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Skip and count lines that are no events.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="In file order, without loading the file to sort it.")] = False,
) -> None:
    """Publish real logs to the input topics, in the order of time, and wait for every acknowledgement."""
    import os

    from streams.settings import Settings, SettingsError

    errors = Console(stderr=True)
    if fast and rate is not None:
        errors.print("[red]--fast and --rate contradict each other[/red]")
        raise typer.Exit(2)
    try:
        settings = Settings.load(os.environ)
        opened = [EventFile(file, lenient=lenient, order="file" if stream else "time") for file in files]
        counts, seconds = _with_progress(opened, settings.connection, settings.topic, rate, limit)
    except (EventFileError, ReplayError, SettingsError) as problem:
        errors.print(f"[red]{problem}[/red]", highlight=False)
        raise typer.Exit(1) from None
    for file in opened:
        if file.skipped:
            errors.print(f"[yellow]{file.path}: skipped {file.skipped} lines; the first: {file.first_problem}[/yellow]")
    total = counts.total()
    parts = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or "nothing"
    Console().print(f"published {parts} in {seconds:.1f} s ({total / max(seconds, 1e-9):,.0f}/s), all acknowledged")


def _with_progress(
    files: Sequence[EventFile], connection: Connection, topic: Callable[[str], str], rate: float | None, limit: int | None
) -> tuple[Counter[str], float]:
    """Publish the files one after the other under a progress bar; counts and seconds."""
    streamed = any(file.order == "file" for file in files)
    events: Iterable[Event | Item] = islice(chain.from_iterable(files), limit)
    total: int | None = None
    if not streamed:
        events = list(events)
        total = len(events)
    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        counts = publish(events, connection, topic=topic, rate=rate, progress=lambda done: bar.update(task, completed=done))
    return counts, time.monotonic() - start
