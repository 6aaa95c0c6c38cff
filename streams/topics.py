"""Every topic as data, and the admin work on them: create what is missing, refuse what differs, alter what can be altered.

All topics have the same partition count: a user's events, interactions and lists are then on partitions of the same number,
and so are an item's entry, texts and vector. Inputs carry the broker's clock (`LogAppendTime`): it starts the freshness
measurement, and an event whose own time is years ago is not deleted at once by retention.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError
from msgspec import Struct

from .connection import Connection

CLICKS: Final = "clicks"
PURCHASES: Final = "purchases"
REVIEWS: Final = "reviews"
IMPRESSIONS: Final = "impressions"
ITEMS: Final = "items"
ERASURES: Final = "erasures"
INTERACTIONS: Final = "interactions"
ITEM_TEXTS: Final = "item-texts"
ITEM_VECTORS: Final = "item-vectors"
REVIEW_VECTORS: Final = "review-vectors"
RECOMMENDATIONS: Final = "recommendations"
DEAD_LETTERS: Final = "dead-letters"
WORKERS: Final = "workers"
WEIGHTS: Final = "weights"

INPUTS: Final = (CLICKS, PURCHASES, REVIEWS, IMPRESSIONS, ITEMS, ERASURES)
COMPACTED: Final = (ITEMS, ITEM_VECTORS, REVIEW_VECTORS, RECOMMENDATIONS, WEIGHTS)
PASSING: Final = (WORKERS,)
"""Compacted, and what is a day old goes: of interest only as long as somebody says it."""
ALL: Final = (*INPUTS, INTERACTIONS, ITEM_TEXTS, ITEM_VECTORS, REVIEW_VECTORS, RECOMMENDATIONS, DEAD_LETTERS, *PASSING, WEIGHTS)

UNLIMITED: Final = -1
DAY_MS: Final = 86_400_000
MESSAGE_BYTES: Final = 1_048_576
TOMBSTONES_MS: Final = 7 * DAY_MS
WEIGHTS_SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""A few keys are overwritten every second: small files are compacted soon, and whoever starts has little to read."""

_ALTER: Final = "freshet topics --alter"


class TopicSpec(Struct, frozen=True, kw_only=True):
    """One topic as it must be. `config` holds Kafka's topic properties, as text."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


class Difference(Struct, frozen=True, kw_only=True):
    """One property of an existing topic which is not as it must be."""

    topic: str
    what: str
    wanted: str
    found: str
    alterable: bool

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, must be {self.wanted}"


class Plan(Struct, frozen=True, kw_only=True):
    """What stands between the broker and the specification."""

    missing: list[TopicSpec]
    differences: list[Difference]


class TopicsError(RuntimeError):
    """Kafka could not be asked, or refused; the text says what to do."""


class TopicMismatch(TopicsError):  # noqa: N818  a state of affairs, not a failure of the check
    """Existing topics differ from the specification. `differences` has all of them, the text also the way to mend each."""

    def __init__(self, differences: list[Difference]) -> None:
        self.differences = differences
        super().__init__("\n".join(_advice(differences)))


def specs(
    *,
    partitions: int = 4,
    replication: int = 1,
    input_retention_ms: int = 7 * DAY_MS,
    texts_retention_ms: int = UNLIMITED,
    dead_letters_retention_ms: int = 30 * DAY_MS,
    compaction_lag_ms: int = DAY_MS,
    message_bytes: int = MESSAGE_BYTES,
    prefix: str = "",
) -> list[TopicSpec]:
    """The topics of the design, in the order of the flow; ValueError for impossible numbers.

    `compaction_lag_ms` bounds how long an overwritten value (say the list of an erased person) can still be read from a
    compacted topic.
    `interactions` is never deleted from: the model is a fold of the whole of it.
    """
    if partitions < 1 or replication < 1:
        raise ValueError(f"partitions ({partitions}) and replication ({replication}) must be at least 1")
    retention = {
        INTERACTIONS: UNLIMITED,
        ITEM_TEXTS: texts_retention_ms,
        DEAD_LETTERS: dead_letters_retention_ms,
    }
    found = []
    for name in ALL:
        config = {
            "max.message.bytes": str(message_bytes),
            "message.timestamp.type": "LogAppendTime" if name in (*INPUTS, DEAD_LETTERS) else "CreateTime",
            "min.insync.replicas": str(max(1, replication - 1)),  # acks=all survives the loss of a broker, and so does writing
        }
        if name in COMPACTED:
            config |= {"cleanup.policy": "compact", "max.compaction.lag.ms": str(compaction_lag_ms)}
            config |= {"delete.retention.ms": str(TOMBSTONES_MS)}  # a replica that goes on from a snapshot must meet tombstones
            if name == WEIGHTS:
                config |= {"segment.bytes": str(WEIGHTS_SEGMENT_BYTES)}
        elif name in PASSING:
            config |= {"cleanup.policy": "compact,delete", "retention.ms": str(DAY_MS)}
        else:
            config |= {"cleanup.policy": "delete", "retention.ms": str(retention.get(name, input_retention_ms))}
        found.append(TopicSpec(name=prefix + name, partitions=partitions, replication=replication, config=config))
    return found


def plan(connection: Connection, specs: Iterable[TopicSpec]) -> Plan:
    """Compare the broker's topics with `specs`; changes nothing."""
    with admin(connection) as client:
        return _plan(client, list(specs))


