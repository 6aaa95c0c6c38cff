"""What `review-vectors` says after a batch of `item-texts`: what each review of a person says, until it is taken back.

Published again whenever a line names the review, changed or not, so that a publication lost in a crash is made up for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.events import ReviewVector
from streams.text_fold import ItemChange, Line, Stored
from streams.text_points import ReviewPoint


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The review with this event id says nothing any more: a tombstone."""

    event_id: str


def words(
    lines: Sequence[Line], changes: Mapping[str, ItemChange], arrived: Mapping[str, ReviewPoint], stored: Stored, model: str
) -> list[ReviewVector | Withdrawn]:
    """One record for each review that the lines bring or take back (an erasure: all of a person's): what holds after them."""
    said: dict[str, ReviewVector | Withdrawn] = {}
    for change in changes.values():
        for id in change.retractions:  # among them those of people who are forgotten
            if (point := stored.reviews.get(id)) is not None:
                said[point.source_id] = Withdrawn(point.source_id)
    for line in lines:
        text = line.text
        if line.retracted is not None and text.retracts:
            said[text.retracts] = Withdrawn(text.retracts)
        if text.kind != "review":
            continue
        if line.review in changes[text.item_id].retractions or line.review in stored.retractions:
            said[text.source_id] = Withdrawn(text.source_id)
        elif (point := arrived.get(line.review) or stored.reviews.get(line.review)) is not None and point.counted:
            said[text.source_id] = review_vector(point, model)
    return list(said.values())


def review_vector(point: ReviewPoint, model: str) -> ReviewVector:
    """What a review says, as it is published."""
    return ReviewVector(
        event_id=point.source_id, user_id=point.user_id, vector=point.vector.astype("<f4").tobytes(), model=model,
        timestamp_ms=point.timestamp_ms,
    )  # fmt: skip
