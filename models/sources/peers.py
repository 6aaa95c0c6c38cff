"""Peers: the users who share items with the user, and what they have besides. One walk for all who look for neighbours.

Each source weighs peers in its own way, a *lane* of the walk. They are met through the users of the user's newest L items, at
most `item_users` (the most recent) per item:

    w(v) = norm[|profile(v)|] * sum over the user's newest L items j that v has of decay^age(j) * part(j)

with part(j) = weight(j) / sqrt(n_j), or log((E + 1) / n_j) where a lane goes by rarity (n_j users have j, E events are
remembered). What the K nearest have counts by its distance from the *match*, the newest of the user's items that the peer has:

    score(i) = sum over the K peers v with the largest w(v) that have i of w(v) * fade(d(v, i)), divided by n_i^share

with d the signed distance of the places of i and of the match in v's profile. Those that are as near as the K-th count too, up to
`TIES` K in all: where people share one item and no more, many are equally near, and whom a cut leaves out is chance. Sums are
always made in the same order (the nearest peer first), so that they do not depend on the order in which users came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.history import History
from models.kept import Kept
from models.kernel import kernel
from models.rows import Array, grown
from models.sources.choosing import choose, gather_lane

if TYPE_CHECKING:
    from models.sources.base import Found, Query

LANES: Final = 3
"""The most lanes there can be: sums stand side by side and are added to at once, without a loop (see `_meet` and `_add`)."""
TIES: Final = 2
"""At most so many times K peers count, where they are as near as the K-th."""
_MARK: Final = 16
"""Bits of a count of peers: those of all lanes are one number."""


class Lane:
    """How one source weighs peers and what they have."""

    def __init__(
        self, *, items: int, decay: float, rare: bool, norm: npt.NDArray[np.float64], peers: int,
        fade: npt.NDArray[np.float64] | None = None, newest: int | None = None, share: float = 0.0,
    ) -> None:  # fmt: skip
        self.number = 0
        """Place among the lanes."""
        self.items, self.decay, self.rare = items, decay, rare
        """L, and how a shared item counts."""
        self.norm = norm
        """(window_events + 1,), by the size of the peer's profile."""
        self.peers = peers
        """K, at most 2**15 - 1."""
        self.fade = fade
        """(2 reach + 1,): by distance, from -reach to reach; beyond it nothing counts. None: everything counts alike."""
        self.newest = newest
        """Only so many newest items of a peer count. The same for all lanes that have such a bound."""
        self.share = share


# ------------------------------------------------------------------------------------------------ meeting
@kernel
def _most(profile: Array, length: int, rows: Array) -> int:
    """How many peers there can be."""
    total = 0
    for x in range(max(0, len(profile) - length), len(profile)):
        total += rows[profile[x].item].size
    return total


@kernel
def _meet(
    profile: Array, lengths: Array, decays: Array, rare: Array, events: int, takers: Array, inverse_root: Array,
    data: Array, rows: Array, profile_rows: Array, place_of: Array, users: Array, sizes: Array, match: Array, shared: Array,
    reached: Array, before: int,
) -> int:  # fmt: skip
    """Give every peer a place, in the order in which they are met, and add up what they share in all lanes. Returns their number.

    `reached[lane]` is the number of those that the lane looks at. `place_of[v]` holds for `v` if `users[place_of[v]]` is v, so
    that nothing has to be cleared but the `before` sums of the last time. No branch on whether a peer is new: it could not be
    predicted.
    """
    shared[:before] = 0.0
    reached[:] = 0
    ages = np.ones(LANES)
    parts = np.zeros(LANES)
    n = np.uint64(0)
    for back in range(min(lengths.max(), len(profile))):
        own = profile[len(profile) - 1 - back]
        j = own.item
        rarity = np.log((events + 1.0) / takers[j])
        for lane in range(LANES):
            parts[lane] = 0.0
            if back < lengths[lane]:
                parts[lane] = ages[lane] * (rarity if rare[lane] else own.weight / 256.0 * inverse_root[j])
                ages[lane] *= decays[lane]
        p0, p1, p2 = parts[0], parts[1], parts[2]
        row = data[rows[j].start : rows[j].start + rows[j].size]
        for c in range(len(row)):
            v = np.uint64(row[c])
            users[n] = v
            match[n] = j
            place = np.uint64(place_of[v])
            known = (place < n) & (users[place] == v)
            place = place if known else n
            place_of[v] = place
            shared[place, 0] += p0
            shared[place, 1] += p1
            shared[place, 2] += p2
            n += np.uint64(not known)
        for lane in range(LANES):
            if back < lengths[lane]:
                reached[lane] = n
    for at in range(n):
        sizes[at] = profile_rows[users[at]].size
    return int(n)


