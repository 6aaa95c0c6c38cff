"""The question: who is near this user among the raters of the item, and what near the item has the user rated?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.history import History
from models.rating_neighbours import kernels
from models.rating_neighbours.raters import Raters
from models.rating_neighbours.texts import TextProfiles
from models.rows import Array, grown

UNKNOWN: Final = 3.0
"""The middle of the scale: what is expected before the first rating."""
DIGITS: Final = 12
"""Weights are ranked by so many digits, so that ties do not hang on the order in which sums were made; equal ones by id."""


class Prediction(NamedTuple):
    """Expected ratings, not clipped, for each asked K, and how many neighbours with a weight above 0 there were."""

    values: npt.NDArray[np.float64]
    neighbours: int


class Around:
    """The answers for one user and item. Valid until the next question."""

    def __init__(
        self, owner: Neighbours, user: int, item: int, people: Array, things: Array, means: tuple[float, float, float]
    ) -> None:
        self._owner, self._user, self._item = owner, user, item
        self.people = people
        """Other raters of the item (`kernels.PERSON`)."""
        self.things = things
        """Other items the user has rated (`kernels.THING`)."""
        self.mean, self.user_mean, self.item_mean = means
        """Mean of all opinions; of the user's and of the item's, the mean of all where there are none."""
        self._texts: dict[str, npt.NDArray[np.float64]] = {}

    def user_cf(self, similarity: Literal["cosine", "pearson"], ks: Sequence[int], text_share: float = 0.0) -> Prediction:
        """mean_u + sum w (r_vi - mean_v) / sum |w| over the K most similar raters. Without any: mean_u."""
        people = self.people
        weights = self._weights(people[similarity], people["user"], "users", text_share)
        return centred(self.user_mean, weights, people["rating"] - people["mean"], self._keys("users"), ks)

    def item_cf(self, similarity: Literal["cosine", "adjusted"], ks: Sequence[int], text_share: float = 0.0) -> Prediction:
        """mean_i + sum w (r_uj - mean_j) / sum |w| over the K most similar items the user has rated. Without any: mean_i."""
        things = self.things
        weights = self._weights(things[similarity], things["item"], "items", text_share)
        return centred(self.item_mean, weights, things["rating"] - things["mean"], self._keys("items"), ks)

    def _weights(
        self, similar: npt.NDArray[np.float64], indices: npt.NDArray[np.int32], side: Literal["users", "items"], share: float
    ) -> npt.NDArray[np.float64]:
        """w = (1 - a) cf + a cos(text)."""
        if share == 0.0 or self._owner.texts is None:
            return similar
        if side not in self._texts:
            profiles = self._owner.texts
            means, own = (profiles.users, self._user) if side == "users" else (profiles.items, self._item)
            self._texts[side] = means.cosines(own, indices)
        return (1.0 - share) * similar + share * self._texts[side]

    def _keys(self, side: Literal["users", "items"]) -> npt.NDArray[np.uint64]:
        history = self._owner.history
        ids, indices = (history.users, self.people["user"]) if side == "users" else (history.items, self.things["item"])
        keys: npt.NDArray[np.uint64] = ids.keys[indices]
        return keys


class Neighbours:
    """Answers from the windows. Holds scratch only: one cell per item and a few per event of a window and rater of an item."""

    def __init__(self, history: History, raters: Raters, texts: TextProfiles | None = None) -> None:
        self.history, self.raters, self.texts = history, raters, texts
        self._place: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self._met: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._clock: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        window, crowd = history.config.window_events, history.config.item_raters
        self._own: Array = np.zeros(window, kernels.OPINION)
        self._theirs: Array = np.zeros(window, kernels.OPINION)
        self._sums: Array = np.zeros(window, kernels.SUMS)
        self._people: Array = np.zeros(crowd, kernels.PERSON)
        self._things: Array = np.zeros(window, kernels.THING)

    def around(self, user: int, item: int) -> Around:
        """Look round a user and an item; -1 stands for an unknown one. Changes no state."""
        raters, windows = self.raters, self.history.windows
        span = len(raters.item_count)
        self._place, self._met = grown(self._place, span), grown(self._met, span)
        crowd = raters.row(item) if item >= 0 else np.zeros(0, np.int32)
        others, kept, held, total = kernels.compare(
            windows.data, windows.rows, crowd, user, item, raters.item_sum, raters.item_count, raters.item_squares,
            self._place, self._met, self._clock, self._own, self._theirs, self._sums, self._people, self._things,
        )  # fmt: skip
        mean = raters.total / raters.count / 1000 if raters.count else UNKNOWN
        user_mean = total / held / 1000 if held else mean
        rated = int(raters.item_count[item]) if item >= 0 else 0
        item_mean = int(raters.item_sum[item]) / rated / 1000 if rated else mean
        return Around(self, user, item, self._people[:others], self._things[:kept], (mean, user_mean, item_mean))


def centred(
    base: float,
    weights: npt.NDArray[np.float64],
    deviations: npt.NDArray[np.float64],
    keys: npt.NDArray[np.uint64],
    ks: Sequence[int],
) -> Prediction:
    """base + sum w d / sum w over the K largest weights above 0, for each K. All arrays (n,), `keys` break ties."""
    weights = np.round(weights, DIGITS)
    near = np.flatnonzero(weights > 0)
    if not len(near):
        return Prediction(np.full(len(ks), base), 0)
    order = near[np.lexsort((keys[near], -weights[near]))][: max(ks)]
    weight = np.cumsum(weights[order])
    pull = np.cumsum(weights[order] * deviations[order])
    last = np.minimum(np.asarray(ks), len(order)) - 1
    return Prediction(base + pull[last] / weight[last], len(near))
