"""Text: items about which things are said that are said about what the user took.

score(i) = max(0, cosine of v_i - mean and the user's taste), with v_i the item's vector and mean that of all items: uncentred,
texts are all alike and only popular items are found. `models.taste` says what a taste is.

Candidates come from an outside vector search (`Query.near`) or else from comparing the taste with the `text_scan` vectors that
changed last. Either way the score is worked out here, so that both answer alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import kernel
from models.rows import Array
from models.sources.base import Family, Found, Grounds, Query, Source, State, allowed, push, settle, whole
from models.taste import taste
from models.vectors import Vectors


@kernel
def _select(
    candidates: Array, cosine: Array, open_items: Array, seen: Array, stamp: int, keys: Array, k: int, items: Array, scores: Array
) -> int:  # fmt: skip
    m = 0
    for x in range(len(candidates)):
        if cosine[x] > 0.0 and allowed(candidates[x], open_items, seen, stamp):
            m = push(items, scores, keys, m, k, candidates[x], cosine[x])
    settle(items, scores, keys, m)
    return m


class Text(Source):
    """See the module. Learns nothing by itself: vectors come with `ItemVector`."""

    name = "text"
    family = Family.TEXT
    scratch = ("_taste",)

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.vectors = state.vectors
        self._taste: npt.NDArray[np.float32] | None = None

    def find(self, query: Query, found: Found) -> int:
        self._taste = taste(query.profile, self.vectors, self.config.text_items, self.config.text_decay)
        if self._taste is None:
            return 0
        rows = self._near_rows(query.near) if query.near is not None else self._newest_rows()
        if not len(rows):
            return 0
        cosine = centred_cosine(self.vectors, rows, self._taste)
        return _select(
            self.vectors.item_of[rows], cosine, query.open, query.seen, query.stamp, self.history.items.keys, query.k,
            found.items, found.scores,
        )  # fmt: skip

    def _near_rows(self, near: object) -> npt.NDArray[np.int64]:
        """Rows of the items that an outside search has found; those that are unknown here are left out."""
        assert isinstance(near, list | tuple)
        items = {self.history.items.get(item_id) for item_id, _ in near}
        return np.array([self.vectors.row_of[i] for i in items if i >= 0 and self.vectors.has(i)], np.int64)

    def _newest_rows(self) -> npt.NDArray[np.int64]:
        if self.vectors.count <= self.config.text_scan:
            return np.arange(self.vectors.count)
        return self.vectors.row_of[self.vectors.newest(self.config.text_scan)].astype(np.int64)

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        out[:] = 0.0
        if self._taste is None:
            return
        rows = self.vectors.rows_of(items)
        has = np.flatnonzero(rows >= 0)
        out[has] = np.maximum(centred_cosine(self.vectors, rows[has], self._taste), 0.0)

    def evidence(self, query: Query, items: npt.NDArray[np.int32]) -> Grounds:
        """For each item, the item of the profile whose text is nearest, and what was said about the recommended one."""
        newest = query.profile["item"][-self.config.text_items :]
        own = newest[self.vectors.rows_of(newest) >= 0]
        rows = self.vectors.rows_of
        cosine = centred_units(self.vectors, rows(items)) @ centred_units(self.vectors, rows(own)).T
        nearest = own[np.argmax(cosine, axis=1)].astype(np.int32)
        said: list[list[str | None]] = [[self.vectors.snippets.get(int(i))] for i in items]
        return Grounds("said_alike", whole(len(items)), item=nearest.reshape(-1, 1), text=said)


def centred_units(vectors: Vectors, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(v - mean) of the vectors at `rows`, of length 1: (len(rows), dim). Zeros where a row is negative: there is no vector."""
    if not vectors.dim:
        return np.zeros((len(rows), 1), np.float32)
    centred = vectors.matrix[rows] - vectors.mean()
    centred[rows < 0] = 0.0
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    unit: npt.NDArray[np.float32] = centred / np.maximum(norms, 1e-6)[:, None]
    return unit


def centred_cosine(
    vectors: Vectors, rows: npt.NDArray[np.int64], direction: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Cosine of (v - mean) and a unit vector for the vectors at `rows`: (len(rows),). By |v - mean|^2 = 1 - 2 v.mean + |mean|^2
    the matrix is read once and not copied."""
    mean = vectors.mean()
    block = vectors.matrix[: vectors.count] if len(rows) == vectors.count else vectors.matrix[rows]
    dots = (block @ np.stack((direction, mean), axis=1)).astype(np.float64)
    if len(rows) == vectors.count:
        dots = dots[rows]
    norms = np.sqrt(np.maximum(1.0 - 2.0 * dots[:, 1] + float(mean @ mean), 0.0))
    return np.where(norms > 1e-6, (dots[:, 0] - float(mean @ direction)) / np.maximum(norms, 1e-6), 0.0)
