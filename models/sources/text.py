"""Text: items about which things are said that are said about what the user took.

score(i) = max(0, cosine of v_i - mean and the user's taste), with v_i the item's vector (in bytes, see `models.coarse`) and mean
that of all items: uncentred, texts are all alike and only popular items are found. `models.taste` says what a taste is.

Candidates come from an outside vector search (`Query.near`) or else from comparing the taste with the `text_scan` vectors that
changed last. Either way the score is worked out here, so that both answer alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.cosines import nearest
from models.kernel import allocating_kernel
from models.rows import Array
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, allowed, choose
from models.taste import taste
from models.vectors import Vectors


@allocating_kernel
def _select(
    item_of: Array, candidates: Array, cosine: Array, open_items: Array, seen: Array, stamp: int, keys: Array, k: int,
    items: Array, scores: Array,
) -> int:  # fmt: skip
    """The best `k` of the candidates that may be recommended and lie on the same side as the taste."""
    n = 0
    held = np.empty(len(candidates), np.int32)
    values = np.empty(len(candidates))
    for x in range(len(candidates)):
        held[n] = item_of[candidates[x]]
        values[n] = cosine[x]
        n += cosine[x] > 0.0 and allowed(held[n], open_items, seen, stamp)
    return int(choose(values[:n], held[:n], keys, k, items, scores))


class Text(Source):
    """See the module. Learns nothing by itself: vectors come with `ItemVector`."""

    name = "text"
    grounds = Grounds("said_alike", pieces=False, item=True, text=True)
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
        near = query.near
        rows = self._near_rows(near) if near is not None else self.vectors.newest(self.config.text_scan)
        if not len(rows):
            return 0
        cosine = np.empty(len(rows))
        self.vectors.along(rows, self._taste, cosine)
        return _select(
            self.vectors.item_of, rows, cosine, query.open, query.seen, query.stamp, self.history.items.keys, query.k,
            found.items, found.scores,
        )  # fmt: skip

    def _near_rows(self, near: object) -> npt.NDArray[np.int64]:
        """Rows of the items that an outside search has found; those that are unknown here are left out."""
        assert isinstance(near, list | tuple)
        items = {self.history.items.get(item_id) for item_id, _ in near}
        return np.array([self.vectors.row_of[i] for i in items if i >= 0 and self.vectors.has(i)], np.int64)

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        out[:] = 0.0
        if self._taste is None:
            return
        self.vectors.along(self.vectors.rows_of(items), self._taste, out)
        np.maximum(out, 0.0, out=out)

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        """For each item, the item of the profile whose text is nearest, and what was said about the recommended one."""
        newest = np.ascontiguousarray(query.profile["item"][-self.config.text_items :])
        rows = self.vectors.rows_of(newest)
        own, owns = newest[rows >= 0], rows[rows >= 0]
        nearest(self.vectors.matrix, self.vectors.rows_of(items), owns, own, self.vectors.mean(), room.item)
        room.text[: len(items), 0] = items

    def said(self, number: int) -> str | None:
        return self.vectors.snippets.get(number)


def centred_units(vectors: Vectors, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(v - mean) of the vectors at `rows`, of length 1: (len(rows), dim). Zeros where a row is negative: there is no vector."""
    if not vectors.dim:
        return np.zeros((len(rows), 1), np.float32)
    centred = vectors.matrix[rows] - vectors.mean()
    centred[rows < 0] = 0.0
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    unit: npt.NDArray[np.float32] = centred / np.maximum(norms, 1e-6)[:, None]
    return unit
