"""UserCF: what people with the same items are positive about besides.

Cosine for sets (Breese et al., 1998; the papers' UserCF): sim(u, v) = sum over common items / sqrt(n_u n_v). The user's own side
is recency weighted and common items count less the more people have them:

w(v) = sum over the user's newest L items j that v has of decay^age(j) * weight(j) / sqrt(n_j), divided by sqrt(|profile(v)| + 1)
score(i) = sum of w(v) over the K users v with the largest w(v) whose newest M items hold i

Neighbours are found through the users of the user's items (see `sources.peers`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.rows import Array
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State
from models.sources.peers import Lane


class UserCF(Source):
    """See the module. A lane of the walk through the user's peers."""

    name = "user_cf"
    grounds = Grounds("similar_users", pieces=False, number=True)
    family = Family.COLLABORATIVE
    scratch = ("peers", "_lane")

    def __init__(self, state: State) -> None:
        super().__init__(state)
        config, self.peers = self.config, state.peers
        self._lane = self.peers.join(Lane(
            items=config.user_cf_items, decay=config.user_cf_decay, rare=False,
            norm=1.0 / np.sqrt(np.arange(config.window_events + 1) + 1.0),
            peers=config.user_cf_neighbours, newest=config.user_cf_neighbour_items,
        ))  # fmt: skip
        self.column = self._lane.number

    def ensure(self, users: int, items: int) -> None:
        self.peers.ensure(users, items)

    def find(self, query: Query, found: Found) -> int:
        return self.peers.find(self._lane, query, found)

    @property
    def spread(self) -> Array | None:
        return self.peers.spread

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        self.peers.support(self._lane, items, room)

    def similar(self, user: int, n: int) -> list[tuple[int, float]]:
        """At most `n` users most like one, of those who count (see `sources.peers`): index and w(v), the best first."""
        return self.peers.nearest(self._lane, user, n)

    def sizes(self) -> dict[str, tuple[int, int]]:
        pool = self.history.users_of.pool
        return {"item_users": (pool.used, pool.max_cells)}
