"""What people say, as vectors: the mean of each user's reviews, so that people can be alike in their words.

A review's unit vector is kept in integers, one byte a number (see `scale_of`), at most `max_review_vectors` of them, the newest
to come, and of one user no more than `OF_ONE`, so that nobody can write all others out; sums of them are integers too. So a
review that is taken back leaves nothing behind, and neither does a person.
Users are known by id here: reviews are embedded elsewhere, and may come before or after the events they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from models.coarse import Coarse
from models.config import Config
from models.events import ReviewVector
from models.history import Follower, History, Step
from models.interning import key64
from models.kept import Kept, Value
from models.rows import grown

UNASKED: Final = -2
OF_ONE: Final = 64
"""Vectors held of one user; the oldest leaves for another one."""


def scale_of(dim: int) -> float:
    """What 1 is in a vector of small integers: numbers of unit vectors are about 1 / sqrt(dim), and beyond six times that they
    are cut off at 127."""
    return 127.0 / min(1.0, 6.0 / math.sqrt(dim))


class Reviewers(Follower, Kept):
    """See the module. A *place* is a row of `means` (places, dim), one per user who says something; `place_of[user]` is the place
    of a user index, -1 for those who say nothing, `UNASKED` where nobody has looked yet; `user_at[place]` the user index or -1.
    """

    kept = (
        "model", "dim", "scale", "texts", "total", "vectors", "keys", "owners", "rows", "next_row", "places", "ids", "free",
        "sums", "counts", "means", "place_of", "user_at", "displaced",
    )  # fmt: skip
    scratch = ("coarse", "_newest")

    def __init__(self, config: Config, history: History) -> None:
        self.bound, self.history = config.max_review_vectors, history
        self.model: str | None = None
        self.dim = 0
        self.scale = 1.0
        self.texts = 0
        self.displaced = 0
        """Vectors that had to leave for newer ones."""
        self.total: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.vectors: npt.NDArray[np.int8] = np.zeros((0, 0), np.int8)
        self.keys: npt.NDArray[np.uint64] = np.zeros(16, np.uint64)
        self.owners: npt.NDArray[np.int32] = np.full(16, -1, np.int32)
        """Per vector: the place of the user, -1: an empty row."""
        self.rows: dict[int, int] = {}
        """Hash of a review's id -> row of its vector."""
        self.next_row = 0
        self.places: dict[str, int] = {}
        """User id -> place, the last to say something at the end."""
        self.ids: list[str | None] = []
        self.free: list[int] = []
        self.sums: npt.NDArray[np.int32] = np.zeros((0, 0), np.int32)
        self.counts: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.means: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.coarse = Coarse()
        """The means, for comparing one with many."""
        self.place_of: npt.NDArray[np.int32] = np.full(16, UNASKED, np.int32)
        self.user_at: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._newest: dict[int, npt.NDArray[np.int64]] = {}

    # -------------------------------------------------------------------------------------------- the hooks of a follower
    def ensure(self, users: int, items: int) -> None:
        """Make place for so many users."""
        old = len(self.place_of)
        self.place_of = grown(self.place_of, users)
        self.place_of[old:] = UNASKED

    def after(self, step: Step) -> None:
        """The first event of a user: perhaps their words are here already."""
        if self.place_of[step.user] == UNASKED:
            place = self.places.get(self.history.users.name(step.user), -1)
            self.place_of[step.user] = place
            if place >= 0:
                self.user_at[place] = step.user

    def forget_user(self, user: int) -> None:
        """This index will stand for somebody else. What its user has said stays, until it is taken back or `forget` is called."""
        place = self.place_of[user]
        if place >= 0:
            self.user_at[place] = -1
        self.place_of[user] = UNASKED

    # -------------------------------------------------------------------------------------------- learning
    def put(self, entry: ReviewVector) -> bool:
        """Take in the vector of a review. True if something changed; of a review that is known nothing does.

        Raises:
            ValueError: another model's vector, a wrong length, numbers that are not finite or not a direction.
        """
        vector, key = self._vector(entry), key64(entry.event_id)
        if key in self.rows:
            return False
        self._make_room(entry.user_id)
        row = self._row()
        place = self._place(entry.user_id)
        self.vectors[row], self.keys[row], self.owners[row] = vector, key, place
        self.rows[key] = row
        self._add(place, vector, 1)
        return True

    def drop(self, event_id: str) -> bool:
        """The review is taken back. True if its vector was here."""
        row = self.rows.get(key64(event_id))
        if row is None:
            return False
        self._drop(row)
        return True

    def forget(self, user_id: str) -> bool:
        """Drop all of a user's vectors. True if there were any."""
        place = self.places.get(user_id)
        if place is None:
            return False
        for row in np.flatnonzero(self.owners[: len(self.vectors)] == place).tolist():
            self._drop(row)
        return True

    def _make_room(self, user_id: str) -> None:
        """One more vector of the user, who has not more than may be."""
        place = self.places.get(user_id)
        if place is None or self.counts[place] < OF_ONE:
            return
        rows = np.flatnonzero(self.owners[: len(self.vectors)] == place)
        self._drop(int(rows[np.argmin((rows - self.next_row) % self.bound)]))
        self.displaced += 1

    def _row(self) -> int:
        """A row for one more vector; the oldest one leaves when all are in use."""
        row = self.next_row
        self.next_row = (row + 1) % self.bound
        if row >= len(self.vectors):
            self.vectors = grown(self.vectors, row + 1, self.bound)
            old = len(self.keys)
            self.keys, self.owners = grown(self.keys, len(self.vectors)), grown(self.owners, len(self.vectors))
            self.owners[old:] = -1
        if self.owners[row] >= 0:
            self._drop(row)
            self.displaced += 1
        return row

    def _drop(self, row: int) -> None:
        place = int(self.owners[row])
        self.owners[row] = -1
        del self.rows[int(self.keys[row])]
        self._add(place, self.vectors[row], -1)
        if self.counts[place] == 0:
            user_id = self.ids[place]
            assert user_id is not None
            del self.places[user_id]
            self.ids[place] = None
            self.free.append(place)
            if self.user_at[place] >= 0:
                self.place_of[self.user_at[place]] = -1
                self.user_at[place] = -1

    def _place(self, user_id: str) -> int:
        """The user's place, a new one if need be."""
        place = self.places.pop(user_id, None)
        if place is None:
            place = self.free.pop() if self.free else len(self.ids)
            if place == len(self.ids):
                self.ids.append(None)
                self.sums, self.counts = grown(self.sums, place + 1), grown(self.counts, place + 1)
                self.means, self.user_at = grown(self.means, place + 1), grown(self.user_at, place + 1)
            self.ids[place] = user_id
            user = self.history.users.get(user_id)
            self.user_at[place] = user
            if user >= 0:
                self.place_of[user] = place
        self.places[user_id] = place
        return place

    def _add(self, place: int, vector: npt.NDArray[np.int8], sign: int) -> None:
        self.sums[place] += sign * vector.astype(np.int32)
        self.counts[place] += sign
        self.total += sign * vector.astype(np.int64)
        self.texts += sign
        self._newest = {}
        self.means[place] = self.sums[place] / (self.scale * max(1, int(self.counts[place])))
        self.coarse.follow(self.means, place, place + 1)

    def _vector(self, entry: ReviewVector) -> npt.NDArray[np.int8]:
        if self.model is not None and entry.model != self.model:
            raise ValueError(f"a vector of model {entry.model!r} among vectors of {self.model!r}: they cannot be mixed")
        if not entry.vector or len(entry.vector) % 4:
            raise ValueError(f"review {entry.event_id!r}: {len(entry.vector)} bytes are no float32 vector")
        vector = np.frombuffer(entry.vector, "<f4").astype(np.float64)
        if self.dim and len(vector) != self.dim:
            raise ValueError(f"review {entry.event_id!r}: a vector of {len(vector)} numbers among vectors of {self.dim}")
        norm = float(np.sqrt(vector @ vector))
        if not np.isfinite(norm) or norm == 0.0:
            raise ValueError(f"review {entry.event_id!r}: a vector needs finite numbers, not all of them 0")
        if self.model is None:
            self.model, self.dim, self.scale = entry.model, len(vector), scale_of(len(vector))
            self.total = np.zeros(self.dim, np.int64)
            self.vectors = np.zeros((16, self.dim), np.int8)
            self.sums, self.means = np.zeros((16, self.dim), np.int32), np.zeros((16, self.dim), np.float32)
            self.counts = np.zeros(16, np.int32)
            self.user_at = np.full(16, -1, np.int32)
        rounded: npt.NDArray[np.float64] = np.clip(np.rint(vector / norm * self.scale), -127, 127)
        return rounded.astype(np.int8)

    # -------------------------------------------------------------------------------------------- asking
    def similar(self, user: int, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None:
        """Places of the `most` users who were the last to say something, and how alike their words are to the user's: cosine of
        the means of their reviews (theirs in bytes, see `models.coarse`) less the mean of all reviews. None if the user says
        nothing."""
        place = int(self.place_of[user]) if user >= 0 else -1
        if place == UNASKED:  # nothing they did is left, what they said is
            place = self.places.get(self.history.users.name(user), -1)
        if place < 0:
            return None
        common = (self.total / (self.scale * max(1, self.texts))).astype(np.float32)
        own = self.means[place] - common
        length = float(np.sqrt(own @ own))
        if length < 1e-6:
            return None
        places = self._last(most)
        alike = np.empty(len(places))
        self.coarse.along(places, own / np.float32(length), common, alike)
        return places, alike

    def _last(self, most: int) -> npt.NDArray[np.int64]:
        """Places of the `most` users who were the last to say something (all places where there are no more of them)."""
        places = self._newest.get(most)
        if places is None:
            if len(self.places) <= most:
                places = np.arange(len(self.ids))
            else:
                places = np.fromiter(islice(reversed(self.places.values()), most), np.int64)
            self._newest = {most: places}
        return places

    def restore(self, saved: Mapping[str, Value]) -> None:
        super().restore(saved)
        self._newest = {}
        self.coarse = Coarse()
        self.coarse.follow(self.means)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"review_vectors": (self.texts, self.bound)}