@kernel
def _nearest(
    user: int, lane: int, users: Array, sizes: Array, shared: Array, reached: Array, norms: Array, keys: Array, k: int,
    near: Array, weight: Array,
) -> int:  # fmt: skip
    """The `k` nearest peers of a lane and those as near as the last of them, the best first; returns how many."""
    weights = np.empty(reached[lane])
    ids = np.empty(reached[lane], users.dtype)
    n = 0
    for place in range(reached[lane]):
        weights[n] = shared[place, lane] * norms[lane, sizes[place]]
        ids[n] = users[place]
        n += users[place] != user
    found = choose(weights[:n], ids[:n], keys, min(TIES * k, len(near)), near, weight)
    while found > k and weight[found - 1] < weight[k - 1]:
        found -= 1
    return found


@kernel
def _nearest_all(
    user: int, users: Array, sizes: Array, shared: Array, reached: Array, norms: Array, keys: Array, most: Array,
    near: Array, weight: Array, found: Array,
) -> None:  # fmt: skip
    """The nearest peers of each lane into the rows of `near` and `weight`, their numbers into `found`."""
    for lane in range(LANES):
        found[lane] = _nearest(user, lane, users, sizes, shared, reached, norms, keys, most[lane], near[lane], weight[lane])


# ------------------------------------------------------------------------------------------------ what they have
@kernel
def _clear(score: Array, support: Array, touched: Array, count: int) -> None:
    for x in range(count):
        score[touched[x]] = 0.0
        support[touched[x]] = 0


@kernel
def _place(row: Array, item: int) -> int:
    """Where an item stands in a profile that holds it."""
    place = len(row) - 1
    while place > 0 and row[place].item != item:
        place -= 1
    return place


@kernel
def _add(
    row: Array, begin: int, end: int, place: int, fade: Array, within: Array, weights: Array, mask: int,
    score: Array, support: Array, touched: Array, n: int,
) -> int:  # fmt: skip
    """Add the places `begin` to `end` of a peer's profile to the scores of their items. Returns the number of touched items."""
    middle = len(within) // 2
    w0, w1, w2 = weights[0], weights[1], weights[2]
    for q in range(max(0, begin), min(end, len(row))):
        i = np.uint64(row[q].item)
        d = np.uint64(min(max(q - place + middle, 0), 2 * middle))
        touched[np.uint64(n)] = i
        n += support[i] == 0
        support[i] += within[d] & mask
        score[i, 0] += w0 * fade[d, 0]
        score[i, 1] += w1 * fade[d, 1]
        score[i, 2] += w2 * fade[d, 2]
    return n


@kernel
def _add_up(
    profiles: Array, profile_rows: Array, near: Array, found: Array, weight: Array, place_of: Array, match: Array, shared: Array,
    met: int, fade: Array, within: Array, reach: Array, bounded: Array, newest: int, score: Array, support: Array, touched: Array,
) -> int:  # fmt: skip
    """Scores of all items that the nearest have, in all lanes; their number. `shared` becomes the weights of the chosen."""
    shared[:met] = 0.0
    for lane in range(LANES):
        for x in range(found[lane]):
            shared[place_of[near[lane, x]], lane] = weight[lane, x]
    n = 0
    weights = np.zeros(LANES)
    for first in range(LANES):
        for x in range(found[first]):
            v = near[first, x]
            at = place_of[v]
            known = False
            for lane in range(first):
                known |= shared[at, lane] > 0.0  # that lane has been here
            if known:
                continue
            row = profiles[profile_rows[v].start : profile_rows[v].start + profile_rows[v].size]
            place = _place(row, match[at])
            cut = max(0, len(row) - newest)
            for old in range(1 + (cut > 0)):  # what is newer than the bound, then what is older, for lanes without one
                mask = 0
                far = -1
                for lane in range(LANES):
                    weights[lane] = 0.0
                    if shared[at, lane] > 0.0 and not (old and bounded[lane]):
                        weights[lane] = shared[at, lane]
                        mask |= ((1 << _MARK) - 1) << (_MARK * lane)
                        far = max(far, reach[lane])
                begin = max(place - far, 0 if old else cut)
                end = min(place + far + 1, cut if old else len(row))
                n = _add(row, begin, end, place, fade, within, weights, mask, score, support, touched, n)
    return n


