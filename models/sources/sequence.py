"""What follows what: counts over the order in which people take items.

A user's sequence are the items of the positive events of the window, oldest first, runs of the same item taken once. Two places
of it that are g <= 20 apart count W(g) = exp(-(g - 1) / 5), in thousandths, for the pair (earlier, later); S_ij is the sum over
all users. Whatever changes a sequence (events that come late, leave or are taken back) changes just the pairs across the changed
place, so the counts are always those of the windows as they are.

*Sequence*, directed, the sequential rules of Ludewig & Jannach (2018) with another weight:
    score(i) = sum over the user's newest L items j of decay^age(j) * S_ji / (sum_x S_jx + 1)
*Proximity*, both directions, T = S + S', with a part of the popularity of the target taken out:
    score(i) = sum over j of decay^age(j) * T_ji / (T_j + 1)^(1 - a) / (T_i + 1)^a,   T_i = sum_x T_ix
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.kept import Kept
from models.kernel import kernel
from models.pairs import PAIR, Pairs, add, home, lookup, neighbours
from models.rows import Array, grown
from models.sources.base import Family, Found, Grounds, Query, Source, State, Step, offer
from models.sources.choosing import best_of_lane, clear_lanes, gather_lane

SPAN: Final = 20
"""The largest distance of two places that count for each other."""
ONE: Final = 1000
WEIGHTS: Final = np.rint(ONE * np.exp(-np.arange(SPAN) / 5.0)).astype(np.int64)
"""W(1) .. W(20) in thousandths."""


@kernel
def sequence_of(data: Array, rows: Array, user: int, positive_rating: int, out: Array) -> int:
    """The user's sequence into `out`; its length."""
    n = 0
    start = rows[user].start
    for k in range(start, start + rows[user].size):
        item = data[k].item
        if item < 0 or (data[k].kind == 2 and data[k].rating < positive_rating):
            continue
        if n == 0 or out[n - 1] != item:
            out[n] = item
            n += 1
    return n


@kernel
def _same(old: Array, new: Array, result: Array) -> None:
    """Lengths of the common beginning and of the common end of two sequences (which do not overlap) into `result`."""
    short = min(len(old), len(new))
    head = 0
    while head < short and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < short - head and old[len(old) - 1 - tail] == new[len(new) - 1 - tail]:
        tail += 1
    result[0] = head
    result[1] = tail


@kernel
def _count(
    sequence: Array, head: int, tail: int, sign: int, weights: Array, begin: int,
    data: Array, rows: Array, free: Array, overflowed: Array, totals: Array,
    back_data: Array, back_rows: Array, back_free: Array, back_overflowed: Array, back_totals: Array,
    ahead: Array, behind: Array, bound: int, last: bool,
) -> int:  # fmt: skip
    """Count all pairs of a sequence but those within its first `head` or its last `tail` places. Pairs before the number `begin`
    have been counted already. Returns the number of the pair for which there was no memory, or -1."""
    n = len(sequence)
    number = 0
    for b in range(head, n):
        for g in range(1, len(weights) + 1):
            a = b - g
            if a < 0 or a >= n - tail:
                if a < 0:
                    break
                continue
            number += 1
            if number <= begin:
                continue
            i = sequence[a]
            j = sequence[b]
            delta = sign * weights[g - 1]
            if not add(data, rows, free, overflowed, totals, i, j, delta, bound, last):
                return number - 1
            if not add(back_data, back_rows, back_free, back_overflowed, back_totals, j, i, delta, bound, last):
                add(data, rows, free, overflowed, totals, i, j, -delta, bound, last)
                return number - 1
            ahead[i] += delta
            behind[j] += delta
    return -1


