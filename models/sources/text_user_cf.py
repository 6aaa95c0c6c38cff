"""T-UserCF: what people are positive about who have the same items, or say the same things.

The papers' blend of collaborative filtering with embeddings of reviews: with s(v) what UserCF says of user v, relative to the
most similar one, and t(v) the cosine of the means of what u and v have written, less the mean of all reviews,

    w(v) = (1 - a) s(v) / max s + a max(0, t(v)),   a = `text_user_share`
    score(i) = sum of w(v) over the K users v with the largest w(v) whose newest M items hold i

Nothing is said where nobody has written anything, or the user has not: then UserCF alone knows. t is compared for the
`text_users` users who wrote last.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import allocating_kernel, kernel
from models.rows import Array, grown
from models.sources.base import (
    Accumulator,
    Family,
    Found,
    Grounds,
    Query,
    Room,
    Source,
    State,
    best_of,
    choose,
    clear,
    gather_first,
)


@kernel
def _meet(
    profile: Array, user: int, length: int, decay: float, users: Array, user_rows: Array, inverse_root: Array,
    profile_rows: Array, score: Array, touched: Array, count: Array,
) -> float:  # fmt: skip
    """What all who share items with the user have in common into `score`, who they are into `touched`; the largest s."""
    clear(score, touched, count)
    n = 0
    age = 1.0
    for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[x].item
        part = age * (profile[x].weight / 256.0) * inverse_root[j]
        age *= decay
        start = user_rows[j].start
        for c in range(start, start + user_rows[j].size):
            v = users[c]
            touched[n] = v
            n += score[v] == 0.0
            score[v] += part
    count[0] = n
    best = 0.0
    for x in range(n):
        v = touched[x]
        if v != user:
            best = max(best, score[v] / np.sqrt(profile_rows[v].size + 1.0))
    return best


@allocating_kernel
def _blend(
    touched: Array, count: int, common: Array, profile_rows: Array, best: float, share: float, places: Array, user_at: Array,
    cosines: Array, alike: Array, user: int, keys: Array, k: int, near: Array, weight: Array,
) -> int:  # fmt: skip
    """The `k` users with the largest w, the best first, into `near` and `weight`. `cosines` are those of the users at `places`;
    `alike` (per user) is all 0 before and after."""
    for x in range(len(places)):
        if user_at[places[x]] >= 0:
            alike[user_at[places[x]]] = max(0.0, cosines[x])
    ids = np.empty(count + len(places) + 1, np.int32)
    values = np.empty(len(ids))
    n = 0
    for x in range(count):
        v = touched[x]
        same = common[v] / np.sqrt(profile_rows[v].size + 1.0) / best if best > 0.0 else 0.0
        ids[n] = v
        values[n] = (1.0 - share) * same + share * alike[v]
        n += (v != user) & (values[n] > 0.0)
    for x in range(len(places)):
        v = user_at[places[x]]
        if v >= 0:
            ids[n] = v
            values[n] = share * alike[v]
            n += (v != user) & (common[v] == 0.0) & (values[n] > 0.0) & (profile_rows[v].size > 0)
            alike[v] = 0.0
    return choose(values[:n], ids[:n], keys, k, near, weight)


@allocating_kernel
def _take_from(
    profiles: Array, profile_rows: Array, near: Array, weight: Array, neighbours: int, taken: int,
    score: Array, touched: Array, count: Array, support: Array, open_items: Array, seen: Array, stamp: int, keys: Array, k: int,
    items: Array, scores: Array,
) -> int:  # fmt: skip
    """The best `k` of what `near` have, each weighing what its user does."""
    n = 0
    for x in range(neighbours):
        start = profile_rows[near[x]].start
        size = profile_rows[near[x]].size
        for c in range(start + max(0, size - taken), start + size):
            i = profiles[c].item
            touched[n] = i
            n += score[i] == 0.0
            support[i] = (support[i] if score[i] != 0.0 else 0) + 1
            score[i] += weight[x]
    count[0] = n
    return best_of(score, touched, n, open_items, seen, stamp, keys, k, items, scores)


class TextUserCF(Source):
    """See the module. Costs nothing where there are no reviews."""

    name = "text_user_cf"
    grounds = Grounds("similar_reviewers", pieces=False, number=True)
    family = Family.TEXT
    scratch = ("_items", "_users", "_support", "_near", "_weight", "_alike", "_asked", "_span")

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.reviewers = state.reviewers
        self._items, self._users = Accumulator(), Accumulator()
        self._support: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self._alike: npt.NDArray[np.float64] = np.zeros(16)
        k = self.config.user_cf_neighbours
        self._near: npt.NDArray[np.int32] = np.zeros(k, np.int32)
        self._weight: npt.NDArray[np.float64] = np.zeros(k)
        self._asked = False
        self._span = 0
        """Users there is to be place for, once somebody has written something."""

    def ensure(self, users: int, items: int) -> None:
        self._items.ensure(items)
        self._support = grown(self._support, items)
        self._span = users

    def find(self, query: Query, found: Found) -> int:
        said = self.reviewers.similar(query.user, self.config.text_users) if self.reviewers.texts else None
        self._asked = said is not None
        if said is None:
            return 0
        history, scratch, config = self.history, self._items, self.config
        scratch.reset()
        neighbours = self._neighbours(query.user, query.profile, *said)
        return int(_take_from(
            history.profiles.data, history.profiles.rows, self._near, self._weight, neighbours, config.user_cf_neighbour_items,
            scratch.score, scratch.touched, scratch.count, self._support, query.open, query.seen, query.stamp,
            history.items.keys, query.k, found.items, found.scores,
        ))  # fmt: skip

    def _neighbours(
        self, user: int, profile: Array, places: npt.NDArray[np.int64], cosines: npt.NDArray[np.float64]
    ) -> int:  # fmt: skip
        history, scratch, pool = self.history, self._users, self.history.users_of.pool
        scratch.ensure(self._span)
        self._alike = grown(self._alike, self._span)
        best = _meet(
            profile, user, self.config.user_cf_items, self.config.user_cf_decay, pool.data, pool.rows, history.inverse_root,
            history.profiles.rows, scratch.score, scratch.touched, scratch.count,
        )  # fmt: skip
        return int(_blend(
            scratch.touched, scratch.count.item(0), scratch.score, history.profiles.rows, best, self.config.text_user_share,
            places, self.reviewers.user_at, cosines, self._alike, user, history.users.keys, len(self._near), self._near,
            self._weight,
        ))  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        if self._asked:
            self._items.gather(items, out)
        else:
            out[:] = 0.0

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        gather_first(self._support, items, room.number)