@kernel
def _best(
    score: Array, touched: Array, count: int, shares: Array, takers: Array, power: Array, power_of: Array,
    open_items: Array, seen: Array, stamp: int, keys: Array, k: int, items: Array, scores: Array, candidates: Array,
) -> None:  # fmt: skip
    """Divide all scores by n_i^share; `power[i]` are the factors of the lanes where n_i is still `power_of[i]`. The best `k`
    allowed items of each lane into the rows of `items` and `scores`, their numbers into `candidates`."""
    ids = np.empty(count, touched.dtype)
    n = 0
    for x in range(count):
        i = touched[x]
        if power_of[i] != takers[i]:
            power_of[i] = takers[i]
            for lane in range(LANES):
                power[i, lane] = float(takers[i]) ** -shares[lane]
        for lane in range(LANES):
            score[i, lane] *= power[i, lane]
        ids[n] = i
        n += (open_items[i] != 0) & (seen[i] != stamp)
    values = np.empty(n)
    held = np.empty(n, touched.dtype)
    for lane in range(LANES):
        m = 0
        for x in range(n):
            values[m] = score[ids[x], lane]
            held[m] = ids[x]
            m += score[ids[x], lane] > 0.0
        candidates[lane] = choose(values[:m], held[:m], keys, k, items[lane], scores[lane])


@kernel
def _support(support: Array, lane: int, items: Array, out: Array) -> None:
    for x in range(len(items)):
        out[x, 0] = (support[items[x]] >> (_MARK * lane)) & ((1 << _MARK) - 1)


