"""Peers: the users who share items with the user, and what they have besides. One walk for all who look for neighbours.

Each source weighs peers in its own way, a *lane* of the walk. They are met through the users of the user's newest L items, at
most `item_users` (the most recent) per item:

    w(v) = norm[|profile(v)|] * sum over the user's newest L items j that v has of decay^age(j) * part(j)

with part(j) = weight(j) / sqrt(n_j), or log((E + 1) / n_j) where a lane goes by rarity (n_j users have j, E events are
remembered). What the K nearest have counts by its distance from the *match*, the newest of the user's items that the peer has:

    score(i) = sum over the K peers v with the largest w(v) that have i of w(v) * fade(d(v, i)), divided by n_i^share

with d the signed distance of the places of i and of the match in v's profile. Those as near as the K-th count too, up to
`peers_kernels.TIES` K in all: where people share one item and no more, many are equally near, and whom a cut leaves out is
chance. Sums are always made in the same order (of the peers' keys), so that they do not depend on the order in which users came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.config import Config
from models.history import History
from models.kept import Kept
from models.rows import Array, aligned, grown
from models.side_by_side import WIDTH
from models.sources import peers_kernels as kernels
from models.sources.accumulator import hand_over
from models.sources.peers_kernels import COLUMNS, LANES, MARK, MASKS

if TYPE_CHECKING:
    from models.sources.base import Found, Query, Room


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


class Peers(Kept):
    """See the module. All it holds is scratch, overwritten by the next query."""

    scratch = (
        "_lanes", "_stamp", "_place_of", "_score", "_touched", "_count", "_items", "_scores",
        "_candidates", "_weights", "_lengths", "_longest", "_decays", "_rare", "_shares", "_peers", "_norms", "_near",
        "_nearest", "_bounded", "_newest", "_fade", "_reach", "_users", "_match", "_sizes", "_shared", "_reached",
        "_met",
    )  # fmt: skip

    def __init__(self, config: Config, history: History) -> None:
        self.config, self.history = config, history
        self._lanes: list[Lane] = []
        self._stamp = -1
        """Of the query whose scores these are."""
        self._place_of: npt.NDArray[np.int32] = np.zeros(16, np.int32)
        self._room(16)
        self._score: npt.NDArray[np.float64] = aligned(16, COLUMNS)
        """Per item: a score per lane, the peers that speak for it, a count of `MARK` bits per lane, and what `best` remembers."""
        self._touched: npt.NDArray[np.int32] = np.zeros(17, np.int32)
        self._count = 0
        self._items: npt.NDArray[np.int32] = np.zeros((LANES, 0), np.int32)
        self._scores: npt.NDArray[np.float64] = np.zeros((LANES, 0))
        self._weights: npt.NDArray[np.float64] = np.zeros(WIDTH)
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
        self._longest = max(lane.items for lane in lanes)
        self._decays = np.array([lane.decay for lane in lanes] + [0.0] * unused)
        self._rare = np.array([lane.rare for lane in lanes] + [False] * unused)
        self._shares = np.array([lane.share for lane in lanes] + [0.0] * unused)
        self._peers = np.array([lane.peers for lane in lanes] + [0] * unused)
        self._norms = np.stack([lane.norm for lane in lanes] + [np.zeros(window + 1)] * unused)
        self._bounded = np.array([lane.newest is not None for lane in lanes] + [False] * unused)
        self._newest = max((lane.newest for lane in lanes if lane.newest is not None), default=window)
        far = max((len(lane.fade) // 2 for lane in lanes if lane.fade is not None), default=0)
        span = 2 * far + 3  # the first and the last row: what is farther
        fade, marks = np.zeros((span, LANES)), np.zeros((span, LANES))
        self._reach: npt.NDArray[np.int64] = np.zeros(LANES, np.int64)
        for lane in lanes:
            reach = window if lane.fade is None else len(lane.fade) // 2
            at = slice(max(0, far + 1 - reach), far + 2 + reach)
            fade[at, lane.number] = 1.0 if lane.fade is None else lane.fade
            marks[at, lane.number] = 1 << (MARK * lane.number)
            self._reach[lane.number] = reach
        self._fade: npt.NDArray[np.float64] = np.zeros((MASKS * span, WIDTH))
        """For each set of lanes: by distance how much counts, and last what marks the peer in the lanes of the set."""
        for mask in range(MASKS):
            rows = self._fade[mask * span : (mask + 1) * span]
            rows[:, :LANES] = fade
            rows[:, LANES] = marks @ [mask >> lane & 1 for lane in range(LANES)]

    def _room(self, peers: int) -> None:
        """Make place for so many peers (one more than can be met: a new one is written before it counts)."""
        self._users: npt.NDArray[np.int32] = np.zeros(peers, np.int32)
        self._match: npt.NDArray[np.int32] = np.zeros(peers, np.int32)
        self._sizes: npt.NDArray[np.int32] = np.zeros(peers, np.int32)
        self._shared: npt.NDArray[np.float64] = np.zeros((peers, WIDTH))
        self._near: npt.NDArray[np.int32] = np.zeros(peers, np.int32)
        self._nearest = 0
        self._reached: npt.NDArray[np.int64] = np.zeros(LANES, np.int64)
        self._met = 0

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many users and items."""
        self._place_of = grown(self._place_of, users)
        if items > len(self._score):
            self._score = aligned(items, COLUMNS)  # they come doubled, see `grown`
            self._count, self._stamp = 0, -1
        self._touched = grown(self._touched, items + 1)

    def meet(self, user: int, profile: Array) -> None:
        """Find the nearest peers of a user for all lanes."""
        self._stamp = -1
        history, pool = self.history, self.history.users_of.pool
        most = min(kernels.most(profile, self._longest, pool.rows), len(self._place_of)) + 1
        if most > len(self._users):
            self._room(2 * most)
        self._met = kernels.meet(
            profile, self._lengths, self._decays, self._rare, history.events, history.takers, history.inverse_root,
            pool.data, pool.rows, history.profiles.rows, self._place_of, self._users, self._sizes, self._match, self._shared,
            self._reached, self._met,
        )  # fmt: skip
        self._nearest = kernels.nearest(
            user, self._met, self._users, self._sizes, self._shared, self._reached, self._norms, history.users.keys, self._peers,
            self._near,
        )  # fmt: skip

    def _ask(self, query: Query) -> None:
        """Scores of all items for a query, in all lanes; the same query is asked once."""
        if query.stamp == self._stamp:
            return
        kernels.clear(self._score, self._touched, self._count)
        self._count = 0
        if len(query.profile):
            self.meet(query.user, query.profile)
            profiles = self.history.profiles
            self._count = kernels.add_up(
                profiles.data, profiles.rows, self._near[: self._nearest], self._users, self._match, self._shared, self._fade,
                self._reach, self._bounded, self._newest, self._weights, self._score, self._touched,
            )  # fmt: skip
        if query.k > self._items.shape[1]:
            self._items, self._scores = np.zeros((LANES, query.k), np.int32), np.zeros((LANES, query.k))
        kernels.best(
            self._score, self._touched, self._count, self._shares, self.history.takers,
            query.open, query.seen, query.stamp, self.history.items.keys, query.k, self._items, self._scores, self._candidates,
        )  # fmt: skip
        self._stamp = query.stamp

    def find(self, lane: Lane, query: Query, found: Found) -> int:
        """See `Source.find`."""
        self._ask(query)
        count = int(self._candidates[lane.number])
        hand_over(self._items, self._scores, lane.number, count, found.items, found.scores)
        return count

    @property
    def spread(self) -> Array:
        """See `Source.spread`: the lanes come first."""
        return self._score

    def support(self, lane: Lane, items: npt.NDArray[np.int32], room: Room) -> None:
        """See `Source.evidence`: how many of the nearest peers speak for each of the items."""
        kernels.speakers(self._score, lane.number, items, room.number)

    def nearest(self, lane: Lane, user: int, n: int) -> list[tuple[int, float]]:
        """At most `n` (and at most `TIES` K) peers of a user: index and w(v), the nearest first."""
        self.meet(user, self.history.profile(user))
        places = self._near[: self._nearest]
        weights, users = self._shared[places, lane.number], self._users[places]
        order = np.lexsort((self.history.users.keys[users], -weights))[: min(n, int(np.count_nonzero(weights)))]
        return list(zip(users[order].tolist(), weights[order].tolist(), strict=True))
