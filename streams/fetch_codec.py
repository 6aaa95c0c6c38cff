"""What Kafka and its client say to each other in a fetch, a partition at a time instead of a field at a time.

aiokafka writes and reads each field of a message in Python: with 30 partitions 250 calls to ask, and 300 to read an answer that
says of most of them that there is nothing new; a worker asks hundreds of times a second. Here the fixed fields of a partition are
one `struct`, which takes a quarter of the time. What goes over the wire is the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

from aiokafka.protocol import fetch
from aiokafka.protocol.types import Array, Bytes, Int16, Int32, Int64, Schema, String

_COUNT: Final = struct.Struct(">i")
_SIZE: Final = struct.Struct(">h")
_ASKED: Final = struct.Struct(">iiqqi")
_HEAD: Final = struct.Struct(">ihqqqi")
_ABORTED: Final = struct.Struct(">qq")
_TAIL: Final = struct.Struct(">ii")

Asked = tuple[int, int, int, int, int]
"""Partition, leader epoch, offset to fetch from, start of the log, most bytes."""
Found = tuple[int, int, int, int, int, list[tuple[int, int]] | None, int, bytes | None]
"""Partition, error code, high watermark, last stable offset, start of the log, aborted transactions (producer, first offset),
preferred replica, records."""


class AskedTopics:
    """Topics of a request, each with its partitions."""

    fields = (Int32, Int32, Int64, Int64, Int32)

    def encode(self, topics: Sequence[tuple[str, Sequence[Asked]]]) -> bytes:
        """As `Array.encode`."""
        parts = [_COUNT.pack(len(topics))]
        for name, partitions in topics:
            raw = name.encode()
            parts += (_SIZE.pack(len(raw)), raw, _COUNT.pack(len(partitions)))
            parts += [_ASKED.pack(*asked) for asked in partitions]
        return b"".join(parts)

    def repr(self, value: Any) -> str:
        """For aiokafka's debug log."""
        return repr(value)


class FoundTopics:
    """Topics of an answer, each with its partitions."""

    fields = (Int32, Int16, Int64, Int64, Int64, Array(("producer_id", Int64), ("first_offset", Int64)), Int32, Bytes)

    def decode(self, data: BytesIO) -> list[tuple[str, list[Found]]]:
        """As `Array.decode`. ValueError where the answer ends too soon."""
        raw = data.getvalue()
        try:
            topics, end = _topics(raw, data.tell())
        except struct.error as problem:
            raise ValueError(f"an answer of Kafka's ends too soon: {problem}") from None
        if end > len(raw):
            raise ValueError(f"an answer of Kafka's ends after {len(raw)} of {end} bytes")
        data.seek(end)
        return topics

    def repr(self, value: Any) -> str:
        """For aiokafka's debug log."""
        return repr(value)


def _topics(raw: bytes, at: int) -> tuple[list[tuple[str, list[Found]]], int]:
    """The topics that begin at a place, and where they end."""
    topics: list[tuple[str, list[Found]]] = []
    (count,) = _COUNT.unpack_from(raw, at)
    at += _COUNT.size
    for _ in range(count):
        (size,) = _SIZE.unpack_from(raw, at)
        at += _SIZE.size
        name = raw[at : at + size].decode()
        found, at = _partitions(raw, at + size)
        topics.append((name, found))
    return topics, at


def _partitions(raw: bytes, at: int) -> tuple[list[Found], int]:
    """The partitions that begin at a place, and where they end."""
    found: list[Found] = []
    (count,) = _COUNT.unpack_from(raw, at)
    at += _COUNT.size
    for _ in range(count):
        partition, error, highwater, stable, begin, aborts = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        aborted: list[tuple[int, int]] | None = None
        if aborts >= 0:
            aborted = [(producer, first) for producer, first in _ABORTED.iter_unpack(raw[at : at + aborts * _ABORTED.size])]
            at += aborts * _ABORTED.size
        replica, size = _TAIL.unpack_from(raw, at)
        at += _TAIL.size
        found.append((partition, error, highwater, stable, begin, aborted, replica, None if size < 0 else raw[at : at + size]))
        at += max(0, size)
    return found, at


_CODECS: Final = ((fetch.FetchRequest_v11, AskedTopics()), (fetch.FetchResponse_v11, FoundTopics()))


def install() -> None:
    """aiokafka uses these from here on.

    Raises:
        RuntimeError: this aiokafka has messages of another form: its version is not the one in requirements.txt.
    """
    for message, codec in _CODECS:
        message.SCHEMA = _faster(message.SCHEMA, codec, message.__name__)


def _faster(schema: Schema, codec: Any, name: str) -> Schema:
    """The schema with its `topics` read and written by the codec."""
    fields = dict(zip(schema.names, schema.fields, strict=True))
    if fields["topics"] is not codec:
        each = Schema(*((str(k), field) for k, field in enumerate(codec.fields)))
        if _form(fields["topics"]) != _form(
            Array(("topic", String("utf-8")), ("partitions", Array(*zip(each.names, each.fields, strict=True))))
        ):
            raise RuntimeError(
                f"aiokafka's {name} has another form than that of the version in requirements.txt: install that one"
            )
        fields["topics"] = codec
    return Schema(*fields.items())


def _form(field: Any) -> Any:
    """What a field is made of, without names."""
    if isinstance(field, Array):
        return [_form(field.array_of)]
    if isinstance(field, Schema):
        return tuple(_form(part) for part in field.fields)
    return str if isinstance(field, String) else field
