"""What lines of `item-texts` do to the text memory: a pure fold from the lines and what is stored to what has to be written.

A review counts if it was said (its first copy holds) and never retracted, in whatever order the two arrive; the newest
description holds. An erasure takes back what the person has said in its partition before it, and keeps out what comes behind it
from a time until the request. So the state is a function of the log alone, however it was cut into batches and however often
its end was replayed:

* An item's point carries the position of the last line that changed it. A line it covers has been applied to the mean.
* A review's point carries the position of its line. There with this very position and not covered by the item: an earlier attempt
  was interrupted between the two writes, and the review still has to join the mean. There with another position: a copy.
* A retraction is remembered. Only points that are in the mean are taken out of it, and only once.
* Of an account's reviews of an item the last one is in the mean (`text_authors`). Which one that was and is follows from the
  positions, of the item before the batch and after it.

The writes that follow have an order that keeps this true at every interruption: retractions, reviews, items, publication, and
only then the deletion of reviews: one that left the mean must be found until it has, and as long as it is found an erasure that
comes again names its item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.events import ItemText, ItemVector
from streams.text_authors import Voice, tagged
from streams.text_points import (
    TEXT_CHARS,
    Description,
    Forgotten,
    ItemPoint,
    Newest,
    Position,
    Retraction,
    ReviewPoint,
    Vector,
    forgotten_id,
    item_point_id,
    review_id,
    shorten,
    text_digest,
)

ERASURE: Final = "erasure"
KINDS: Final = frozenset({"review", "description", "removal", ERASURE})
_NO_DIRECTION: Final = 1e-6  # a mean shorter than this is float noise: the texts cancel each other


class StoreAheadOfLog(RuntimeError):  # noqa: N818  named by what has happened
    """The store has applied positions that this log has not reached: it belongs to another log."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record of `item-texts` and where it stands."""

    position: Position
    text: ItemText

    @property
    def review(self) -> str:
        """The point id of the review this line brings."""
        return review_id(self.text.item_id, self.text.source_id)

    @property
    def retracted(self) -> str | None:
        """The point id of the review this line takes back. A review does not retract itself: that is a copy."""
        said = self.text
        if not said.retracts or (said.kind == "review" and said.retracts == said.source_id):
            return None
        return review_id(said.item_id, said.retracts)

    @property
    def forgotten(self) -> str:
        """The point id of what is remembered of the person's erasure."""
        return forgotten_id(self.position.partition, self.text.user_id or "")

    def erases(self, user_id: str | None, said: Position) -> bool:
        """Whether this erasure takes back what was said there: by the person, before it, in its partition."""
        return user_id == self.text.user_id and said.partition == self.position.partition and said.offset < self.position.offset


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds of everything the lines name."""

    items: Mapping[str, ItemPoint]  # by item id
    reviews: Mapping[str, ReviewPoint]  # by point id
    retractions: Mapping[str, Retraction]  # by the review's point id
    forgotten: Mapping[str, Forgotten] = field(default_factory=dict)  # by its point id


@dataclass(slots=True)
class Changes:
    """What the lines of a batch amount to."""

    items: dict[str, ItemChange] = field(default_factory=dict)  # by item id
    forgotten: dict[str, Forgotten] = field(default_factory=dict)  # by its point id: to be remembered


@dataclass(slots=True)
class ItemChange:
    """What the lines of one item in a batch amount to. Bounded by the batch."""

    item_id: str
    before: ItemPoint | None
    position: Position
    arrivals: dict[str, Line] = field(default_factory=dict)  # by point id: reviews to embed and write
    rejoining: dict[str, ReviewPoint] = field(default_factory=dict)  # written by an interrupted attempt, not in the mean yet
    leaving: dict[str, ReviewPoint] = field(default_factory=dict)  # to be taken out of the mean
    retractions: dict[str, Retraction] = field(default_factory=dict)  # by the review's point id; these points are deleted
    redescribed: bool = False
    description: Line | None = None  # the new one, if `redescribed`; None takes it away
    copies: int = 0  # lines that change nothing

    @property
    def changed(self) -> bool:
        """Whether the item's point changes."""
        return bool(self.arrivals or self.rejoining or self.leaving or self.redescribed)

    @property
    def taken_before(self) -> list[str]:
        """The retracted that the mean had already lost before."""
        return [id for id, retraction in self.retractions.items() if _in_mean(self.before, retraction.position)]

    @property
    def newest_lost(self) -> bool:
        """Whether the newest review is among the retracted, so that the next newest has to be found."""
        newest = self.before.newest if self.before else None
        return newest is not None and newest.review in self.retractions

    def to_embed(self) -> list[Line]:
        """The lines whose texts need vectors."""
        return [*self.arrivals.values(), *([self.description] if self.description else [])]