# ------------------------------------------------------------------------------------------------ asking
class Peers(Kept):
    """See the module. All it holds is scratch, overwritten by the next query."""

    scratch = (
        "_lanes", "_stamp", "_place_of", "_score", "_support", "_power", "_power_of", "_touched", "_count", "_items", "_scores",
        "_candidates", "_lengths", "_decays", "_rare", "_shares", "_peers", "_norms", "_near", "_weight", "_found", "_bounded",
        "_newest", "_fade", "_within", "_reach", "_users", "_match", "_sizes", "_shared", "_reached", "_met",
    )  # fmt: skip

    def __init__(self, config: Config, history: History) -> None:
        self.config, self.history = config, history
        self._lanes: list[Lane] = []
        self._stamp = -1
        """Of the query whose scores these are."""
        self._place_of: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self._room(16)
        self._score: npt.NDArray[np.float64] = np.zeros((16, LANES))
        self._support: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        """Per item: the peers that speak for it, a count of `_MARK` bits per lane."""
        self._power: npt.NDArray[np.float64] = np.zeros((16, LANES))
        self._power_of: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._touched: npt.NDArray[np.int32] = np.zeros(17, np.int32)
        self._count = 0
        self._items: npt.NDArray[np.int32] = np.zeros((LANES, 0), np.int32)
        self._scores: npt.NDArray[np.float64] = np.zeros((LANES, 0))
        self._candidates: npt.NDArray[np.int64] = np.zeros(LANES, np.int64)

    def join(self, lane: Lane) -> Lane:
        """Walk for one more source."""
        if len(self._lanes) == LANES:
            raise ValueError(f"{LANES} sources look for peers already: raise LANES in sources/peers.py")
        lane.number = len(self._lanes)
        self._lanes.append(lane)
        self._tabulate()
        return lane

    def _tabulate(self) -> None:
        """What the kernels read of the lanes, side by side."""
        lanes, window = self._lanes, self.config.window_events
        unused = LANES - len(lanes)
        self._lengths = np.array([lane.items for lane in lanes] + [0] * unused)
        self._decays = np.array([lane.decay for lane in lanes] + [0.0] * unused)
        self._rare = np.array([lane.rare for lane in lanes] + [False] * unused)
        self._shares = np.array([lane.share for lane in lanes] + [0.0] * unused)
        self._peers = np.array([lane.peers for lane in lanes] + [0] * unused)
        self._norms = np.stack([lane.norm for lane in lanes] + [np.zeros(window + 1)] * unused)
        self._near: npt.NDArray[np.int32] = np.zeros((LANES, TIES * self._peers.max()), np.int32)
        self._weight: npt.NDArray[np.float64] = np.zeros(self._near.shape)
        self._found: npt.NDArray[np.int64] = np.zeros(LANES, np.int64)
        self._bounded = np.array([lane.newest is not None for lane in lanes] + [False] * unused)
        self._newest = max((lane.newest for lane in lanes if lane.newest is not None), default=window)
        far = max((len(lane.fade) // 2 for lane in lanes if lane.fade is not None), default=0)
        self._fade: npt.NDArray[np.float64] = np.zeros((2 * far + 3, LANES))  # the first and the last row: what is farther
        self._within: npt.NDArray[np.int64] = np.zeros(len(self._fade), np.int64)
        self._reach: npt.NDArray[np.int64] = np.zeros(LANES, np.int64)
        for lane in lanes:
            reach = window if lane.fade is None else len(lane.fade) // 2
            at = slice(max(0, far + 1 - reach), far + 2 + reach)
            self._fade[at, lane.number] = 1.0 if lane.fade is None else lane.fade
            self._within[at] |= 1 << (_MARK * lane.number)
            self._reach[lane.number] = reach

    def _room(self, peers: int) -> None:
        """Make place for so many peers (one more than can be met: a new one is written before it counts)."""
        self._users: npt.NDArray[np.int32] = np.zeros(peers, np.int32)
        self._match: npt.NDArray[np.int32] = np.zeros(peers, np.int32)
        self._sizes: npt.NDArray[np.int32] = np.zeros(peers, np.int32)
        self._shared: npt.NDArray[np.float64] = np.zeros((peers, LANES))
        self._reached: npt.NDArray[np.int64] = np.zeros(LANES, np.int64)
        self._met = 0

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many users and items."""
        self._place_of = grown(self._place_of, users)
        self._score, self._support = grown(self._score, items), grown(self._support, items)
        self._power, self._power_of = grown(self._power, items), grown(self._power_of, items)
        self._touched = grown(self._touched, items + 1)

    def meet(self, user: int, profile: Array) -> None:
        """Find the nearest peers of a user for all lanes."""
        self._stamp = -1
        history, pool = self.history, self.history.users_of.pool
        most = min(_most(profile, self._lengths.max(), pool.rows), len(self._place_of)) + 1
        if most > len(self._users):
            self._room(2 * most)
        self._met = _meet(
            profile, self._lengths, self._decays, self._rare, history.events, history.takers, history.inverse_root,
            pool.data, pool.rows, history.profiles.rows, self._place_of, self._users, self._sizes, self._match, self._shared,
            self._reached, self._met,
        )  # fmt: skip
        _nearest_all(
            user, self._users, self._sizes, self._shared, self._reached, self._norms, history.users.keys, self._peers,
            self._near, self._weight, self._found,
        )  # fmt: skip

    def _ask(self, query: Query) -> None:
        """Scores of all items for a query, in all lanes; the same query is asked once."""
        if query.stamp == self._stamp:
            return
        _clear(self._score, self._support, self._touched, self._count)
        self._count = 0
        if len(query.profile):
            self.meet(query.user, query.profile)
            profiles = self.history.profiles
            self._count = _add_up(
                profiles.data, profiles.rows, self._near, self._found, self._weight, self._place_of, self._match, self._shared,
                self._met, self._fade, self._within, self._reach, self._bounded, self._newest, self._score, self._support,
                self._touched,
            )  # fmt: skip
        if query.k > self._items.shape[1]:
            self._items, self._scores = np.zeros((LANES, query.k), np.int32), np.zeros((LANES, query.k))
        _best(
            self._score, self._touched, self._count, self._shares, self.history.takers, self._power, self._power_of,
            query.open, query.seen, query.stamp, self.history.items.keys, query.k, self._items, self._scores, self._candidates,
        )  # fmt: skip
        self._stamp = query.stamp

    def find(self, lane: Lane, query: Query, found: Found) -> int:
        """See `Source.find`."""
        self._ask(query)
        count = int(self._candidates[lane.number])
        found.items[:count] = self._items[lane.number, :count]
        found.scores[:count] = self._scores[lane.number, :count]
        return count

    def score(self, lane: Lane, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        """See `Source.score`."""
        gather_lane(self._score, lane.number, items, out)

    def support(self, lane: Lane, items: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """How many of the nearest peers speak for each of the items: (n, 1)."""
        out = np.empty((len(items), 1), np.int64)
        _support(self._support, lane.number, items, out)
        return out

    def nearest(self, lane: Lane, user: int, n: int) -> list[tuple[int, float]]:
        """At most `n` (and at most `TIES` K) peers of a user: index and w(v), the nearest first."""
        self.meet(user, self.history.profile(user))
        n = min(n, int(self._found[lane.number]))
        return list(zip(self._near[lane.number, :n].tolist(), self._weight[lane.number, :n].tolist(), strict=True))
