"""Whom people trust: what each of them has shown of the sources, for the learned fusion (see `models.fusion_learned`).

Of every step of learning the user's part is kept: with g_k the gradient of log p(taken) by the weight of feature k (what the
source said of the item that was taken, less what it said of the candidates in the mean of p)

    G_k <- keep G_k + g_k,   N <- keep N + 1,   keep = 1 - 1 / MEMORY
    t_k = G_k / (N + SHRINK)

So t is 0 for whom nothing is known, above it for a source that knows this user better than it knows others, and follows people
whose ways change. How much t counts is learned for all alike.

Bound: `personal_users` people (0: nothing is kept of anybody), 4 bytes for each of 4 S features; whoever came into this first
leaves first, and starts anew.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.kept import Kept
from models.rows import grown

MEMORY: Final = 10
SHRINK: Final = 5


class Personal(Kept):
    """See the module. `width`: features."""

    kept = ("slot_of", "owners", "sums", "counts", "next_slot")
    scratch = ("_nothing",)
    gradient = True

    def __init__(self, bound: int, width: int) -> None:
        self.bound = bound
        self.slot_of: npt.NDArray[np.int32] = np.full(16, -1, np.int32)
        """Per user: the row of `sums`, -1 for none. Users beyond its end have none."""
        self.owners: npt.NDArray[np.int32] = np.full(0, -1, np.int32)
        self.sums: npt.NDArray[np.float32] = np.zeros((0, width), np.float32)
        """G by slot."""
        self.counts: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        """N by slot."""
        self.next_slot = 0
        self._nothing: npt.NDArray[np.float64] = np.zeros(width)

    def of(self, user: int) -> npt.NDArray[np.float64]:
        """t of the user, (4 S,). To be read only."""
        slot = int(self.slot_of[user]) if 0 <= user < len(self.slot_of) else -1
        if slot < 0:
            return self._nothing
        trust: npt.NDArray[np.float64] = self.sums[slot] / np.float64(self.counts[slot] + SHRINK)
        return trust

    def learn(self, user: int, gradient: npt.NDArray[np.float64]) -> None:
        """The user's own part of a step: `gradient` is g, (4 S,). Not to be called where there is no room for anybody."""
        slot = self._slot(user)
        keep = np.float32(1.0 - 1.0 / MEMORY)
        self.sums[slot] = keep * self.sums[slot] + gradient.astype(np.float32)
        self.counts[slot] = keep * self.counts[slot] + np.float32(1.0)

    def _slot(self, user: int) -> int:
        if user >= len(self.slot_of):
            old = len(self.slot_of)
            self.slot_of = grown(self.slot_of, user + 1)
            self.slot_of[old:] = -1
        if self.slot_of[user] >= 0:
            return int(self.slot_of[user])
        slot = self.next_slot
        self.next_slot = (slot + 1) % self.bound
        if slot >= len(self.owners):
            old = len(self.owners)
            self.sums, self.counts = grown(self.sums, slot + 1, self.bound), grown(self.counts, slot + 1, self.bound)
            self.owners = grown(self.owners, slot + 1, self.bound)
            self.owners[old:] = -1
        elif self.owners[slot] >= 0:
            self.forget_user(int(self.owners[slot]))
        self.slot_of[user], self.owners[slot] = slot, user
        return slot

    def forget_user(self, user: int) -> None:
        """Nothing is known of this user; the slot is empty until its turn comes."""
        slot = int(self.slot_of[user]) if user < len(self.slot_of) else -1
        if slot >= 0:
            self.slot_of[user] = self.owners[slot] = -1
            self.sums[slot] = 0.0
            self.counts[slot] = 0.0

    def __len__(self) -> int:
        return int(np.count_nonzero(self.owners >= 0))
