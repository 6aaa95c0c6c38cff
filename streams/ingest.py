"""Ingest: the input topics become one log. Stateless.

decode -> an `Interaction` for the log of its user, an `ItemText` for the embedder, or a dead letter -> all acknowledged -> done.
The partition in the log is computed from the user id here, so that the order per user does not depend on how a platform
partitions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.partitioner import murmur2

from models import events
from models.events import Click, Erasure, Impression, Interaction, Item, ItemText, Purchase, Reason, Refusal, Review
from streams import clock
from streams.dead_letters import dead_letter
from streams.metrics import Metrics
from streams.settings import Settings
from streams.transport import OutRecord

log = logging.getLogger(__name__)

Taken = Click | Purchase | Review | Item | Erasure
"""What arrives on this agent's topics."""
Produce = Callable[[str, Sequence[OutRecord]], Awaitable[Any]]
"""Sends records to a topic (by its name in the design) and returns when the broker has acknowledged all of them."""


class Outbox:
    """What one batch sends, by topic; partitions by murmur2 of the key, as every Kafka client does."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.records: dict[str, list[OutRecord]] = {}

    def put(self, topic: str, key: str, value: bytes | None, timestamp_ms: int | None = None) -> None:
        raw = key.encode()
        self.records.setdefault(topic, []).append((partition_of(raw, self.partitions), raw, value, timestamp_ms, []))

    def put_everywhere(self, topic: str, value: bytes, timestamp_ms: int) -> None:
        """Into every partition, without a key."""
        self.records.setdefault(topic, []).extend((p, None, value, timestamp_ms, []) for p in range(self.partitions))

    def put_raw(self, topic: str, record: OutRecord) -> None:
        self.records.setdefault(topic, []).append(record)

    async def send(self, produce: Produce) -> None:
        """Everything, at once; returns when all of it is acknowledged."""
        await asyncio.gather(*(produce(topic, records) for topic, records in self.records.items()))


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's default partitioner (Java, aiokafka, kafka-python; librdkafka with `partitioner=murmur2_random`)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class Ingest:
    """Topics clicks, purchases, reviews, items, erasures -> interactions, item-texts, dead-letters."""

    def __init__(self, settings: Settings, metrics: Metrics, produce: Produce) -> None:
        self.settings, self.metrics, self.produce = settings, metrics, produce
        self.topics = {settings.topic(t): t for t in ("clicks", "purchases", "reviews", "items", "erasures")}

    async def handle(self, records: list[ConsumerRecord]) -> None:
        """One batch; returning acknowledges it."""
        now = clock.now_ms()
        outbox = Outbox(self.settings.partitions)
        for record in records:
            self._one(self.topics[record.topic], record, now, outbox)
        await outbox.send(self.produce)
        self.metrics.stage["ingest"].observe(max(0, clock.now_ms() - min(r.timestamp for r in records)) / 1000)

    def _one(self, topic: str, record: ConsumerRecord, now_ms: int, outbox: Outbox) -> None:
        event = self._decode(topic, record, now_ms)
        if isinstance(event, Refusal):
            refuse(self.metrics, outbox, topic, record, event, now_ms)
            return
        self.metrics.events[topic].inc()
        if event is None:
            item_id = record.key.decode()
            outbox.put("item-texts", item_id, events.encode(ItemText(kind="removal", source_id=item_id, item_id=item_id)))
        elif isinstance(event, Item):
            outbox.put("item-texts", event.item_id, events.encode(description(event, record.timestamp)))
        else:
            origin = f"{topic}/{record.partition}/{record.offset}"
            line = Interaction.of(event, origin=origin, received_ms=record.timestamp)
            outbox.put("interactions", line.user_id, events.encode(line), record.timestamp)
            if isinstance(event, Erasure):
                outbox.put_everywhere("item-texts", events.encode(erased_text(event)), record.timestamp)
            elif (said := text_of(event)) is not None:
                outbox.put("item-texts", event.item_id, events.encode(said), record.timestamp)

    def _decode(self, topic: str, record: ConsumerRecord, now_ms: int) -> Taken | Refusal | None:
        """The event; None for the tombstone of an item."""
        if topic == "items":
            return decode_item(record.key, record.value, now_ms, self.settings.limits)
        event = events.decode(topic, record.value, now_ms=now_ms, limits=self.settings.limits)
        assert not isinstance(event, Impression), "the attribute agent takes those"
        return event


def decode_item(key: bytes | None, value: bytes | None, now_ms: int, limits: events.Limits) -> Item | Refusal | None:
    """An entry of the compacted `items` topic; None is a tombstone. The key must be the item id: compaction goes by it."""
    try:
        item_id = (key or b"").decode()
    except UnicodeDecodeError:
        return Refusal(Reason.INVALID_ID, "the key is not UTF-8")
    if not item_id or len(key or b"") > limits.id_bytes:
        return Refusal(Reason.KEY_MISMATCH, f"items need their item_id as key, 1 to {limits.id_bytes} bytes")
    if not value:
        return None
    item = events.decode("items", value, now_ms=now_ms, limits=limits)
    if isinstance(item, Item) and item.item_id != item_id:
        return Refusal(Reason.KEY_MISMATCH, f"the key is {item_id[:40]!r}, the item_id {item.item_id[:40]!r}")
    return item if isinstance(item, Item | Refusal) else Refusal(Reason.INVALID_FIELD, "not an item")


def text_of(event: Click | Purchase | Review) -> ItemText | None:
    """What the embedder has to know of this event: a review's words, or that an earlier review is gone."""
    if not isinstance(event, Review):
        return None
    text = ". ".join(part for part in (event.title.strip(), event.text.strip()) if part)
    if event.rating is not None and text:
        kind = "review"
    elif event.retracts is not None:
        kind = "removal"
    else:
        return None
    return ItemText(
        kind=kind,
        source_id=event.event_id,
        item_id=event.item_id,
        user_id=event.user_id,
        timestamp_ms=event.timestamp_ms,
        rating=event.rating,
        text=text,
        retracts=event.retracts,
    )


def erased_text(event: Erasure) -> ItemText:
    """What the embedder has to know of a person who is to be forgotten."""
    return ItemText(
        kind="erasure", source_id=event.request_id, item_id="", user_id=event.user_id, timestamp_ms=event.timestamp_ms
    )  # fmt: skip


def description(item: Item, timestamp_ms: int) -> ItemText:
    """The item's own words: title, categories, description."""
    text = ". ".join(part for part in (item.title.strip(), ", ".join(item.categories), item.description.strip()) if part)
    return ItemText(
        kind="description" if text else "removal",
        source_id=item.item_id,
        item_id=item.item_id,
        timestamp_ms=timestamp_ms,
        text=text,
    )


def refuse(metrics: Metrics, outbox: Outbox, topic: str, record: ConsumerRecord, refusal: Refusal, now_ms: int) -> None:
    """Into `dead-letters`, with the reason and the origin."""
    metrics.dead_letters[topic, refusal.reason].inc()
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "reason": refusal.reason.value}
    log.info("a message cannot be used, it goes to dead-letters", extra=place)  # its text is in the letter, not here
    outbox.put_raw("dead-letters", dead_letter(record, record.topic, refusal, now_ms))
