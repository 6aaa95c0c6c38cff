"""`freshet forget USER`: publish that a person is to be forgotten, and watch until it is done everywhere.

    log         the request is in `interactions`: every replica folds it, whatever happens to whom
    list        the person's list is withdrawn from `recommendations` (a tombstone)
    trust       so is what was learned of which sources know them (a tombstone in `weights`)
    texts       the embedders have taken what they wrote out of Qdrant and out of the items' means, in every partition
    replicas    every worker has forgotten them, and so has every list made from now on
    snapshots   no snapshot on a worker's disk knows them any more (within twice `FRESHET_SNAPSHOT_INTERVAL_S`)

What it cannot reach is said at the end: the lines of the logs themselves, and workers that are gone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import msgspec
import typer
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from rich.console import Console
from rich.markup import escape

from models import events
from models.events import Erasure, Interaction, ItemText, Refusal
from models.interning import key64
from streams import clock, weights
from streams.ingest import partition_of
from streams.presence import everybody
from streams.settings import Settings, SettingsError
from streams.tail import TailError, consumer
from streams.topics import TopicsError, admin
from streams.trusts import key_of

LOOK_S: Final = 0.5
STEPS: Final = ("log", "list", "trust", "texts", "replicas", "snapshots")


class ForgetError(RuntimeError):
    """The request could not be made; the text says why."""


class Watch:
    """One request on its way. Ask `done(step)` again and again; each answer only looks at what is new."""

    def __init__(self, settings: Settings, request: Erasure) -> None:
        self.settings, self.request = settings, request
        self.partition = partition_of(request.user_id.encode(), settings.partitions)
        self.log_offset: int | None = None
        self._text_offsets: dict[int, int] = {}
        self._withdrawn = False
        learned = settings.model.fusion == "learned" and settings.model.personal_users > 0
        self._untrusted = not learned  # then there is nothing to withdraw
        self._kafka = consumer(settings.connection)
        self._begin = self._ends()

    def close(self) -> None:
        self._kafka.close()

    def done(self, step: str) -> bool:
        """Whether it has got that far. TailError, TopicsError and KafkaErrors where Kafka cannot be asked."""
        self._look()
        looks: dict[str, Callable[[], bool]] = {
            "log": lambda: self.log_offset is not None,
            "list": lambda: self._withdrawn,
            "trust": lambda: self._untrusted,
            "texts": self._embedded,
            "replicas": lambda: all(one.folded[self.partition] > self._offset for one in self._present()),
            "snapshots": lambda: all(one.saved is None or one.saved[self.partition] > self._offset for one in self._present()),
        }
        return looks[step]()

    def silent(self) -> list[str]:
        """Workers that are gone and have left snapshots that may know the person."""
        now = clock.now_ms()
        gone = [one for one in everybody(self.settings) if one.is_silent(now)]
        return [one.name for one in gone if one.saved is None or one.saved[self.partition] <= self._offset]

    @property
    def _offset(self) -> int:
        assert self.log_offset is not None, "the log comes first"
        return self.log_offset

    def _present(self) -> list[Any]:
        now = clock.now_ms()
        return [one for one in everybody(self.settings) if not one.is_silent(now)]

    def _places(self) -> list[TopicPartition]:
        topic, partitions = self.settings.topic, range(self.settings.partitions)
        own = [TopicPartition(topic(name), self.partition) for name in ("interactions", "recommendations")]
        own.append(TopicPartition(topic(weights.TOPIC), weights.PARTITION))
        return [*own, *(TopicPartition(topic("item-texts"), partition) for partition in partitions)]

    def _ends(self) -> dict[TopicPartition, int]:
        places = self._places()
        self._kafka.assign(places)
        ends: dict[TopicPartition, int] = self._kafka.end_offsets(places)
        for place, end in ends.items():
            self._kafka.seek(place, end)
        return ends

    def _look(self) -> None:
        for place, records in self._kafka.poll(timeout_ms=200).items():
            name = place.topic.removeprefix(self.settings.topic_prefix)
            for record in records:
                self._take(name, record)

    def _take(self, name: str, record: Any) -> None:
        if name == "recommendations":
            self._withdrawn |= record.key == self.request.user_id.encode() and record.value is None
        elif name == weights.TOPIC:
            self._untrusted |= record.key == key_of(key64(self.request.user_id)) and record.value is None
        elif name == "interactions":
            line = _decoded(record.value, Interaction)
            if line is not None and line.event_id == self.request.request_id:
                self.log_offset = record.offset
        elif (text := _decoded(record.value, ItemText)) is not None and text.source_id == self.request.request_id:
            self._text_offsets[record.partition] = record.offset

    def _embedded(self) -> bool:
        """Whether a group of embedders has acknowledged the request in every partition."""
        if len(self._text_offsets) < self.settings.partitions:
            return False
        topic = self.settings.topic("item-texts")
        groups = (self.settings.app_id, f"{self.settings.app_id}-embed")
        with admin(self.settings.connection) as client:
            committed = client.list_group_offsets(list(groups))
        return any(
            all(
                (at := committed.get(group, {}).get(TopicPartition(topic, p))) is not None and at.offset > offset
                for p, offset in self._text_offsets.items()
            )
            for group in groups
        )


def _decoded(value: bytes | None, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(value or b"", type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def ask(settings: Settings, user_id: str) -> Erasure:
    """The request, valid. Raises `ForgetError`."""
    request = Erasure(request_id=f"forget-{uuid.uuid4().hex}", user_id=user_id, timestamp_ms=clock.now_ms())
    problem = events.decode("erasures", events.encode(request), now_ms=request.timestamp_ms, limits=settings.limits)
    if isinstance(problem, Refusal):
        raise ForgetError(problem.detail)
    return request


def publish(settings: Settings, request: Erasure) -> None:
    """To `erasures`; returns when the broker has it. Raises `ForgetError`."""
    try:
        producer = KafkaProducer(**settings.connection.kafka_python(), acks="all", bootstrap_timeout_ms=10_000)
        try:
            key = request.user_id.encode()
            producer.send(settings.topic("erasures"), key=key, value=events.encode(request)).get(timeout=30)
        finally:
            producer.close(timeout=5)
    except KafkaError as problem:
        raise ForgetError(f"the request was not taken by Kafka at {settings.bootstrap}: {problem}") from problem


def progress(watch: Watch, patience_s: float) -> Iterator[tuple[str, float | None]]:
    """Each step and the seconds after which it was done, in order; None for the first one that was not done in time."""
    began = time.monotonic()
    for step in STEPS:
        while not watch.done(step):
            if time.monotonic() - began > patience_s:
                yield step, None
                return
            time.sleep(LOOK_S)
        yield step, time.monotonic() - began


# ------------------------------------------------------------------------------------------------ command line
SAID: Final = {
    "log": "the request is in the log",
    "list": "the list is withdrawn",
    "trust": "what was learned of whom to trust is withdrawn",
    "texts": "reviews are out of Qdrant and of the items' means",
    "replicas": "every worker has forgotten",
    "snapshots": "no worker has a snapshot that knows them",
}


def forget(
    user: Annotated[str, typer.Argument(help="The person's user id.")],
    wait_s: Annotated[float, typer.Option("--wait", help="seconds until giving up watching; 0: only publish", min=0)] = 900.0,
) -> None:
    """Publish that a person is to be forgotten, and report when it is done everywhere."""
    import os

    out, errors = Console(), Console(stderr=True)
    try:
        settings = Settings.load(os.environ)
        request = ask(settings, user)
        code = _watched(settings, request, wait_s, out)
    except (ForgetError, SettingsError, TailError, TopicsError, KafkaError, LookupError, TimeoutError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    raise typer.Exit(code)


def _watched(settings: Settings, request: Erasure, wait_s: float, out: Console) -> int:
    watch = Watch(settings, request)
    try:
        publish(settings, request)
        out.print(f"request {request.request_id} is published", highlight=False)
        if not wait_s:
            return 0
        for step, seconds in progress(watch, wait_s):
            if seconds is None:
                out.print(f"not yet: {SAID[step]}. It goes on without this command; run it again to see.", highlight=False)
                return 1
            out.print(f"{seconds:7.1f} s  {SAID[step]}", highlight=False)
        for name in watch.silent():
            out.print(f"gone since before: worker {escape(name)}; delete its state directory, or start it", highlight=False)
        return 0
    finally:
        watch.close()