class Named(NamedTuple):
    """What has to be read before `fold`: point ids, and the users of whom all reviews are needed."""

    items: set[str]
    reviews: set[str]
    forgotten: set[str]
    users: set[str]


def names(lines: Iterable[Line]) -> Named:
    """What the lines name."""
    named = Named(set(), set(), set(), set())
    for line in lines:
        if line.text.kind == ERASURE:
            named.users.add(line.text.user_id or "")
            named.forgotten.add(line.forgotten)
            continue
        named.items.add(item_point_id(line.text.item_id))
        if line.text.kind == "review":
            named.reviews.add(line.review)
            named.forgotten.add(line.forgotten)
        if line.retracted:
            named.reviews.add(line.retracted)
    return named


def fold(lines: Iterable[Line], stored: Stored) -> Changes:
    """Every item that a line names or takes something from, and who is to be forgotten. The kinds are `KINDS`.

    Raises `StoreAheadOfLog`.
    """
    changes = Changes()
    for line in lines:
        if line.text.kind == ERASURE:
            _forget(changes, line, stored)
        else:
            _apply(_of_item(changes, line.text.item_id, line, stored), line, stored, changes.forgotten)
    return changes


def _of_item(changes: Changes, item_id: str, line: Line, stored: Stored) -> ItemChange:
    if item_id not in changes.items:
        changes.items[item_id] = ItemChange(item_id, stored.items.get(item_id), line.position)
    change = changes.items[item_id]
    change.position = line.position
    return change


def _forget(changes: Changes, line: Line, stored: Stored) -> None:
    """Take back what the person has said before this line, in the store or in this batch."""
    known = changes.forgotten.get(line.forgotten) or stored.forgotten.get(line.forgotten)
    until_ms = max(line.text.timestamp_ms, known.until_ms if known else 0)
    changes.forgotten[line.forgotten] = Forgotten(line.forgotten, until_ms)
    for review in stored.reviews.values():
        if line.erases(review.user_id, review.position):
            _retract(_of_item(changes, review.item_id, line, stored), line, review.id, stored)
    for change in [*changes.items.values()]:
        for point in [point for point, said in change.arrivals.items() if line.erases(said.text.user_id, said.position)]:
            _retract(_of_item(changes, change.item_id, line, stored), line, point, stored)


def _apply(change: ItemChange, line: Line, stored: Stored, forgotten: Mapping[str, Forgotten]) -> None:
    covered = change.before is not None and change.before.position.covers(line.position)
    if line.retracted:
        _retract(change, line, line.retracted, stored)
    match line.text.kind:
        case "review" if _is_kept_out(line, forgotten) or _is_kept_out(line, stored.forgotten):
            change.copies += 1
        case "review":
            _add(change, line, covered, stored)
        case "description":
            _describe(change, line if line.text.text.strip() else None, covered)
        case "removal" if not line.retracted:
            _describe(change, None, covered)


def _is_kept_out(line: Line, forgotten: Mapping[str, Forgotten]) -> bool:
    known = forgotten.get(line.forgotten)
    return known is not None and line.text.timestamp_ms <= known.until_ms


def _add(change: ItemChange, line: Line, covered: bool, stored: Stored) -> None:
    point = line.review
    if point in stored.retractions or point in change.retractions or point in change.arrivals or point in change.rejoining:
        change.copies += 1
        return
    there = stored.reviews.get(point)
    if there is None and covered:
        raise StoreAheadOfLog(
            f"the vector store has applied item-texts up to {change.before and change.before.position} for the item "
            f"{change.item_id!r}, but does not know the review at {line.position}: it was filled from another log. Choose "
            "another prefix (FRESHET_QDRANT_PREFIX) or remove the store's data, and let the embedder read item-texts from its "
            "beginning."
        )
    if there is None:
        change.arrivals[point] = line
    elif there.position == line.position and not covered:
        change.rejoining[point] = there
    else:
        change.copies += 1


