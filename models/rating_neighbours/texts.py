"""What users write and what is written about items: running means of the vectors of reviews.

Compared by the cosine of the means less what all of them have in common (their common mean): uncentred, every text of a
domain looks like every other, and weights are nearly the same for all neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.history import Follower
from models.rows import grown

Vector = npt.NDArray[np.floating]
NOTHING = 1e-9
"""Means whose lengths multiply to less than this say nothing."""


class Means:
    """Sums of vectors by index in float64, `bound` rows at most (8 bytes * dim each); words of further ones are not kept.

    `centred`: whether the common mean is taken out before comparing.
    """

    def __init__(self, bound: int, *, centred: bool = True) -> None:
        self.bound = bound
        self.centred = centred
        self.left_out = 0
        self._row: dict[int, int] = {}
        self._free: list[int] = []
        self._sums: npt.NDArray[np.float64] = np.zeros((0, 0))
        self._texts: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._total: npt.NDArray[np.float64] = np.zeros(0)
        self._count = 0

    def __len__(self) -> int:
        return len(self._row)

    def add(self, index: int, vector: Vector) -> None:
        """One more text."""
        row = self._row.get(index)
        if row is None:
            if len(self._row) >= self.bound:
                self.left_out += 1
                return
            row = self._row[index] = self._free.pop() if self._free else len(self._row)
            if not self._sums.shape[1]:
                self._sums, self._total = np.zeros((16, len(vector))), np.zeros(len(vector))
            self._sums = grown(self._sums, row + 1, self.bound)
            self._texts = grown(self._texts, row + 1, self.bound)
        self._sums[row] += vector
        self._texts[row] += 1
        self._total += vector
        self._count += 1

    def remove(self, index: int, vector: Vector) -> None:
        """A text that was added is taken back."""
        row = self._row.get(index)
        if row is None:
            return
        if self._texts[row] == 1:
            self.drop(index)
            return
        self._sums[row] -= vector
        self._texts[row] -= 1
        self._total -= vector
        self._count -= 1

    def drop(self, index: int) -> None:
        """All texts of this index are taken back."""
        row = self._row.pop(index, None)
        if row is not None:
            self._total -= self._sums[row]
            self._count -= int(self._texts[row])
            self._sums[row] = 0.0
            self._texts[row] = 0
            self._free.append(row)

    def cosines(self, index: int, others: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Cosine of the means of `index` and each of `others` (n,); 0 where one of them has no texts."""
        out = np.zeros(len(others))
        row = self._row.get(index)
        if row is None or not len(others):
            return out
        rows = np.array([self._row.get(other, -1) for other in others.tolist()], np.int64)
        there = rows >= 0
        centre = self._total / self._count if self.centred else np.zeros_like(self._total)
        mine = self._sums[row] / self._texts[row] - centre
        theirs = self._sums[rows[there]] / self._texts[rows[there], None] - centre
        lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(mine)
        out[there] = np.where(lengths > NOTHING, (theirs @ mine) / np.maximum(lengths, NOTHING), 0.0)
        return out


class TextProfiles(Follower):
    """The words of users and the words about items, by index of the history (a `history.Follower`, to know who is forgotten).

    Vectors are not remembered: who takes a review back (an edit, a deletion, an erasure) gives its vector again.
    """

    def __init__(self, bound: int, *, centred: bool = True) -> None:
        self.users, self.items = Means(bound, centred=centred), Means(bound, centred=centred)

    def add(self, user: int, item: int, vector: Vector) -> None:
        """A review with the given (dim,) unit vector."""
        self.users.add(user, vector)
        self.items.add(item, vector)

    def remove(self, user: int, item: int, vector: Vector) -> None:
        """A review that was added never happened."""
        self.users.remove(user, vector)
        self.items.remove(item, vector)

    def forget_user(self, user: int) -> None:
        """This index will stand for somebody else."""
        self.users.drop(user)

    def forget_item(self, item: int) -> None:
        """This index will stand for another item."""
        self.items.drop(item)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return {"text_users": (len(self.users), self.users.bound), "text_items": (len(self.items), self.items.bound)}
