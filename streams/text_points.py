"""What the text memory holds: reviews, items, retractions and whom it must forget, their ids and how they look in Qdrant.

Ids are uuid5 of item and source id, or of a person and a partition. The item is part of a review's id, so that everything about
an item (its reviews, retractions, mean) is decided by the lines of its own partition, whose reader is the only writer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Tags = tuple[int, ...] | None  # see `text_authors`; None: too many to list

TEXT_CHARS: Final = 500  # of a review or description kept in its point: enough for evidence, the log has the whole
SNIPPET_CHARS: Final = 120  # of the newest review, published with the item's vector
MEAN: Final = "mean"
DESCRIPTION: Final = "description"
_NAMESPACE: Final = UUID("6a3b0d0e-53a4-5a0f-9d55-6f1f3a1f4c11")


class Position(NamedTuple):
    """Where a line stands in `item-texts`."""

    partition: int
    offset: int

    def covers(self, other: Position) -> bool:
        """Whether `other` is in the same partition and not behind this one."""
        return self.partition == other.partition and self.offset >= other.offset


def review_id(item_id: str, source_id: str) -> str:
    return str(uuid5(_NAMESPACE, f"review\0{item_id}\0{source_id}"))


def forgotten_id(partition: int, user_id: str) -> str:
    return str(uuid5(_NAMESPACE, f"forgotten\0{partition}\0{user_id}"))


def item_point_id(item_id: str) -> str:
    return str(uuid5(_NAMESPACE, f"item\0{item_id}"))


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def shorten(text: str, limit: int) -> str:
    """`text` on one line, at most `limit` characters, cut between words where there is a gap."""
    line = " ".join(text[: 4 * limit].split())
    if len(line) <= limit:
        return line
    cut = line[: limit - 1]
    head, gap, _ = cut.rpartition(" ")
    return (head if gap and len(head) > limit // 2 else cut) + "…"


@dataclass(frozen=True, slots=True, eq=False)
class ReviewPoint:
    """One review. `counted`: it has words, so it can be part of the item's mean; a bare rating is evidence only."""

    item_id: str
    source_id: str  # the review's event id
    user_id: str
    rating: float | None
    timestamp_ms: int
    text: str  # at most TEXT_CHARS
    counted: bool
    position: Position
    vector: Vector  # (dim,), unit length

    @property
    def id(self) -> str:
        return review_id(self.item_id, self.source_id)

    @property
    def newest(self) -> Newest:
        return Newest(self.timestamp_ms, self.position.offset, self.id, shorten(self.text, SNIPPET_CHARS))

    def payload(self) -> dict[str, Any]:
        return {
            "item_id": self.item_id, "source_id": self.source_id, "user_id": self.user_id, "rating": self.rating,
            "timestamp_ms": self.timestamp_ms, "text": self.text, "counted": self.counted,
            "partition": self.position.partition, "offset": self.position.offset,
        }  # fmt: skip

    @classmethod
    def of(cls, payload: dict[str, Any], vector: list[float]) -> ReviewPoint:
        return cls(
            payload["item_id"], payload["source_id"], payload["user_id"], payload["rating"], payload["timestamp_ms"],
            payload["text"], payload["counted"], Position(payload["partition"], payload["offset"]),
            np.asarray(vector, np.float32),
        )  # fmt: skip


class Newest(NamedTuple):
    """The newest review of an item that has words; the order of the tuple is the order of newness."""

    timestamp_ms: int
    offset: int
    review: str  # its point id
    snippet: str


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """What the catalogue says of an item."""

    digest: str  # of the whole text: an unchanged one is not embedded again
    text: str  # at most TEXT_CHARS
    vector: Vector


@dataclass(frozen=True, slots=True, eq=False)
class ItemPoint:
    """An item: the mean of the unit vectors of its description and of one counted review of each account, the last.

    It is kept as direction, length and number:

    `vector * norm * texts` is their sum, so one more or one less is exact up to float32 (relative 6e-8 a step).
    `norm` 0: the texts cancel each other, the mean has no direction and `vector` is only a place-holder.
    """

    item_id: str
    texts: int  # how many the mean is over, at least 1
    norm: float  # length of the mean, 0..1
    vector: Vector  # (dim,), unit length
    position: Position  # the last line that changed it: it and everything before are in the mean
    newest: Newest | None = None
    description: Description | None = None
    tags: Tags = ()  # of the accounts whose reviews are in the mean

    @property
    def id(self) -> str:
        return item_point_id(self.item_id)

    def total(self) -> NDArray[np.float64]:
        """(dim,): the sum of the texts' vectors."""
        return self.vector.astype(np.float64) * (self.norm * self.texts)

    def vectors(self) -> dict[str, list[float]]:
        named = {MEAN: self.vector.tolist()}
        if self.description is not None:
            named[DESCRIPTION] = self.description.vector.tolist()
        return named

    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "item_id": self.item_id, "n": self.texts, "norm": self.norm,
            "partition": self.position.partition, "offset": self.position.offset,
            "tags": list(self.tags) if self.tags is not None else None,
        }  # fmt: skip
        if self.newest is not None:
            payload["newest"] = list(self.newest)
        if self.description is not None:
            payload["description"] = {"digest": self.description.digest, "text": self.description.text}
        return payload

    @classmethod
    def of(cls, payload: dict[str, Any], vectors: dict[str, list[float]]) -> ItemPoint:
        described, newest = payload.get("description"), payload.get("newest")
        description, tags = None, payload["tags"]
        if described is not None:
            description = Description(described["digest"], described["text"], np.asarray(vectors[DESCRIPTION], np.float32))
        return cls(
            payload["item_id"], payload["n"], payload["norm"], np.asarray(vectors[MEAN], np.float32),
            Position(payload["partition"], payload["offset"]), Newest(*newest) if newest else None, description,
            tuple(tags) if tags is not None else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retraction:
    """A review that was taken back, or must not come back: as long as this is there, a redelivered copy changes nothing.

    Holds no person and no text; the id is the review's point id, which is a hash.
    """

    id: str
    item_id: str
    position: Position  # of the line that first took it back

    def payload(self) -> dict[str, Any]:
        return {"item_id": self.item_id, "partition": self.position.partition, "offset": self.position.offset}

    @classmethod
    def of(cls, point_id: str, payload: dict[str, Any]) -> Retraction:
        return cls(point_id, payload["item_id"], Position(payload["partition"], payload["offset"]))


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a person has said until `until_ms` (event time) in one partition of `item-texts` stays away, even if it comes late.

    Holds no person; the id is a hash.
    """

    id: str
    until_ms: int

    def payload(self) -> dict[str, Any]:
        return {"until_ms": self.until_ms}

    @classmethod
    def of(cls, point_id: str, payload: dict[str, Any]) -> Forgotten:
        return cls(point_id, payload["until_ms"])
