"""Whom people trust: what each of them has shown of the sources, for the learned fusion (see `models.fusion_learned`).

Of every step of learning the user's part is kept: with g_k the gradient of log p(taken) by the weight of feature k (what the
source said of the item that was taken, less what it said of the candidates in the mean of p)

    G_k <- keep G_k + g_k,   N <- keep N + 1,   keep = 1 - 1 / MEMORY
    t_k = G_k / (N + SHRINK)

So t is 0 for whom nothing is known, above it for a source that knows this user better than it knows others, and follows people
whose ways change. How much t counts is learned for all alike.

People go by the hash of their id (`interning.key64`): one model may learn this for others, which know them by other indices or
do not know them yet. `read` is what one gives away of a person, `write` how another takes it over.

Bound: `personal_users` people (0: nothing is kept of anybody), 4 bytes for each of 4 S features; whoever came into this first
leaves first, and starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from models.kept import Kept, Misfit, Value
from models.rows import grown

MEMORY: Final = 10
SHRINK: Final = 5


def _nobody_asks(_: int) -> None:
    """Nobody wants to know."""


class Personal(Kept):
    """See the module. `width`: features.

    Attributes:
        changing: called with the key of everybody of whom something else is about to be known than now, except by `write`.
    """

    kept = ("owners", "sums", "counts", "next_slot")
    scratch = ("_slot_of", "_nothing", "changing")
    gradient = True

    def __init__(self, bound: int, width: int) -> None:
        self.bound = bound
        self.changing: Callable[[int], None] = _nobody_asks
        self.owners: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        """Key by slot."""
        self.sums: npt.NDArray[np.float32] = np.zeros((0, width), np.float32)
        """G by slot."""
        self.counts: npt.NDArray[np.float32] = np.zeros(0, np.float32)
        """N by slot; 0 where the slot is empty."""
        self.next_slot = 0
        self._slot_of: dict[int, int] = {}
        self._nothing: npt.NDArray[np.float64] = np.zeros(width)

    def of(self, key: int) -> npt.NDArray[np.float64]:
        """t of the person, (4 S,). To be read only."""
        slot = self._slot_of.get(key)
        if slot is None:
            return self._nothing
        trust: npt.NDArray[np.float64] = self.sums[slot] / np.float64(self.counts[slot] + SHRINK)
        return trust

    def learn(self, key: int, gradient: npt.NDArray[np.float64]) -> None:
        """The person's own part of a step: `gradient` is g, (4 S,). Not to be called where there is no room for anybody."""
        self.changing(key)
        slot = self._slot(key)
        keep = np.float32(1.0 - 1.0 / MEMORY)
        self.sums[slot] = keep * self.sums[slot] + gradient.astype(np.float32)
        self.counts[slot] = keep * self.counts[slot] + np.float32(1.0)

    # -------------------------------------------------------------------------------------------- for others
    def read(self, key: int) -> npt.NDArray[np.float32] | None:
        """G and then N of the person, (4 S + 1,); None where nothing is known."""
        slot = self._slot_of.get(key)
        return None if slot is None else np.append(self.sums[slot], self.counts[slot])

    def write(self, key: int, known: npt.NDArray[np.float32] | None) -> None:
        """Know of the person what another has `read`, in place of one's own. It must be `fitting`."""
        if known is None:
            self._empty(key)
        elif self.bound:
            slot = self._slot(key)
            self.sums[slot], self.counts[slot] = known[:-1], known[-1]

    def fits(self, known: npt.NDArray[np.float32]) -> bool:
        """Whether `write` can take this without harm: of the same shape, finite, and of a number of steps that can be."""
        return known.shape == (len(self._nothing) + 1,) and bool(np.isfinite(known).all()) and 0 < known[-1] <= MEMORY + 1

    # -------------------------------------------------------------------------------------------- who is known
    def _slot(self, key: int) -> int:
        known = self._slot_of.get(key)
        if known is not None:
            return known
        slot = self.next_slot
        self.next_slot = (slot + 1) % self.bound
        if slot >= len(self.owners):
            self.sums, self.counts = grown(self.sums, slot + 1, self.bound), grown(self.counts, slot + 1, self.bound)
            self.owners = grown(self.owners, slot + 1, self.bound)
        elif self.counts[slot] > 0:
            self.forget(int(self.owners[slot]))
        self._slot_of[key], self.owners[slot] = slot, key
        return slot

    def forget(self, key: int) -> None:
        """Nothing is known of this person; the slot is empty until its turn comes."""
        if key in self._slot_of:
            self.changing(key)
            self._empty(key)

    def _empty(self, key: int) -> None:
        slot = self._slot_of.pop(key, None)
        if slot is not None:
            self.owners[slot] = self.sums[slot] = self.counts[slot] = 0

    def __len__(self) -> int:
        return len(self._slot_of)

    def everybody(self) -> list[int]:
        """Keys of those of whom something is known."""
        return list(self._slot_of)

    def restore(self, saved: Mapping[str, Value]) -> None:
        super().restore(saved)
        if not len(self.owners) == len(self.sums) == len(self.counts):
            raise Misfit("slots of people differ in number")
        taken = np.flatnonzero(self.counts > 0).tolist()
        self._slot_of = dict(zip(self.owners[taken].tolist(), taken, strict=True))
