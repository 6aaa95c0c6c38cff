"""Dead letters there and back: original bytes, reason and origin; always small enough to send; readable whoever wrote them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer

from models.events import Reason, Refusal
from streams.connection import Connection
from streams.dead_letters import DETAIL_CHARS, KEY_BYTES, MAX_BYTES, DeadLetter, dead_letter, iter_dead_letters
from streams.lanes import OutRecord

REFUSAL = Refusal(Reason.INVALID_JSON, "not JSON")


def record(value: bytes | None, key: bytes | None = b"ada", partition: int = 1, offset: int = 42) -> ConsumerRecord:
    sizes = [-1 if part is None else len(part) for part in (key, value)]
    return ConsumerRecord("shop.clicks", partition, offset, 1_000, 1, key, value, None, *sizes, ())


def send(connection: Connection, topic: str, *records: OutRecord) -> None:
    producer = KafkaProducer(**connection.kafka_python())
    for partition, key, value, timestamp_ms, headers in records:
        sent = producer.send(topic, value=value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=headers)
        sent.get(30)
    producer.close()


def test_there_and_back(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=2)
    send(connection, topic, dead_letter(record(b"{broken \xff"), "clicks", REFUSAL, 1_700_000_000_123))
    (letter,) = iter_dead_letters(connection, topic)
    assert letter.timestamp_ms > 0
    assert letter == DeadLetter(
        partition=1,
        offset=0,
        timestamp_ms=letter.timestamp_ms,
        key=b"ada",
        value=b"{broken \xff",
        source_topic="clicks",
        source_partition=1,
        source_offset=42,
        reason="invalid_json",
        detail="not JSON",
        refused_at_ms=1_700_000_000_123,
        truncated=None,
        key_truncated=None,
    )


def test_empty_and_missing_parts_stay_what_they_are(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=1)
    originals = [(b"k", None), (None, b""), (b"", b"v")]
    send(connection, topic, *(dead_letter(record(value, key, 0), "clicks", REFUSAL, 1) for key, value in originals))
    assert [(letter.key, letter.value) for letter in iter_dead_letters(connection, topic)] == originals


def test_the_largest_original_fits_and_says_how_large_it_was(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=1, config={"max.message.bytes": "1000000"})
    huge = bytes(range(256)) * 8_192  # 2 MiB, as a compressed batch may bring it
    refusal = Refusal(Reason.TOO_LARGE, "x" * 10_000)
    send(connection, topic, dead_letter(record(huge, huge, 0), "clicks", refusal, 1))
    (letter,) = iter_dead_letters(connection, topic)
    assert (letter.value, letter.truncated) == (huge[:MAX_BYTES], len(huge))
    assert (letter.key, letter.key_truncated) == (huge[:KEY_BYTES], len(huge))


def test_exactly_the_limit_is_not_cut() -> None:
    _, _, value, _, headers = dead_letter(record(b"x" * 10), "clicks", REFUSAL, 1, max_bytes=10)
    assert value == b"x" * 10
    assert "truncated" not in dict(headers)
    _, _, value, _, headers = dead_letter(record(b"x" * 11), "clicks", REFUSAL, 1, max_bytes=10)
    assert (value, dict(headers)["truncated"]) == (b"x" * 10, b"11")


@given(st.text(max_size=700))
def test_details_are_printable_ascii_and_bounded(detail: str) -> None:
    headers = dict(dead_letter(record(b"v"), "clicks", Refusal(Reason.INVALID_FIELD, detail), 1)[4])
    written = headers["detail"].decode("ascii")
    assert len(written) <= DETAIL_CHARS
    assert all(" " <= character <= "~" for character in written)
    if detail.isascii() and detail.isprintable() and "\\" not in detail:
        assert written == detail[:DETAIL_CHARS]


def test_letters_of_strangers_are_read_too(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=1)
    odd: list[tuple[str, bytes]] = [("source-offset", b"many"), ("source-partition", b"9" * 40), ("reason", b"\xff\x1b[31m")]
    send(connection, topic, (0, None, b"no headers", None, []), (0, None, b"odd headers", None, odd))
    bare, strange = iter_dead_letters(connection, topic)
    assert (bare.source_topic, bare.source_offset, bare.reason, bare.truncated) == (None, None, None, None)
    assert (strange.source_offset, strange.source_partition) == (None, None)
    assert strange.reason is not None
    assert "\x1b" not in strange.reason, "no control sequences on an operator's terminal"


def test_the_newest_are_shown_oldest_first(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=2)
    for n in range(6):
        partition, key, value, _, headers = dead_letter(record(b"%d" % n, partition=n % 2), "clicks", REFUSAL, n)
        send(connection, topic, (partition, key, value, 1_000 + n, headers))
    shown = [letter.value for letter in iter_dead_letters(connection, topic, limit=3)]
    assert shown == [b"3", b"4", b"5"]
    assert [letter.value for letter in iter_dead_letters(connection, topic, limit=100)] == [b"%d" % n for n in range(6)]
    assert list(iter_dead_letters(connection, topic, limit=0)) == []


def test_following_shows_each_new_one_once(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=2)
    send(connection, topic, dead_letter(record(b"old"), "clicks", REFUSAL, 1))
    letters = iter_dead_letters(connection, topic, follow=True, limit=10)
    assert next(letters).value == b"old"
    send(connection, topic, *(dead_letter(record(b"%d" % n, partition=n % 2), "clicks", REFUSAL, 1) for n in range(4)))
    assert sorted(letter.value or b"" for letter in itertools.islice(letters, 4)) == [b"0", b"1", b"2", b"3"]
    letters.close()  # type: ignore[attr-defined]


def test_following_without_a_past_begins_now(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=1)
    send(connection, topic, dead_letter(record(b"old", partition=0), "clicks", REFUSAL, 1))
    letters: Any = iter_dead_letters(connection, topic, follow=True, limit=0)
    seen = threading.Event()

    def speak() -> None:
        while not seen.wait(1.0):  # again and again: when the follower begins to listen is not known
            send(connection, topic, dead_letter(record(b"new", partition=0), "clicks", REFUSAL, 1))

    later = threading.Thread(target=speak)
    later.start()
    try:
        assert next(letters).value == b"new"
    finally:
        seen.set()
        later.join()
    letters.close()


def test_missing_topics_and_negative_limits_are_errors(connection: Connection) -> None:
    for options in ({}, {"limit": 3}, {"limit": 0, "follow": True}):
        with pytest.raises(LookupError, match="no topic never-made"):
            list(iter_dead_letters(connection, "never-made", **options))
    with pytest.raises(ValueError, match="negative"):
        list(iter_dead_letters(connection, "never-made", limit=-1))