@kernel
def _change(
    windows: Array, window_rows: Array, user: int, positive_rating: int, old: Array, scratch: Array, same: Array, weights: Array,
    begin: int, data: Array, rows: Array, free: Array, overflowed: Array, totals: Array,
    back_data: Array, back_rows: Array, back_free: Array, back_overflowed: Array, back_totals: Array,
    ahead: Array, behind: Array, bound: int, last: bool,
) -> int:  # fmt: skip
    """Count the user's sequence as it is, and the `old` one out, but for what both have in common. Returns as `_count`: taking
    out needs no memory."""
    new = scratch[: sequence_of(windows, window_rows, user, positive_rating, scratch)]
    _same(old, new, same)
    head = same[0]
    tail = same[1]
    if len(new) - tail > head:  # only reads, so that the cache misses of all rows overlap
        warm = 0
        j = new[head]
        for a in range(max(0, head - len(weights)), head):
            row = rows[new[a]]
            if row.cap > 0:
                warm |= data[row.start + home(j, row.cap)].count
        if warm < 0:
            return -1  # never: it keeps the reads from being optimised away
    stopped = _count(
        new, head, tail, 1, weights, begin, data, rows, free, overflowed, totals,
        back_data, back_rows, back_free, back_overflowed, back_totals, ahead, behind, bound, last,
    )  # fmt: skip
    if stopped >= 0:
        return stopped
    return _count(
        old, head, tail, -1, weights, 0, data, rows, free, overflowed, totals,
        back_data, back_rows, back_free, back_overflowed, back_totals, ahead, behind, bound, last,
    )  # fmt: skip


class Order(Kept):
    """The counts S, kept by rows and by columns, and their sums."""

    kept = ("following", "preceding", "ahead", "behind")
    scratch = (
        "_old", "_new", "_old_length", "_same", "_cells", "score", "touched", "count", "scale", "scale_of", "_stamp",
    )  # fmt: skip

    def __init__(self, state: State) -> None:
        config = state.config
        self.state = state
        self.following = Pairs(config.max_sequence_pairs, config.max_followers)
        self.preceding = Pairs(config.max_sequence_pairs, config.max_followers)
        self.ahead: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        """Per item: sum of its counts as the earlier one."""
        self.behind: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._old: npt.NDArray[np.int32] = np.zeros(config.window_events + 1, np.int32)
        self._new: npt.NDArray[np.int32] = np.zeros(config.window_events + 1, np.int32)
        self._old_length = 0
        self._same: npt.NDArray[np.int64] = np.zeros(2, np.int64)
        self._cells: Array = np.zeros(config.max_followers + 1, PAIR)
        self.score: npt.NDArray[np.float64] = np.zeros((16, 2))
        """Per item: scores for the query last asked, directed and undirected."""
        self.touched: npt.NDArray[np.int32] = np.zeros(17, np.int32)
        self.count = 0
        """Items with a score."""
        self.scale: npt.NDArray[np.float64] = np.zeros(16)
        self.scale_of: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._stamp = -1

    def ensure(self, items: int) -> None:
        self.following.ensure(items)
        self.preceding.ensure(items)
        self.ahead, self.behind = grown(self.ahead, items), grown(self.behind, items)
        self.scale, self.scale_of = grown(self.scale, items), grown(self.scale_of, items)
        self.score, self.touched = grown(self.score, items), grown(self.touched, items + 1)

    def before(self, step: Step) -> None:
        if step.positive:
            history = self.state.history
            self._old_length = sequence_of(
                history.windows.data, history.windows.rows, step.user, history.positive_rating, self._old
            )  # fmt: skip

    def after(self, step: Step) -> None:
        """Count what the step has changed, making room as it is needed."""
        if not step.positive:
            return
        history, one, other, begin, last = self.state.history, self.following, self.preceding, 0, False
        old = self._old[: self._old_length]
        while begin >= 0:
            one.pool.room_for(4)
            other.pool.room_for(4)
            begin = _change(
                history.windows.data, history.windows.rows, step.user, history.positive_rating, old, self._new, self._same,
                WEIGHTS, begin, one.pool.data, one.pool.rows, one.pool.free, one.overflowed, one.totals,
                other.pool.data, other.pool.rows, other.pool.free, other.overflowed, other.totals,
                self.ahead, self.behind, one.max_neighbours, last,
            )  # fmt: skip
            if begin >= 0:
                held = len(one.pool.data) + len(other.pool.data)
                one.pool.room_for(len(one.pool.data))
                other.pool.room_for(len(other.pool.data))
                last = len(one.pool.data) + len(other.pool.data) == held

    def ask(self, query: Query) -> None:
        """Scores of all items for a query, by both sources; the same query is asked once."""
        if query.stamp == self._stamp:
            return
        config, table, back = self.state.config, self.following.pool, self.preceding.pool
        clear_lanes(self.score, self.touched, self.count)
        self.count = _add_up(
            query.profile, config.sequence_items, config.sequence_decay, config.proximity_share,
            table.data, table.rows, back.data, back.rows, self.ahead, self.behind, self.scale, self.scale_of, self._cells,
            self.score, self.touched,
        )  # fmt: skip
        self._stamp = query.stamp


