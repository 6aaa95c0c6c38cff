"""The simulated shop over a real Kafka: what it shows, what it sends, how it ends."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from models.events import (
    INPUTS,
    POPULAR,
    CausedBy,
    Click,
    Impression,
    Item,
    RecommendationList,
    Recommended,
    Refusal,
    decode,
    encode,
)
from streams import clock, topics
from streams.embedded_kafka import EmbeddedKafka, free_port
from streams.settings import Settings
from streams.shop import Shop, Shown
from streams.simulate import Shelf, run, simulate

_numbers = itertools.count(1)


@pytest.fixture
def settings(kafka: EmbeddedKafka) -> Settings:
    """Settings with topics of their own."""
    made = Settings.load({}, bootstrap=kafka.bootstrap, topic_prefix=f"shop{next(_numbers)}.", partitions=2)
    topics.ensure(made.connection, made.topic_specs)
    return made


def a_list(user: str, list_id: str, items: list[str], offset: int = 1) -> RecommendationList:
    lines = [Recommended(item_id=i, rank=k, score=1.0, sources={}, reasons=[]) for k, i in enumerate(items, 1)]
    cause = CausedBy(event_id="e", timestamp_ms=1)
    return RecommendationList(
        user_id=user, list_id=list_id, generated_at_ms=1, log_offset=offset, caused_by=cause, arm="default", items=lines
    )


def everything(settings: Settings, topic: str) -> list[Any]:
    consumer = KafkaConsumer(**settings.connection.kafka_python(), group_id=None, enable_auto_commit=False)
    try:
        parts = [TopicPartition(settings.topic(topic), p) for p in range(settings.partitions)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        records = []
        while any(consumer.position(p) < ends[p] for p in parts):
            for batch in consumer.poll(500).values():
                records.extend(batch)
        return records
    finally:
        consumer.close()


# ------------------------------------------------------------------------------------------------ what visitors are shown
def record(user: str, value: bytes | None) -> Any:
    return SimpleNamespace(key=user.encode(), value=value)


def test_the_shelf_holds_the_list_with_the_highest_offset() -> None:
    shelf = Shelf()
    shelf.take(record("ada", encode(a_list("ada", "new", ["a", "b"], offset=5))))
    shelf.take(record("ada", encode(a_list("ada", "late writer", ["c"], offset=4))))
    assert shelf.shown_to("ada") == Shown("new", ("a", "b"))


def test_strangers_are_shown_the_strangers_list_and_nobody_anything_before_there_is_one() -> None:
    shelf = Shelf()
    assert shelf.shown_to("ada") is None
    shelf.take(record(POPULAR, encode(a_list(POPULAR, "popular", ["x"]))))
    assert shelf.shown_to("ada") == Shown("popular", ("x",))
    shelf.take(record("ada", encode(a_list("ada", "own", ["a"]))))
    assert shelf.shown_to("ada") == Shown("own", ("a",))
    shelf.take(record("ada", None))  # forgotten
    assert shelf.shown_to("ada") == Shown("popular", ("x",))


@pytest.mark.parametrize("junk", [b"", b"{}", b"[1]", b"\xff", b'{"list_id": 3, "log_offset": 1, "items": []}'])
def test_what_is_no_list_changes_nothing(junk: bytes) -> None:
    shelf = Shelf()
    shelf.take(record("ada", encode(a_list("ada", "own", ["a"]))))
    shelf.take(record("ada", junk))
    assert shelf.shown_to("ada") == Shown("own", ("a",))


def test_the_shelf_is_bounded_and_forgets_who_was_silent_longest() -> None:
    shelf = Shelf(max_users=2)
    for offset, user in enumerate(["ada", "bob", "ada", "cyd"]):
        shelf.take(record(user, encode(a_list(user, f"{user}-{offset}", ["a"], offset))))
    assert len(shelf) == 2
    assert shelf.shown_to("bob") is None
    assert shelf.shown_to("ada") == Shown("ada-2", ("a",))


# ------------------------------------------------------------------------------------------------ over Kafka
def test_every_event_arrives_valid_and_keyed_and_impressions_name_the_list_that_was_on_the_topic(settings: Settings) -> None:
    shop = Shop(3, run="test")
    items = [item.item_id for item in shop.catalogue()[:10]]
    producer = KafkaProducer(**settings.connection.kafka_python())
    producer.send(settings.topic("recommendations"), key=POPULAR.encode(), value=encode(a_list(POPULAR, "the-list", items))).get(
        30
    )
    producer.close()

    platform, tally = run(settings, shop, 300.0, 3.0, threading.Event())

    assert platform.failed == 0
    assert platform.sent["items"] == len(shop.catalogue())
    for topic in INPUTS:
        records = everything(settings, topic)
        assert len(records) == platform.sent[topic]
        events = [decode(topic, r.value, now_ms=clock.now_ms()) for r in records]
        assert not any(isinstance(e, Refusal) for e in events)
        assert all(
            r.key.decode() == (e.item_id if isinstance(e, Item) else e.user_id) for r, e in zip(records, events, strict=True)
        )  # type: ignore[union-attr]
        if topic == "impressions":
            assert tally.shown == sum(len(e.items) for e in events if isinstance(e, Impression)) > 0
            assert all(isinstance(e, Impression) and e.list_id == "the-list" and e.items == items for e in events)
        if topic == "clicks":
            listed = [e for e in events if isinstance(e, Click) and e.list_id is not None]
            assert len(listed) == tally.clicked > 0
            assert all(e.list_id == "the-list" and e.position and items[e.position - 1] == e.item_id for e in listed)
    events_sent = sum(platform.sent[t] for t in ("clicks", "purchases", "reviews"))
    assert events_sent <= 300 * 3 + 50


def test_it_ends_in_good_order_on_sigterm(settings: Settings, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "FRESHET_BOOTSTRAP": settings.bootstrap,
        "FRESHET_TOPIC_PREFIX": settings.topic_prefix,
        "FRESHET_PARTITIONS": "2",
    }
    with (tmp_path / "out").open("w+") as out:
        shop = subprocess.Popen([sys.executable, "-m", "streams.cli", "simulate"], env=environment, stdout=out, stderr=out)
        deadline = time.monotonic() + 180
        while not everything(settings, "clicks"):
            assert shop.poll() is None
            assert time.monotonic() < deadline
        shop.send_signal(signal.SIGTERM)
        assert shop.wait(180) == 0
        out.seek(0)
        text = out.read()
    sent = len(everything(settings, "clicks"))
    assert f"sent {sent:,} clicks" in text
    assert "all delivered" in text


def test_without_kafka_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings.load({}, bootstrap=f"127.0.0.1:{free_port()}")
    assert simulate(settings, seconds=1) == 1
    assert settings.bootstrap in capsys.readouterr().err


def test_without_topics_it_names_the_command_that_makes_them(kafka: EmbeddedKafka, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings.load({}, bootstrap=kafka.bootstrap, topic_prefix="nowhere.")
    assert simulate(settings, seconds=1) == 1
    assert "freshet topics" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"rate": 0.0}, {"rate": -1.0}, {"rate": float("nan")}, {"seconds": 0.0}, {"shoppers": 0}, {"review_rate": -1.0}]
)
def test_arguments_that_make_no_shop(wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(Settings.load({}), **wrong) == 2
    assert "freshet:" in capsys.readouterr().err