def ensure(connection: Connection, specs: Iterable[TopicSpec], *, timeout_s: float = 30.0) -> list[str]:
    """Create what is missing, return the names created once every topic can be used. TopicMismatch, with nothing created,
    if an existing one differs."""
    wanted = list(specs)
    with admin(connection) as client:
        before = _plan(client, wanted)
        if before.differences:
            raise TopicMismatch(before.differences)
        for spec in before.missing:
            _create(client, spec)
        _wait(client, [spec.name for spec in wanted], timeout_s)
        after = _plan(client, wanted)  # another process may have created them otherwise in the meantime
        if after.differences:
            raise TopicMismatch(after.differences)
    return [spec.name for spec in before.missing]


def alter(connection: Connection, specs: Iterable[TopicSpec]) -> list[Difference]:
    """Set the properties which differ, return what was changed. TopicMismatch for what cannot be altered, after the rest was."""
    wanted = list(specs)
    with admin(connection) as client:
        differences = _plan(client, wanted).differences
        mendable = [difference for difference in differences if difference.alterable]
        by_topic: dict[str, dict[str, str]] = {}
        for difference in mendable:
            by_topic.setdefault(difference.topic, {})[difference.what] = difference.wanted
        if by_topic:
            changes = [ConfigResource(ConfigResourceType.TOPIC, topic, configs) for topic, configs in by_topic.items()]
            answers = client.alter_configs(changes)["topic"]
            refused = [f"{topic}: {answer}" for topic, answer in answers.items() if answer != "OK"]
            if refused:
                raise TopicsError("Kafka refused to alter " + "; ".join(refused))
            _await_altered(client, wanted)
    fixed = [difference for difference in differences if not difference.alterable]
    if fixed:
        raise TopicMismatch(fixed)
    return mendable