# ------------------------------------------------------------------------------------------------ asking
@kernel
def _add_up(
    profile: Array, length: int, decay: float, share: float, data: Array, rows: Array, back_data: Array, back_rows: Array,
    ahead: Array, behind: Array, scale: Array, scale_of: Array, cells: Array, score: Array, touched: Array,
) -> int:  # fmt: skip
    """Scores of all items by both sources (n, 2), side by side; returns how many are touched.

    `scale[i]`: (T_i + 1)^-a where T_i is still `scale_of[i]`."""
    n = 0
    age = 1.0
    for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[x].item
        after = age / (ahead[j] + ONE)
        near = age / ((ahead[j] + behind[j] + ONE) / ONE) ** (1.0 - share) / ONE
        age *= decay
        for c in range(neighbours(data, rows, j, cells)):
            i = cells[c].item
            touched[n] = i
            n += score[i, 1] == 0.0
            score[i, 0] += after * cells[c].count
            score[i, 1] += near * cells[c].count
        for c in range(neighbours(back_data, back_rows, j, cells)):
            i = cells[c].item
            touched[n] = i
            n += score[i, 1] == 0.0
            score[i, 1] += near * cells[c].count
    for x in range(n):
        i = touched[x]
        total = ahead[i] + behind[i] + ONE
        if scale_of[i] != total:
            scale_of[i] = total
            scale[i] = (total / ONE) ** -share
        score[i, 1] *= scale[i]
    return n


@kernel
def _evidence(
    profile: Array, length: int, decay: float, share: float, both: bool, data: Array, rows: Array, ahead: Array, behind: Array,
    scale: Array, wanted: Array, score: Array, fraction: Array, because: Array,
) -> None:  # fmt: skip
    """For each wanted item the profile items with the largest parts of its score, the newer first among equals."""
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

    def __init__(self, state: State, order: Order, *, keeps: bool) -> None:
        super().__init__(state)
        self.order = order
        self.keeps = keeps
        """Whether this instance is the one that counts; the other reads what it has counted."""

    def ensure(self, users: int, items: int) -> None:
        if self.keeps:
            self.order.ensure(items)

    def before(self, step: Step) -> None:
        if self.keeps:
            self.order.before(step)

    def after(self, step: Step) -> None:
        if self.keeps:
            self.order.after(step)

    def find(self, query: Query, found: Found) -> int:
        order = self.order
        order.ask(query)
        return int(best_of_lane(
            order.score, int(self.both), order.touched, order.count, query.open, query.seen, query.stamp,
            self.history.items.keys, query.k, found.items, found.scores,
        ))  # fmt: skip

    def score(self, query: Query, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        gather_lane(self.order.score, int(self.both), items, out)

    def evidence(self, query: Query, items: npt.NDArray[np.int32]) -> Grounds:
        config, order, table = self.config, self.order, self.order.following.pool
        shape = (len(items), config.reasons_per_source)
        fraction, because = np.zeros(shape), np.full(shape, -1, np.int32)
        _evidence(
            query.profile, config.sequence_items, config.sequence_decay, config.proximity_share, self.both,
            table.data, table.rows, order.ahead, order.behind, order.scale, items, order.score,
            fraction, because,
        )  # fmt: skip
        return Grounds("goes_with" if self.both else "follows", fraction, item=because)

    def sizes(self) -> dict[str, tuple[int, int]]:
        if not self.keeps:
            return {}
        following, preceding = self.order.following.pool, self.order.preceding.pool
        return {"sequence_cells": (following.used + preceding.used, following.max_cells + preceding.max_cells)}


class Sequence(_Ordered):
    """What follows what the user took last."""

    name = "sequence"
    kept = ("order",)

    @classmethod
    def build(cls, state: State) -> list[Source]:
        order = Order(state)
        return [Sequence(state, order, keeps=True), Proximity(state, order, keeps=False)]


class Proximity(_Ordered):
    """What is taken near, before or after, what the user took last."""

    name = "proximity"
    both = True
