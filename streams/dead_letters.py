"""Dead letters: messages that could not be used, as they came, with the reason and the origin in their headers.

| header | text |
|---|---|
| `source-topic`, `source-partition`, `source-offset` | where it came from |
| `reason` | one word of `models.events.Reason` |
| `detail` | a sentence for a human, ASCII, at most 500 characters |
| `refused-at-ms` | when, wall clock |
| `truncated`, `key-truncated` | size of the original in bytes, where only its beginning is carried |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kafka import TopicPartition as KafkaTopicPartition
from msgspec import Struct

from models.events import Refusal

from .connection import Connection
from .lanes import OutRecord
from .replica import read_all, read_from, reader

MAX_BYTES: Final = 900_000
"""Of the original value: with key and headers it stays below the 1,000,000 bytes a producer may send."""
KEY_BYTES: Final = 4_096
DETAIL_CHARS: Final = 500


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One dead letter as read. A field is None where the header is missing or unreadable: others may write there as well."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None
    reason: str | None
    detail: str | None
    refused_at_ms: int | None
    truncated: int | None
    key_truncated: int | None


def dead_letter(record: Any, topic: str, refusal: Refusal, now_ms: int, max_bytes: int = MAX_BYTES) -> OutRecord:
    """The dead letter of a ConsumerRecord, for `transport.produce`: on the partition it came from, and small enough to send.

    `topic` is the name written as its source."""
    headers = [
        ("source-topic", topic.encode()),
        ("source-partition", b"%d" % record.partition),
        ("source-offset", b"%d" % record.offset),
        ("reason", refusal.reason.encode()),
        ("detail", _ascii(refusal.detail).encode()),
        ("refused-at-ms", b"%d" % now_ms),
    ]
    key, value = record.key, record.value
    if value is not None and len(value) > max_bytes:
        headers.append(("truncated", b"%d" % len(value)))
        value = value[:max_bytes]
    if key is not None and len(key) > KEY_BYTES:
        headers.append(("key-truncated", b"%d" % len(key)))
        key = key[:KEY_BYTES]
    return record.partition, key, value, None, headers


def iter_dead_letters(connection: Connection, topic: str, follow: bool = False, limit: int | None = None) -> Iterator[DeadLetter]:
    """The newest `limit` dead letters, oldest first (None: all of them, partition by partition); with `follow` then each new one
    as it comes, without end. LookupError if the topic does not exist, ValueError for a negative limit.

    Holds at most `limit` letters per partition."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}, it cannot be negative")
    if not follow:
        yield from _newest(connection, topic, limit)
        return
    with reader(connection, topic) as kafka:
        ahead = dict(kafka.end_offsets(kafka.assignment()))  # noted first: what arrives while the past is shown is not left out
        for letter in _newest(connection, topic, limit):
            tp = KafkaTopicPartition(topic, letter.partition)
            ahead[tp] = max(ahead[tp], letter.offset + 1)
            yield letter
        for tp, offset in ahead.items():
            kafka.seek(tp, offset)
        while True:
            for records in kafka.poll(500).values():
                yield from map(_read, records)


def _newest(connection: Connection, topic: str, limit: int | None) -> Iterator[DeadLetter]:
    if limit is None:
        yield from map(_read, read_all(connection, topic))
        return
    letters = [_read(record) for record in read_from(connection, topic, limit)] if limit else []
    letters.sort(key=lambda letter: (letter.timestamp_ms, letter.partition, letter.offset))
    yield from letters[-limit:] if limit else ()


def _read(record: Any) -> DeadLetter:
    headers = {name: value for name, value in record.headers or () if value is not None}
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        source_topic=_text(headers, "source-topic"),
        source_partition=_number(headers, "source-partition"),
        source_offset=_number(headers, "source-offset"),
        reason=_text(headers, "reason"),
        detail=_text(headers, "detail"),
        refused_at_ms=_number(headers, "refused-at-ms"),
        truncated=_number(headers, "truncated"),
        key_truncated=_number(headers, "key-truncated"),
    )


def _ascii(text: str) -> str:
    """Printable ASCII: a header is shown in terminals and log viewers."""
    return text[:DETAIL_CHARS].encode("unicode_escape").decode()[:DETAIL_CHARS]


def _text(headers: dict[str, bytes], name: str) -> str | None:
    return _ascii(headers[name].decode(errors="replace")) if name in headers else None


def _number(headers: dict[str, bytes], name: str) -> int | None:
    raw = headers.get(name, b"")
    return int(raw) if raw.isdigit() and len(raw) < 20 else None