def _retract(change: ItemChange, line: Line, point: str, stored: Stored) -> None:
    if point in change.retractions:  # the position of the first one decides what was in the mean
        change.copies += 1
        return
    known = stored.retractions.get(point)
    change.retractions[point] = known or Retraction(point, change.item_id, line.position)
    change.arrivals.pop(point, None)
    change.rejoining.pop(point, None)
    there = stored.reviews.get(point)
    if there is None or not _in_mean(change.before, there.position):
        return
    if known is None or not _in_mean(change.before, known.position):  # else it has left already
        change.leaving[point] = there


def _in_mean(item: ItemPoint | None, position: Position) -> bool:
    """Whether the item's mean includes what the line at `position` did. Of another partition: from before the topic got more."""
    return item is not None and (item.position.partition != position.partition or item.position.offset >= position.offset)


def _describe(change: ItemChange, line: Line | None, covered: bool) -> None:
    if change.redescribed:
        current = text_digest(change.description.text.text) if change.description else None
    else:
        described = change.before.description if change.before else None
        current = described.digest if described else None
    wanted = text_digest(line.text.text) if line else None
    if covered or wanted == current:
        change.copies += 1
        return
    change.redescribed, change.description = True, line


# ------------------------------------------------------------------------------------------------ points and records
def review_point(line: Line, vector: Vector) -> ReviewPoint:
    """The point of a review that has arrived. `vector`: (dim,), unit length."""
    said = line.text
    return ReviewPoint(
        item_id=said.item_id,
        source_id=said.source_id,
        user_id=said.user_id or "",
        rating=said.rating,
        timestamp_ms=said.timestamp_ms,
        text=shorten(said.text, TEXT_CHARS),
        counted=bool(said.text.strip()),
        position=line.position,
        vector=vector,
    )


def settle(
    change: ItemChange,
    joining: Sequence[ReviewPoint],
    voices: Sequence[Voice],
    described: Vector | None,
    found: Newest | None,
    dim: int,
) -> ItemPoint | None:
    """The item after the change; None when nothing is said about it any more.

    `joining`: the points of `arrivals` and `rejoining`; `voices`: of the accounts that wrote them and those that are leaving;
    `described`: the vector of `description`, if there is one; `found`: the newest review in the store that is not retracted,
    needed where `newest_lost`.
    """
    before = change.before
    if not change.changed:
        return before
    description = before.description if before else None
    come = [voice.come.vector for voice in voices if voice.come]
    gone = [voice.gone.vector for voice in voices if voice.gone]
    if change.redescribed:
        gone += [description.vector] if description else []
        description = _description(change.description, described)
        come += [description.vector] if description else []
    texts = (before.texts if before else 0) + len(come) - len(gone)
    if texts < 1:
        return None
    total: NDArray[np.float64] = before.total() if before else np.zeros(dim)
    for vector in come:
        total = total + vector
    for vector in gone:
        total = total - vector
    mean, norm = _direction(total, texts)
    newest, tags = _newest(change, joining, found), tagged(before.tags if before else (), voices)
    return ItemPoint(change.item_id, texts, norm, mean, change.position, newest, description, tags)


def _description(line: Line | None, vector: Vector | None) -> Description | None:
    if line is None or vector is None:
        return None
    return Description(text_digest(line.text.text), shorten(line.text.text, TEXT_CHARS), vector)


def _direction(total: NDArray[np.float64], texts: int) -> tuple[Vector, float]:
    """Unit vector and length of the mean; a place-holder and 0 where it has no direction."""
    length = float(np.linalg.norm(total))
    if length <= _NO_DIRECTION * texts:
        holder = np.zeros(len(total), np.float32)
        holder[0] = 1.0
        return holder, 0.0
    return (total / length).astype(np.float32), length / texts


def _newest(change: ItemChange, joining: Sequence[ReviewPoint], found: Newest | None) -> Newest | None:
    kept = change.before.newest if change.before and not change.newest_lost else None
    candidates = [kept, found, *(review.newest for review in joining if review.counted)]
    return max((newest for newest in candidates if newest is not None), default=None)


def item_vector(item_id: str, point: ItemPoint | None, model: str) -> ItemVector:
    """What `item-vectors` says of an item. A mean without direction says as little as no text."""
    if point is None or point.norm == 0.0:
        return ItemVector(item_id=item_id, vector=b"", texts=0, model=model)
    return ItemVector(
        item_id=item_id,
        vector=point.vector.astype("<f4").tobytes(),
        texts=point.texts,
        model=model,
        snippet=point.newest.snippet if point.newest else "",
    )
