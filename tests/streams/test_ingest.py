"""Ingest: one event becomes one log line of its user, its text goes to its item, what cannot be used goes aside."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from aiokafka import ConsumerRecord
from kafka.partitioner.default import murmur2 as murmur2_of_kafka_python

from models.events import Click, Erasure, Interaction, Item, ItemText, Purchase, Review, encode
from streams.ingest import Ingest, partition_of
from streams.metrics import Metrics
from streams.settings import Settings


def record(topic: str, key: bytes | None, value: bytes | None, *, offset: int = 7, partition: int = 2) -> ConsumerRecord:
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=1_700_000_000_000,
        timestamp_type=1,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=(),
    )


class Sent:
    def __init__(self) -> None:
        self.records: dict[str, list[Any]] = defaultdict(list)
        self.metrics = Metrics()
        self.ingest = Ingest(Settings.load({"FRESHET_TOPIC_PREFIX": "p."}), self.metrics, self.produce)

    async def produce(self, topic: str, records: Any) -> None:
        self.records[topic].extend(records)

    def handle(self, *records: ConsumerRecord) -> Sent:
        asyncio.run(self.ingest.handle(list(records)))
        return self

    def texts(self) -> list[ItemText]:
        return [msgspec.json.decode(r[2], type=ItemText) for r in self.records["item-texts"]]


BASE = {"user_id": "ada", "item_id": "dune", "timestamp_ms": 5}


def test_an_event_becomes_a_line_of_the_log_with_its_origin_and_the_time_the_broker_had_it():
    sent = Sent().handle(record("p.clicks", b"ada", encode(Click(event_id="c", **BASE))))
    ((partition, key, value, timestamp, headers),) = sent.records["interactions"]
    line = msgspec.json.decode(value, type=Interaction)
    assert (line.kind, line.event_id, line.origin, line.received_ms) == ("click", "c", "clicks/2/7", 1_700_000_000_000)
    assert (key, timestamp, headers) == (b"ada", 1_700_000_000_000, [])
    assert partition == partition_of(b"ada", 4)
    assert "item-texts" not in sent.records
    assert sent.metrics.registry.get_sample_value("freshet_events_total", {"topic": "clicks"}) == 1


@pytest.mark.parametrize("key", [b"ada", "é".encode(), b"\x00\xff" * 20, b"x" * 255])
def test_the_partition_is_the_one_every_kafka_client_chooses(key):
    assert partition_of(key, 12) == (murmur2_of_kafka_python(key) & 0x7FFFFFFF) % 12


def test_the_log_is_partitioned_by_the_user_whatever_the_platform_did():
    sent = Sent().handle(record("p.clicks", None, encode(Click(event_id="c", **BASE)), partition=0))
    assert sent.records["interactions"][0][0] == partition_of(b"ada", 4)


def test_a_reviews_words_go_to_the_item_and_not_into_the_log():
    review = Review(event_id="r", rating=4, title="Good", text="sand everywhere", **BASE)
    sent = Sent().handle(record("p.reviews", b"ada", encode(review)))
    assert b"sand" not in sent.records["interactions"][0][2]
    (text,) = sent.texts()
    assert (text.kind, text.source_id, text.item_id, text.text) == ("review", "r", "dune", "Good. sand everywhere")
    assert sent.records["item-texts"][0][1] == b"dune"


def test_a_review_without_words_has_nothing_to_embed():
    assert not Sent().handle(record("p.reviews", b"ada", encode(Review(event_id="r", rating=4, text=" ", **BASE)))).texts()


@pytest.mark.parametrize(
    ("topic", "event", "kind"),
    [
        ("reviews", Review(event_id="r2", rating=1, text="worse", retracts="r1", **BASE), "review"),
        ("reviews", Review(event_id="r2", rating=1, retracts="r1", **BASE), "removal"),
        ("reviews", Review(event_id="r2", retracts="r1", **BASE), "removal"),
    ],
)
def test_what_is_taken_back_is_told_to_the_embedder(topic, event, kind):
    (text,) = Sent().handle(record(f"p.{topic}", b"ada", encode(event))).texts()
    assert (text.kind, text.retracts, text.item_id) == (kind, "r1", "dune")


def test_a_returned_purchase_has_no_words_to_take_back():
    sent = Sent().handle(record("p.purchases", b"ada", encode(Purchase(event_id="p2", retracts="p1", **BASE))))
    assert not sent.texts()
    assert msgspec.json.decode(sent.records["interactions"][0][2], type=Interaction).kind == "retraction"


def test_an_item_is_described_and_a_tombstone_takes_that_back():
    item = Item(item_id="dune", title="Dune", categories=["novel", "sand"], description="Long.")
    sent = Sent().handle(record("p.items", b"dune", encode(item)), record("p.items", b"dune", None))
    told, gone = sent.texts()
    assert (told.kind, told.text, told.source_id) == ("description", "Dune. novel, sand. Long.", "dune")
    assert (gone.kind, gone.source_id, gone.item_id) == ("removal", "dune", "dune")
    assert "interactions" not in sent.records
    assert "dead-letters" not in sent.records


def test_an_erasure_is_a_line_of_the_log():
    sent = Sent().handle(record("p.erasures", b"ada", encode(Erasure(request_id="q", user_id="ada", timestamp_ms=9))))
    line = msgspec.json.decode(sent.records["interactions"][0][2], type=Interaction)
    assert (line.kind, line.event_id, line.user_id) == ("erasure", "q", "ada")


def test_an_erasure_is_told_to_whoever_embeds_in_every_partition():
    sent = Sent().handle(record("p.erasures", b"ada", encode(Erasure(request_id="q", user_id="ada", timestamp_ms=9))))
    assert [(partition, key) for partition, key, *_ in sent.records["item-texts"]] == [(p, None) for p in range(4)]
    assert {(t.kind, t.source_id, t.user_id, t.timestamp_ms) for t in sent.texts()} == {("erasure", "q", "ada", 9)}


def test_a_bad_message_goes_aside_whole_and_its_neighbours_pass():
    good = encode(Click(event_id="c", **BASE))
    bad = b'\xff{"event_id"'
    sent = Sent().handle(record("p.clicks", b"k", good), record("p.clicks", b"k", bad, offset=8), record("p.clicks", b"k", good))
    assert len(sent.records["interactions"]) == 2
    ((_, key, value, _, headers),) = sent.records["dead-letters"]
    assert (key, value) == (b"k", bad)
    told = {name: content.decode() for name, content in headers}
    assert told["source-topic"].endswith("clicks")
    assert (told["source-partition"], told["source-offset"], told["reason"]) == ("2", "8", "invalid_json")
    count = sent.metrics.registry.get_sample_value("freshet_dead_letters_total", {"topic": "clicks", "reason": "invalid_json"})
    assert count == 1
