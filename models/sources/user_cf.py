"""UserCF: what people with the same items are positive about besides.

Cosine for sets (Breese et al., 1998; the papers' UserCF): sim(u, v) = sum over common items / sqrt(n_u n_v). The user's own side
is recency weighted and common items count less the more people have them:

w(v) = sum over the user's newest L items j that v has of decay^age(j) * weight(j) / sqrt(n_j), divided by sqrt(|profile(v)| + 1)
score(i) = sum of w(v) over the K users v with the largest w(v) whose newest M items hold i

Neighbours are found through the users of the user's items, at most `item_users` (the most recent) per item.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Accumulator, Family, Found, Grounds, Query, Source, State, allowed, clear, push, settle, whole


@kernel
def nearest(
    profile: Array, user: int, length: int, decay: float, users: Array, user_rows: Array, inverse_root: Array,
    profile_rows: Array, score: Array, touched: Array, count: Array, keys: Array, k: int, near: Array, weight: Array,
) -> int:  # fmt: skip
    """The `k` most similar users, the best first, into `near` and `weight`; `score` holds what all of them have in common with
    the user, `touched` who they are."""
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
            if score[v] == 0.0:
                touched[n] = v
                n += 1
            score[v] += part
    count[0] = n
    m = 0
    for x in range(n):
        v = touched[x]
        if v != user:
            m = push(near, weight, keys, m, k, v, score[v] / np.sqrt(profile_rows[v].size + 1.0))
    settle(near, weight, keys, m)
    return m


@kernel
def take_from(
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
            if score[i] == 0.0:
                touched[n] = i
                n += 1
                support[i] = 0
            score[i] += weight[x]
            support[i] += 1
    count[0] = n
    m = 0
    for x in range(n):
        i = touched[x]
        if allowed(i, open_items, seen, stamp):
            m = push(items, scores, keys, m, k, i, score[i])
    settle(items, scores, keys, m)
    return m


class UserCF(Source):
    """See the module."""

    name = "user_cf"
    family = Family.COLLABORATIVE
    scratch = ("_items", "_users", "_support", "_near", "_weight")

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._items = Accumulator()
        self._users = Accumulator()
        self._support: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        k = self.config.user_cf_neighbours
        self._near: npt.NDArray[np.int32] = np.zeros(k, np.int32)
        self._weight: npt.NDArray[np.float64] = np.zeros(k)

    def ensure(self, users: int, items: int) -> None:
        self._items.ensure(items)
        self._users.ensure(users)
        self._support = grown(self._support, items)

    def find(self, query: Query, found: Found) -> int:
        history, scratch = self.history, self._items
        scratch.reset()
        if query.user < 0:
            return 0
        neighbours = self._neighbours(query.user, query.profile)
        return take_from(
            history.profiles.data, history.profiles.rows, self._near, self._weight, neighbours,
            self.config.user_cf_neighbour_items, scratch.score, scratch.touched, scratch.count, self._support,
            query.open, query.seen, query.stamp, history.items.keys, query.k, found.items, found.scores,
        )  # fmt: skip

    def _neighbours(self, user: int, profile: Array) -> int:
        history, scratch, pool = self.history, self._users, self.history.users_of.pool
        return nearest(
            profile, user, self.config.user_cf_items, self.config.user_cf_decay, pool.data, pool.rows, history.inverse_root,
            history.profiles.rows, scratch.score, scratch.touched, scratch.count, history.users.keys, len(self._near),
            self._near, self._weight,
        )  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        self._items.gather(items, out)

    def evidence(self, query: Query, items: npt.NDArray[np.int32]) -> Grounds:
        number = self._support[items].astype(np.int64).reshape(-1, 1)
        return Grounds("similar_users", whole(len(items)), number=number)

    def similar(self, user: int, n: int) -> list[tuple[int, float]]:
        """At most `n` (and at most `user_cf_neighbours`) users most like one: index and w(v), the best first."""
        count = self._neighbours(user, self.history.profile(user))
        return [(int(self._near[x]), float(self._weight[x])) for x in range(min(n, count))]

    def sizes(self) -> dict[str, tuple[int, int]]:
        pool = self.history.users_of.pool
        return {"item_users": (pool.used, pool.max_cells)}
