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

from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Accumulator, Family, Found, Grounds, Query, Source, State, allowed, clear, push, settle, whole


@kernel
def _nearest(
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


@kernel
def _blend(
    touched: Array, count: Array, common: Array, profile_rows: Array, best: float, share: float, alike: Array, users: Array,
    user: int, keys: Array, k: int, near: Array, weight: Array,
) -> int:  # fmt: skip
    """The `k` users with the largest w, the best first, into `near` and `weight`. `alike[v]` is t(v) where it is known, and all 0
    afterwards; `users` are those for whom it is."""
    m = 0
    for x in range(count[0]):
        v = touched[x]
        if v != user:
            same = common[v] / np.sqrt(profile_rows[v].size + 1.0) / best if best > 0.0 else 0.0
            m = push(near, weight, keys, m, k, v, (1.0 - share) * same + share * max(0.0, alike[v]))
    for x in range(len(users)):
        v = users[x]
        if v != user and common[v] == 0.0 and alike[v] > 0.0 and profile_rows[v].size > 0:
            m = push(near, weight, keys, m, k, v, share * alike[v])
        alike[v] = 0.0
    settle(near, weight, keys, m)
    while m > 0 and weight[m - 1] <= 0.0:
        m -= 1
    return m


class TextUserCF(Source):
    """See the module. Costs nothing where there are no reviews."""

    name = "text_user_cf"
    family = Family.TEXT
    scratch = ("_items", "_users", "_support", "_near", "_weight", "_alike", "_asked")

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

    def ensure(self, users: int, items: int) -> None:
        self._items.ensure(items)
        self._users.ensure(users)
        self._support, self._alike = grown(self._support, items), grown(self._alike, users)

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
        self, user: int, profile: Array, places: npt.NDArray[np.int64], alike: npt.NDArray[np.float64]
    ) -> int:  # fmt: skip
        history, scratch, pool = self.history, self._users, self.history.users_of.pool
        count = _nearest(
            profile, user, self.config.user_cf_items, self.config.user_cf_decay, pool.data, pool.rows, history.inverse_root,
            history.profiles.rows, scratch.score, scratch.touched, scratch.count, history.users.keys, len(self._near),
            self._near, self._weight,
        )  # fmt: skip
        best = float(self._weight[0]) if count else 0.0
        users = self.reviewers.user_at[places]
        known = users >= 0
        self._alike[users[known]] = alike[known]
        return int(_blend(
            scratch.touched, scratch.count, scratch.score, history.profiles.rows, best, self.config.text_user_share, self._alike,
            users[known], user, history.users.keys, len(self._near), self._near, self._weight,
        ))  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        if self._asked:
            self._items.gather(items, out)
        else:
            out[:] = 0.0

    def evidence(self, query: Query, items: npt.NDArray[np.int32]) -> Grounds:
        number = self._support[items].astype(np.int64).reshape(-1, 1)
        return Grounds("similar_reviewers", whole(len(items)), number=number)
