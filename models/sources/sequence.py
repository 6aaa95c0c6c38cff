"""What follows what: counts over the order in which people take items.

A user's sequence are the items of the positive events of the window, oldest first, runs of the same item taken once. For a pair
(earlier, later) of which the sequence has places no more than 20 apart, the user counts W(g) = exp(-(g - 1) / 5), in thousandths,
with g the distance of the nearest two: once, however often somebody goes to and fro. S_ij is the sum over all users. Whatever
changes a sequence (events that come late, leave or are taken back) changes only pairs around the changed place, so the counts
are always those of the windows as they are.

*Sequence*, directed, the sequential rules of Ludewig & Jannach (2018) with another weight:
    score(i) = sum over the user's newest L items j of decay^age(j) * S_ji / (sum_x S_jx + 1)
*Proximity*, both directions, T = S + S', with a part of the popularity of the target taken out:
    score(i) = sum over j of decay^age(j) * T_ji / (T_j + 1)^(1 - a) / (T_i + 1)^a,   T_i = sum_x T_ix
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import is_wide, kernel
from models.pairs import ask_for, lookup
from models.rows import Array
from models.sources.base import Family, Found, Grounds, Query, Room, Source, State, Step, blank, offer
from models.sources.order import ONE, Order


@kernel
def _evidence(
    profile: Array, length: int, decay: float, share: float, both: bool, data: Array, rows: Array, ahead: Array, behind: Array,
    scale: Array, wanted: Array, score: Array, fraction: Array, because: Array,
) -> None:  # fmt: skip
    """For each wanted item the profile items with the largest parts of its score, the newer first among equals."""
    blank(fraction, because, len(wanted))
    if is_wide(data):
        for p in range(max(0, len(profile) - length), len(profile)):
            for x in range(len(wanted)):
                ask_for(data, rows, profile[p].item, wanted[x])
                if both:
                    ask_for(data, rows, wanted[x], profile[p].item)
    age = 1.0
    for p in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[p].item
        part = age / (ahead[j] + ONE)
        if both:
            part = age / ((ahead[j] + behind[j] + ONE) / ONE) ** (1.0 - share) / ONE
        age *= decay
        for x in range(len(wanted)):
            counted = lookup(data, rows, j, wanted[x])
            if both:
                counted += lookup(data, rows, wanted[x], j)
            offer(fraction, because, x, part * counted, j)
    for x in range(len(wanted)):
        total = score[wanted[x], int(both)]
        if both and total > 0.0:
            total /= scale[wanted[x]]
        for e in range(fraction.shape[1]):
            fraction[x, e] = min(1.0, fraction[x, e] / total) if total > 0.0 else 0.0


class _Ordered(Source):
    """What both sources share."""

    family = Family.COLLABORATIVE
    both = False

    def __init__(self, state: State, order: Order) -> None:
        super().__init__(state)
        self.order, self.column = order, int(self.both)

    def find(self, query: Query, found: Found) -> int:
        return self.order.find(int(self.both), query, found)

    @property
    def spread(self) -> Array | None:
        return self.order.score

    def evidence(self, query: Query, items: npt.NDArray[np.int32], room: Room) -> None:
        config, order, table = self.config, self.order, self.order.following.pool
        _evidence(
            query.profile, config.sequence_items, config.sequence_decay, config.proximity_share, self.both,
            table.data, table.rows, order.ahead, order.behind, order.scale, items, order.score,
            room.fraction, room.item,
        )  # fmt: skip


class Sequence(_Ordered):
    """What follows what the user took last. It counts; the other reads what it has counted."""

    name = "sequence"
    grounds = Grounds("follows", item=True)
    kept = ("order",)

    @classmethod
    def build(cls, state: State) -> list[Source]:
        order = Order(state)
        return [Sequence(state, order), Proximity(state, order)]

    def ensure(self, users: int, items: int) -> None:
        self.order.ensure(items)

    def before(self, step: Step) -> None:
        self.order.before(step)

    def after(self, step: Step) -> None:
        self.order.after(step)

    def sizes(self) -> dict[str, tuple[int, int]]:
        following, preceding = self.order.following.pool, self.order.preceding.pool
        return {"sequence_cells": (following.used + preceding.used, following.max_cells + preceding.max_cells)}


class Proximity(_Ordered):
    """What is taken near, before or after, what the user took last."""

    name = "proximity"
    grounds = Grounds("goes_with", item=True)
    both = True
