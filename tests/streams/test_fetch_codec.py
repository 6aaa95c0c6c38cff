"""Fetch messages a partition at a time, against aiokafka's own types a field at a time."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import faust
import pytest
from aiokafka.protocol import fetch
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String
from hypothesis import given
from hypothesis import strategies as some

from streams import fetch_codec, transport
from streams.fetch_codec import AskedTopics, FoundTopics

INT16, INT32, INT64 = (some.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (16, 32, 64))
NAMES = some.text(max_size=30)
ASKED = some.lists(some.tuples(NAMES, some.lists(some.tuples(INT32, INT32, INT64, INT64, INT32), max_size=5)), max_size=4)
ABORTED = some.none() | some.lists(some.tuples(INT64, INT64), max_size=3)
FOUND = some.lists(
    some.tuples(
        NAMES,
        some.lists(
            some.tuples(INT32, INT16, INT64, INT64, INT64, ABORTED, INT32, some.none() | some.binary(max_size=100)), max_size=5
        ),
    ),
    max_size=4,
)


def textbook(codec: AskedTopics | FoundTopics) -> Array:
    """The same topics as aiokafka would describe them."""
    partitions = Array(*((str(k), field) for k, field in enumerate(codec.fields)))  # type: ignore[arg-type]
    return Array(("topic", String("utf-8")), ("partitions", partitions))


@given(ASKED)
def test_a_request_is_what_aiokafka_writes(topics: Any) -> None:
    assert AskedTopics().encode(topics) == textbook(AskedTopics()).encode(topics)


@given(FOUND, some.binary(max_size=8))
def test_an_answer_is_what_aiokafka_reads_and_what_follows_is_left(topics: Any, rest: bytes) -> None:
    raw = b"before" + textbook(FoundTopics()).encode(topics) + rest
    for codec in (FoundTopics(), textbook(FoundTopics())):
        behind = BytesIO(raw)
        behind.seek(len(b"before"))
        assert codec.decode(behind) == topics
        assert behind.read() == rest


@given(FOUND)
def test_an_answer_that_ends_too_soon_is_refused(topics: Any) -> None:
    raw = textbook(FoundTopics()).encode(topics)
    for end in range(len(raw)):
        with pytest.raises(ValueError, match=r"ends|utf-8"):
            FoundTopics().decode(BytesIO(raw[:end]))


def test_every_client_of_this_process_uses_it_once_it_is_installed() -> None:
    fetch_codec.install()
    installed = fetch.FetchResponse_v11.SCHEMA
    fetch_codec.install()  # a second time changes nothing
    for message, codec in ((fetch.FetchRequest_v11, AskedTopics), (fetch.FetchResponse_v11, FoundTopics)):
        topics = dict(zip(message.SCHEMA.names, message.SCHEMA.fields, strict=True))["topics"]
        assert isinstance(topics, codec)
    assert fetch.FetchResponse_v11.SCHEMA.names == installed.names == fetch.FetchResponse_v10.SCHEMA.names
    found = [("clicks", [(0, 0, 7, 7, 0, [], -1, b"records")])]
    head = Schema(("throttle_time_ms", Int32), ("error_code", Int16), ("session_id", Int32)).encode([0, 0, 0])
    raw = head + textbook(FoundTopics()).encode(found)
    assert fetch.FetchResponse_v11.decode(raw).topics == found  # type: ignore[attr-defined]


def test_a_worker_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = fetch.FetchResponse_v11.SCHEMA
    plain = Schema(
        *((n, textbook(FoundTopics()) if n == "topics" else f) for n, f in zip(schema.names, schema.fields, strict=True))
    )
    monkeypatch.setattr(fetch.FetchResponse_v11, "SCHEMA", plain)
    transport.install(faust.App("codec", broker="kafka://127.0.0.1:1", topic_disable_leader=True))
    assert any(isinstance(field, FoundTopics) for field in fetch.FetchResponse_v11.SCHEMA.fields)


def test_messages_of_another_form_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="FetchResponse_v4 has another form"):
        fetch_codec._faster(fetch.FetchResponse_v4.SCHEMA, FoundTopics(), "FetchResponse_v4")
