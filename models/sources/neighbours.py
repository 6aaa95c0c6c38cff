"""Neighbours: what people did next, or nearby, who took what the user took last.

Nearest neighbours over recent users (VMIS-kNN, Kersbergen, Sprangers & Schelter, SIGMOD 2022; STAN, Garg et al., SIGIR 2019;
both here over users instead of sessions). Neighbours are found through the users of the user's newest L items (see
`sources.peers`):

w(v) = sum over the user's newest L items j that v has of decay^age(j) * log((E + 1) / n_j), over sqrt(min(|profile(v)|, 100) + 5)

with E the events remembered and n_j the users who have j. Of each of the K best neighbours the places of the profile within W of
the match count, the match being the newest of the user's items that v has; at signed distance d from it by

f(d) = exp(-d / s) after it, exp(d / s) / 2 before it

score(i) = sum over neighbours v that hold i of w(v) f(d(v, i)), divided by n_i^share

Two settings of this see different things: `close` what belongs together, `session` what comes next.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.rows import Array
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State
from models.sources.peers import Lane

LONG: Final = 100
"""Profiles longer than this are not held against a neighbour any more."""


class Setting(Struct, frozen=True):
    """How an instance looks for neighbours."""

    name: str
    items: int  # L
    decay: float
    users: int  # K
    reach: int  # W
    spread: float  # s
    share: float


SETTINGS: Final = (
    Setting("neighbours_close", items=10, decay=0.7, users=200, reach=40, spread=6.0, share=0.2),
    Setting("neighbours_session", items=5, decay=0.5, users=200, reach=12, spread=2.0, share=0.1),
)


class Neighbours(Source):
    """See the module. A lane of the walk through the user's peers."""

    name = "neighbours"
    grounds = Grounds("similar_sessions", pieces=False, number=True)
    family = Family.COLLABORATIVE
    scratch = ("peers", "_lane")

    def __init__(self, state: State, setting: Setting) -> None:
        super().__init__(state)
        self.name = setting.name
        self.peers = state.peers
        self._lane = self.peers.join(Lane(
            items=setting.items, decay=setting.decay, rare=True,
            norm=1.0 / np.sqrt(np.minimum(np.arange(self.config.window_events + 1), LONG) + 5.0),
            peers=setting.users, fade=_fade(setting), share=setting.share,
        ))  # fmt: skip
        self.column = self._lane.number

    @classmethod
    def build(cls, state: State) -> list[Source]:
        return [cls(state, setting) for setting in SETTINGS]

    def ensure(self, users: int, items: int) -> None:
        self.peers.ensure(users, items)

    def find(self, query: Query, found: Found) -> int:
        return self.peers.find(self._lane, query, found)

    @property
    def spread(self) -> Array | None:
        return self.peers.spread

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        self.peers.support(self._lane, items, room)


def _fade(setting: Setting) -> npt.NDArray[np.float64]:
    """f from -reach to reach."""
    distances = np.arange(-setting.reach, setting.reach + 1)
    near: npt.NDArray[np.float64] = np.exp(-np.abs(distances) / setting.spread)
    return np.where(distances < 0, near / 2, near)
