"""Neighbours: what people did next, or nearby, who took what the user took last.

Nearest neighbours over recent users (VMIS-kNN, Kersbergen, Sprangers & Schelter, SIGMOD 2022; STAN, Garg et al., SIGIR 2019;
both here over users instead of sessions). Neighbours are found through the users of the user's newest L items, at most
`item_users` per item, the most recent to come to it:

w(v) = sum over the user's newest L items j that v has of decay^age(j) * log((E + 1) / n_j), over sqrt(min(|profile(v)|, 100) + 5)

with E the events remembered and n_j the users who have j. Of each of the K best neighbours the places of the profile within W of
the match count, the match being the newest of the user's items that v has; at signed distance d from it by

f(d) = exp(-d / s) after it, exp(d / s) / 2 before it;   1 everywhere without a spread s

score(i) = sum over neighbours v that hold i of w(v) f(d(v, i)), divided by n_i^share

Three settings of this see different things: `wide` who is alike, `close` what belongs together, `session` what comes next.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Accumulator, Family, Found, Grounds, Query, Source, State, allowed, clear, push, settle, whole

LONG: Final = 100
"""Profiles longer than this are not held against a neighbour any more."""


class Setting(Struct, frozen=True):
    """How an instance looks for neighbours. `spread` 0: all places within `reach` count alike."""

    name: str
    items: int  # L
    decay: float
    users: int  # K
    reach: int  # W
    spread: float  # s
    share: float


SETTINGS: Final = (
    Setting("neighbours_wide", items=20, decay=0.9, users=100, reach=100, spread=0.0, share=0.3),
    Setting("neighbours_close", items=10, decay=0.7, users=200, reach=40, spread=6.0, share=0.2),
    Setting("neighbours_session", items=5, decay=0.5, users=200, reach=12, spread=2.0, share=0.1),
)


@kernel
def _neighbours(
    profile: Array, user: int, length: int, decay: float, events: int, takers: Array, users: Array, user_rows: Array,
    profile_rows: Array, score: Array, touched: Array, count: Array, match: Array, keys: Array, k: int,
    near: Array, weight: Array,
) -> int:  # fmt: skip
    """The `k` nearest users, the best first, into `near` and `weight`; `match[v]`: the newest of the items that v has as well."""
    clear(score, touched, count)
    n = 0
    age = 1.0
    for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[x].item
        part = age * np.log((events + 1.0) / takers[j]) if takers[j] > 0 else 0.0
        age *= decay
        start = user_rows[j].start
        for c in range(start, start + user_rows[j].size):
            v = users[c]
            if score[v] == 0.0:
                touched[n] = v
                n += 1
                match[v] = j
            score[v] += part
    count[0] = n
    m = 0
    for x in range(n):
        v = touched[x]
        if v != user:
            m = push(near, weight, keys, m, k, v, score[v] / np.sqrt(min(profile_rows[v].size, LONG) + 5.0))
    settle(near, weight, keys, m)
    return m


@kernel
def _add_up(
    profiles: Array, profile_rows: Array, near: Array, weight: Array, match: Array, neighbours: int, fade: Array, flat: bool,
    share: float, takers: Array, score: Array, touched: Array, count: Array, support: Array,
) -> None:  # fmt: skip
    """Scores of all items near the matches. `fade[d]`: f at distance d."""
    n = 0
    reach = len(fade) - 1
    for x in range(neighbours):
        v = near[x]
        start = profile_rows[v].start
        size = profile_rows[v].size
        place = size - 1
        while place > 0 and profiles[start + place].item != match[v]:
            place -= 1
        for q in range(max(0, place - reach), min(size, place + reach + 1)):
            i = profiles[start + q].item
            if score[i] == 0.0:
                touched[n] = i
                n += 1
                support[i] = 0
            if flat:
                score[i] += weight[x]
            elif q >= place:
                score[i] += weight[x] * fade[q - place]
            else:
                score[i] += 0.5 * weight[x] * fade[place - q]
            support[i] += 1
    count[0] = n
    for x in range(n):
        i = touched[x]
        score[i] /= float(takers[i]) ** share


@kernel
def _best(
    score: Array, touched: Array, count: Array, open_items: Array, seen: Array, stamp: int, keys: Array, k: int,
    items: Array, scores: Array,
) -> int:  # fmt: skip
    m = 0
    for x in range(count[0]):
        i = touched[x]
        if allowed(i, open_items, seen, stamp):
            m = push(items, scores, keys, m, k, i, score[i])
    settle(items, scores, keys, m)
    return m


class Neighbours(Source):
    """See the module. Reads histories, counts nothing of its own."""

    name = "neighbours"
    family = Family.COLLABORATIVE
    scratch = ("_fade", "_items", "_users", "_support", "_match", "_near", "_weight")

    def __init__(self, state: State, setting: Setting) -> None:
        super().__init__(state)
        self.name = setting.name
        self.setting = setting
        distances = np.arange(setting.reach + 1)
        self._fade: npt.NDArray[np.float64] = np.exp(-distances / setting.spread) if setting.spread else np.ones(len(distances))
        self._items = Accumulator()
        self._users = Accumulator()
        self._support: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self._match: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self._near: npt.NDArray[np.int32] = np.zeros(setting.users, np.int32)
        self._weight: npt.NDArray[np.float64] = np.zeros(setting.users)

    @classmethod
    def build(cls, state: State) -> list[Source]:
        return [cls(state, setting) for setting in SETTINGS]

    def ensure(self, users: int, items: int) -> None:
        self._items.ensure(items)
        self._users.ensure(users)
        self._support, self._match = grown(self._support, items), grown(self._match, users)

    def find(self, query: Query, found: Found) -> int:
        history, setting, items, users = self.history, self.setting, self._items, self._users
        items.reset()
        if not len(query.profile):
            return 0
        pool, profiles = history.users_of.pool, history.profiles
        neighbours = _neighbours(
            query.profile, query.user, setting.items, setting.decay, history.events, history.takers, pool.data, pool.rows,
            profiles.rows, users.score, users.touched, users.count, self._match, history.users.keys, setting.users,
            self._near, self._weight,
        )  # fmt: skip
        _add_up(
            profiles.data, profiles.rows, self._near, self._weight, self._match, neighbours, self._fade, setting.spread == 0.0,
            setting.share, history.takers, items.score, items.touched, items.count, self._support,
        )  # fmt: skip
        return int(_best(
            items.score, items.touched, items.count, query.open, query.seen, query.stamp, history.items.keys, query.k,
            found.items, found.scores,
        ))  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        self._items.gather(items, out)

    def evidence(self, query: Query, items: npt.NDArray[np.int32]) -> Grounds:
        number = self._support[items].astype(np.int64).reshape(-1, 1)
        return Grounds("similar_sessions", whole(len(items)), number=number)