def wait_ready(connection: Connection, names: Iterable[str], *, timeout_s: float = 60.0) -> None:
    """Return when Kafka answers and each topic has a leader for each partition; TopicsError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    names = list(names)
    while True:
        left = max(1.0, deadline - time.monotonic())
        try:
            with admin(connection, timeout_s=min(left, 10.0)) as client:
                return _wait(client, names, left)
        except TopicsError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


@contextmanager
def admin(connection: Connection, *, timeout_s: float = 10.0) -> Iterator[Any]:
    """A KafkaAdminClient, closed afterwards; whatever Kafka refuses inside becomes a TopicsError."""
    client = None
    try:
        client = KafkaAdminClient(**connection.kafka_python(), bootstrap_timeout_ms=int(timeout_s * 1000))
        yield client
    except KafkaError as problem:
        what = "Kafka refused" if client else f"no Kafka could be used at {connection.bootstrap} within {timeout_s:.0f} s"
        raise TopicsError(f"{what}: {type(problem).__name__}: {problem}") from problem
    finally:
        if client is not None:
            client.close()


# ------------------------------------------------------------------------------------------------ inside
def _plan(client: Any, wanted: list[TopicSpec]) -> Plan:
    existing = set(client.list_topics())
    present = [spec for spec in wanted if spec.name in existing]
    missing = [spec for spec in wanted if spec.name not in existing]
    if not present:
        return Plan(missing=missing, differences=[])
    layout = {topic["name"]: topic["partitions"] for topic in client.describe_topics([spec.name for spec in present])}
    asked = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in present]
    configs = client.describe_configs(asked, config_filter="all")["topic"]
    differences: list[Difference] = []
    for spec in present:
        differences += _layout_differences(spec, layout[spec.name])
        differences += _config_differences(spec, {key: entry["value"] for key, entry in configs[spec.name].items()})
    return Plan(missing=missing, differences=differences)


def _layout_differences(spec: TopicSpec, partitions: list[dict[str, Any]]) -> Iterator[Difference]:
    if len(partitions) != spec.partitions:
        yield Difference(
            topic=spec.name, what="partitions", wanted=str(spec.partitions), found=str(len(partitions)), alterable=False
        )
    replicas = min((len(partition["replica_nodes"]) for partition in partitions), default=0)
    if replicas < spec.replication:
        yield Difference(
            topic=spec.name, what="replication", wanted=f"{spec.replication} or more", found=str(replicas), alterable=False
        )


def _config_differences(spec: TopicSpec, found: dict[str, str | None]) -> Iterator[Difference]:
    for key, wanted in spec.config.items():
        value = found.get(key) or ""
        if not _satisfies(key, wanted, value):
            yield Difference(topic=spec.name, what=key, wanted=wanted, found=value or "unset", alterable=True)


def _satisfies(key: str, wanted: str, found: str) -> bool:
    """Operators may allow more than we need, but not less; everything else is as specified."""
    match key:
        case "cleanup.policy":
            return set(found.split(",")) == set(wanted.split(","))
        case "max.message.bytes" | "min.insync.replicas" | "delete.retention.ms":
            return found.isdecimal() and int(found) >= int(wanted)
        case "max.compaction.lag.ms":
            return found.isdecimal() and int(found) <= int(wanted)
        case _:
            return found == wanted


def _create(client: Any, spec: TopicSpec) -> None:
    try:
        client.create_topics(
            {spec.name: {"num_partitions": spec.partitions, "replication_factor": spec.replication, "configs": spec.config}}
        )
    except TopicAlreadyExistsError:
        return  # another process was faster; what it made is checked with the rest


def _wait(client: Any, names: list[str], timeout_s: float) -> None:
    client.wait_for_topics(names, timeout_ms=int(timeout_s * 1000))


def _await_altered(client: Any, wanted: list[TopicSpec]) -> None:
    """The broker which answers learns of the change a moment after the controller has confirmed it."""
    deadline = time.monotonic() + 10.0
    while any(difference.alterable for difference in _plan(client, wanted).differences):
        if time.monotonic() > deadline:
            raise TopicsError("Kafka confirmed the new topic properties but does not show them after 10 s; look again later")
        time.sleep(0.05)


def _advice(differences: list[Difference]) -> Iterator[str]:
    yield "These Kafka topics are not as the settings want them:"
    yield from (f"  {difference}" for difference in differences)
    if any(difference.alterable for difference in differences):
        yield f"Mend the properties with: {_ALTER}"
    counts = {difference.found for difference in differences if difference.what == "partitions"}
    if counts:
        those = f"set the partition count to {counts.pop()}" if len(counts) == 1 else "use a partition count all topics share"
        yield (
            "The number of partitions cannot be changed under existing keys (it never shrinks, and growing it would move users "
            f"to other partitions): {those}, or choose another topic prefix and replay the inputs into the new topics"
        )
    if any(difference.what == "replication" for difference in differences):
        yield "Raise the replication with Kafka's kafka-reassign-partitions.sh, or lower it in the settings"
