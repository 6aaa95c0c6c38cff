"""One account, one voice in the mean of an item: of its reviews the last one with words counts, by the order of the log.

Whoever writes of an item a hundred times moves its mean no further than whoever does so once. What an account said before comes
back when the later review is taken back, so that the mean stays a function of the reviews that hold.

Who counts already has to be asked of the store, which is slow where it scans (embedded). So an item's point carries a tag of 16
bits for each account that counts: an account without its tag has certainly said nothing yet, and nothing is asked. Many people
share a tag, it goes with the last review of the person, and there are at most `MOST_TAGS` of them in a point; beyond that the
store is asked for everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from streams.text_points import ItemPoint, ReviewPoint, Tags

MOST_TAGS: Final = 256  # 1.5 kB of payload; an account of its item is then taken for a known one by chance once in 256 times


class Voice(NamedTuple):
    """What an account's word on an item was in the mean, and what it is after a change. None: it has none."""

    user_id: str
    before: ReviewPoint | None
    after: ReviewPoint | None

    @property
    def gone(self) -> ReviewPoint | None:
        """What leaves the mean."""
        return None if self.unchanged else self.before

    @property
    def come(self) -> ReviewPoint | None:
        """What joins it."""
        return None if self.unchanged else self.after

    @property
    def unchanged(self) -> bool:
        return self.before is not None and self.after is not None and self.before.id == self.after.id


def tag(user_id: str) -> int:
    """16 bits of the account: enough to tell most strangers from those who count, too few to name anybody."""
    return int.from_bytes(hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).digest()[:2], "big")


def may_count(item: ItemPoint | None, user_id: str) -> bool:
    """Whether a review of the account may be in the item's mean. False is certain."""
    return item is not None and (item.tags is None or tag(user_id) in item.tags)


def last(reviews: Iterable[ReviewPoint]) -> ReviewPoint | None:
    """The one with words that came last, by the order of the log."""
    return max(
        (review for review in reviews if review.counted), key=lambda review: (review.position.offset, review.id), default=None
    )


def tagged(tags: Tags, voices: Iterable[Voice]) -> Tags:
    """The tags after a change. They are as many as accounts that count: one that two share is there twice."""
    if tags is None:
        return None
    left = [*tags]
    for voice in voices:
        if voice.before is not None and voice.after is None:
            left.remove(tag(voice.user_id))
        elif voice.before is None and voice.after is not None:
            left.append(tag(voice.user_id))
    return tuple(sorted(left)) if len(left) <= MOST_TAGS else None
