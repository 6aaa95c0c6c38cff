"""The papers' neighbourhood systems as they are written down: UserCF, ItemCF, T-UserCF and T-ItemCF, for several K at once.

They are the yardstick, not the product: matrices over everything that has happened, similarities recomputed for every list, no
recency, no fusion. With n_i the people of item i, n_u the items of user u and n_ij, n_uv what they have in common,

    cf(i, j) = n_ij / sqrt(n_i n_j),    cf(u, v) = n_uv / sqrt(n_u n_v)                        (cosine of sets)
    w = (1 - a) cf + a max(0, cos(text))                                                       (a = 0 without text)
    UserCF: score(i) = sum of w(u, v) over the K users most like u who have i                  (Sarwar et al. 2000)
    ItemCF: score(i) = sum of w(i, j) over the items j of u that have i among their K nearest  (Deshpande & Karypis 2004)

The text of a user (an item) is the mean of the vectors of their (its) reviews, less the mean of all reviews. Every event counts
as having the item, whatever its rating; events that retract others are not taken in. What scores 0 follows by popularity, and
of equals the one that came first into the log is first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.evaluation.prequential import Query
from models.events import Event, Item, ItemVector, ReviewVector
from models.rating_neighbours.texts import Means
from models.rows import grown

Vector = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
_Matrix = npt.NDArray[Any]

MOST_CELLS: Final = 100_000_000
"""Cells needed of the matrix of users and items (4 bytes each), and of the one of items and items (2 bytes each). Both
double when they grow, so that up to four times as many may be set aside."""
_POPULAR: Final = 1e-6
_FIRST: Final = 1e-13
"""Ties: small enough to change the order of nothing else."""


class TooLargeError(ValueError):
    """The log is too large for matrices."""


class System(Struct, frozen=True):
    """Whose neighbours, and whether words count."""

    name: str
    side: Literal["users", "items"]
    text: bool = False


USER_CF: Final = System("UserCF", "users")
ITEM_CF: Final = System("ItemCF", "items")
SYSTEMS: Final = (USER_CF, System("T-UserCF", "users", text=True), ITEM_CF, System("T-ItemCF", "items", text=True))


class NeighbourLists:
    """A `Subject` (see `prequential`) with one list for each system and K, named as by `label`."""

    def __init__(
        self,
        systems: Iterable[System] = SYSTEMS,
        ks: Sequence[int | None] = (None,),
        *,
        text_share: float = 0.2,
        text: Callable[[Event], Vector | None] | None = None,
        repeats: bool = False,
        most_cells: int = MOST_CELLS,
    ) -> None:
        """`ks`: numbers of neighbours, None for all; `text`: the unit vector of an event's words (without it: no T- systems);
        `repeats`: own items may be listed."""
        self.systems = tuple(system for system in systems if text is not None or not system.text)
        self.ks = tuple(ks)
        self.text_share, self.repeats, self.most_cells = text_share, repeats, most_cells
        self._text = text
        sides = {system.side for system in self.systems}
        self._by_users, self._by_items = "users" in sides, "items" in sides
        self._widest = max((k for k in self.ks if k is not None), default=0)
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._names: list[str] = []
        self._own: list[list[int]] = []
        self._takers: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._taken: npt.NDArray[np.float32] = np.zeros((16, 16), np.float32)
        self._together: npt.NDArray[np.uint16] = np.zeros((16, 16), np.uint16)
        self._user_texts, self._item_texts = Means(1_000_000), Means(1_000_000)

    # -------------------------------------------------------------------------------------------- learning
    def learn(self, event: Event | Item | ItemVector | ReviewVector) -> None:
        """Somebody has an item now. TooLargeError where the matrices would not fit."""
        if isinstance(event, Item | ItemVector | ReviewVector) or event.retracts:
            return
        u = self._users.setdefault(event.user_id, len(self._users))
        i = self._items.setdefault(event.item_id, len(self._items))
        self._fit(u, i, event.item_id)
        own = self._own[u]
        if i not in own:
            if self._by_items:
                self._together[i, own] += 1
                self._together[own, i] += 1
            if self._by_users:
                self._taken[u, i] = 1.0
            own.append(i)
            self._takers[i] += 1
        vector = self._text(event) if self._text is not None else None
        if vector is not None:
            self._user_texts.add(u, vector)
            self._item_texts.add(i, vector)

    def _fit(self, u: int, i: int, item_id: str) -> None:
        if u == len(self._own):
            self._own.append([])
        if i < len(self._names) and (not self._by_users or u < len(self._taken)):
            return
        if i == len(self._names):
            self._names.append(item_id)
        self._takers = grown(self._takers, i + 1)
        if self._by_items:
            self._together = self._square(self._together, i + 1, i + 1)
        if self._by_users:
            self._taken = self._square(self._taken, u + 1, len(self._names))

    def _square(self, matrix: _Matrix, rows: int, columns: int) -> _Matrix:
        """The matrix with at least so many rows and columns, doubled where it must grow."""
        if rows <= matrix.shape[0] and columns <= matrix.shape[1]:
            return matrix
        if rows * columns > self.most_cells:
            raise TooLargeError(
                f"{len(self._own):,} users and {len(self._names):,} items make a matrix of more than {self.most_cells:,} cells: "
                "plain neighbourhoods are for small logs (--limit takes the beginning)"
            )
        height, width = matrix.shape
        shape = (max(rows, 2 * height if rows > height else height), max(columns, 2 * width if columns > width else width))
        wider: _Matrix = np.zeros(shape, matrix.dtype)
        wider[:height, :width] = matrix
        return wider

    # -------------------------------------------------------------------------------------------- asking
    def lists(self, query: Query, n: int) -> Mapping[str, Sequence[str]]:
        count = len(self._names)
        user = self._users.get(query.user_id)
        own = self._own[user] if user is not None else []
        popular = _POPULAR * self._takers[:count] / (1.0 + self._takers[:count].max(initial=0)) - _FIRST * np.arange(count)
        if not self.repeats:
            popular[own] = -1.0
        found: dict[str, Sequence[str]] = {}
        for system in self.systems:
            scores = self._scores(system, user, own) if own and user is not None else [np.zeros(count)] * len(self.ks)
            for k, score in zip(self.ks, scores, strict=True):
                found[label(system, k)] = self._best(np.where(popular < 0, -1.0, score + popular) if own else popular, n)
        return found

    def predict(self, user_id: str, item_id: str) -> float | None:
        """No ratings here: see `rating_study`."""
        return None

    def _best(self, scores: Floats, n: int) -> list[str]:
        if n < len(scores):
            top = np.argpartition(-scores, n - 1)[:n]
            top = top[np.argsort(-scores[top], kind="stable")]
        else:
            top = np.argsort(-scores, kind="stable")
        return [self._names[i] for i in top.tolist() if scores[i] > -0.5]

    def _scores(self, system: System, user: int, own: list[int]) -> list[Floats]:
        """One array of scores of all items for each K."""
        share = self.text_share if system.text else 0.0
        return self._by_user(user, own, share) if system.side == "users" else self._by_item(own, share)

    def _by_user(self, user: int, own: list[int], share: float) -> list[Floats]:
        users, items = len(self._own), len(self._names)
        taken = self._taken[:users, :items]
        sizes = np.array([len(others) for others in self._own], np.float64)
        w = (1.0 - share) * (taken[:, own].sum(axis=1) / np.sqrt(np.maximum(sizes, 1.0) * len(own)))
        if share:
            w += share * np.maximum(self._user_texts.cosines(user, np.arange(users, dtype=np.int32)), 0.0)
        w[user] = 0.0
        near = _nearest(w[None], self._widest or users)[0]
        out = []
        for k in self.ks:
            chosen = near[:k] if k is not None else np.arange(users)
            out.append(np.asarray(w[chosen] @ taken[chosen], np.float64))
        return out

    def _by_item(self, own: list[int], share: float) -> list[Floats]:
        items = len(self._names)
        takers = self._takers[:items].astype(np.float64)
        if not share and not self._widest:  # all neighbours: a product of a vector and a matrix
            root = 1.0 / np.sqrt(takers)
            return [(root[own] @ self._together[own, :items]) * root] * len(self.ks)
        w = (1.0 - share) * (self._together[own, :items] / np.sqrt(takers[own][:, None] * takers))
        if share:
            everything = np.arange(items, dtype=np.int32)
            w += share * np.maximum([self._item_texts.cosines(j, everything) for j in own], 0.0)
        w[np.arange(len(own)), own] = 0.0
        near = _nearest(w, self._widest) if self._widest else np.zeros((len(own), 0), np.intp)
        weights = np.take_along_axis(w, near, axis=1)
        out: list[Floats] = []
        for k in self.ks:
            some = np.bincount(near[:, :k].ravel(), weights[:, :k].ravel(), minlength=items).astype(np.float64)
            out.append(some if k is not None else w.sum(axis=0))
        return out


def label(system: System, k: int | None) -> str:
    """The name of a system's list with K neighbours."""
    return f"{system.name} K={'all' if k is None else k}"


def _nearest(w: Floats, k: int) -> npt.NDArray[np.intp]:
    """Columns of the k largest of each row, the largest first; of equal ones the first column."""
    k = min(k, w.shape[1])
    ordered = w - _FIRST * np.arange(w.shape[1])
    top = np.argpartition(-ordered, k - 1, axis=1)[:, :k] if k < w.shape[1] else np.broadcast_to(np.arange(k), w.shape)
    by_value = np.argsort(-np.take_along_axis(ordered, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, by_value, axis=1)
