"""Replay against a real broker: what is in the file is in the topics, once, under its key; what cannot be delivered is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from typer import Typer
from typer.testing import CliRunner

from models.events import Click, Event, Item, Purchase, Review, decode
from streams.connection import Connection
from streams.embedded_kafka import EmbeddedKafka
from streams.replay import ReplayError, publish, replay

TOPICS = ("clicks", "purchases", "reviews", "items")
EVENTS: list[Event | Item] = [
    Item(item_id="dune", title="Dune"),
    *(Click(event_id=f"c{k}", user_id=f"ü{k % 7}", item_id="dune", timestamp_ms=k + 1) for k in range(300)),
    Purchase(event_id="p", user_id="ada", item_id="dune", timestamp_ms=400, quantity=2),
    Review(event_id="r", user_id="ada", item_id="dune", timestamp_ms=500, rating=5.0, text="söt"),
]


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        prefixes = ("", "rate.", "cli.", "lenient.")
        admin.create_topics([NewTopic(prefix + name, 3, 1) for prefix in prefixes for name in TOPICS])
        admin.close()
        yield broker


def stored(kafka: EmbeddedKafka, topic: str) -> list[tuple[bytes, bytes]]:
    """Every message of a topic, by partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap)
    try:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        found: list[tuple[bytes, bytes]] = []
        while any(consumer.position(p) < ends[p] for p in partitions):
            for records in consumer.poll(1000).values():
                found += [(record.key, record.value) for record in records]
        return found
    finally:
        consumer.close()


def test_everything_arrives_once_in_order_under_its_key(kafka: EmbeddedKafka) -> None:
    seen: list[int] = []
    counts = publish(EVENTS, Connection(bootstrap=kafka.bootstrap), progress=seen.append)
    assert counts == {"items": 1, "clicks": 300, "purchases": 1, "reviews": 1}
    assert seen[-1] == 303
    for topic in TOPICS:
        messages = stored(kafka, topic)
        events = [decode(topic, value, now_ms=1000) for _, value in messages]
        expected = {event for event in EVENTS if type(event).__name__.lower() + "s" == topic and not isinstance(event, Item)}
        if topic == "items":
            assert messages[0][0] == b"dune"
            continue
        assert {event.event_id for event in events} == {event.event_id for event in expected}  # type: ignore[union-attr]
        assert len(events) == len(expected)
        for (key, _), event in zip(messages, events, strict=True):
            assert key.decode() == event.user_id  # type: ignore[union-attr]
    of_one = [event.event_id for event in map(lambda m: decode("clicks", m[1], now_ms=1000), stored(kafka, "clicks"))
              if event.user_id == "ü3"]  # type: ignore[union-attr]  # fmt: skip
    assert of_one == [f"c{k}" for k in range(3, 300, 7)]


def test_a_rate_and_a_prefix(kafka: EmbeddedKafka) -> None:
    counts = publish(EVENTS[:20], Connection(bootstrap=kafka.bootstrap), topic=lambda name: "rate." + name, rate=2000)
    assert counts.total() == 20
    assert len(stored(kafka, "rate.clicks")) == 19


def test_an_absent_topic_is_an_error(kafka: EmbeddedKafka) -> None:
    with pytest.raises(ReplayError, match=r"nowhere\.items"):
        publish(EVENTS, Connection(bootstrap=kafka.bootstrap), topic=lambda name: "nowhere." + name, timeout_s=2)


def test_a_message_larger_than_the_broker_takes_is_an_error(kafka: EmbeddedKafka) -> None:
    large = Item(item_id="x", description="x" * 5_000_000)
    with pytest.raises(ReplayError, match="items"):
        publish([large], Connection(bootstrap=kafka.bootstrap), timeout_s=5)


def test_no_broker_is_an_error() -> None:
    with pytest.raises(ReplayError, match=r"127\.0\.0\.1:1"):
        publish(EVENTS, Connection(bootstrap="127.0.0.1:1"), timeout_s=1)


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_senseless_rate_is_refused(rate: float) -> None:
    with pytest.raises(ReplayError, match="rate"):
        publish(EVENTS, Connection(bootstrap="127.0.0.1:1"), rate=rate)


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(replay)
    return app


def lines(path: Path, *rows: object) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


GOOD = {"user_id": "a", "item_id": "x", "timestamp": 1}


def test_the_command(kafka: EmbeddedKafka, app: Typer, tmp_path: Path) -> None:
    file = lines(tmp_path / "f.jsonl", GOOD, GOOD | {"rating": 4})
    environment = {"FRESHET_BOOTSTRAP": kafka.bootstrap, "FRESHET_TOPIC_PREFIX": "cli."}
    result = CliRunner().invoke(app, [file], env=environment)
    assert result.exit_code == 0, result.output
    assert "published 1 clicks, 1 reviews" in result.output
    assert len(stored(kafka, "cli.clicks")) == len(stored(kafka, "cli.reviews")) == 1


def test_the_command_skips_bad_lines_only_when_asked(kafka: EmbeddedKafka, app: Typer, tmp_path: Path) -> None:
    file = lines(tmp_path / "f.jsonl", GOOD, "{torn", GOOD)
    environment = {"FRESHET_BOOTSTRAP": kafka.bootstrap, "FRESHET_TOPIC_PREFIX": "lenient."}
    strict = CliRunner().invoke(app, [file], env=environment)
    assert strict.exit_code == 1
    assert "f.jsonl:2" in strict.output.replace("\n", "")
    lenient = CliRunner().invoke(app, [file, "--lenient", "--stream"], env=environment)
    assert lenient.exit_code == 0, lenient.output
    assert "skipped 1 lines" in " ".join(lenient.output.split())


def test_the_command_fails_without_a_broker_or_file(app: Typer, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, [str(tmp_path / "absent")]).exit_code == 1
    assert CliRunner().invoke(app, [lines(tmp_path / "f", GOOD), "--fast", "--rate", "5"]).exit_code == 2
