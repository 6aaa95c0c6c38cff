"""Counts over the order in which people take items, for sequence and proximity (see `models.sources.sequence`): S_ij, kept by
rows and by columns, with their sums, as exact as the windows they are counted over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from models.kept import Kept, Value
from models.kernel import ahead_in, allocating_kernel, kernel, prefetch
from models.pairs import PAIR, Pairs, add, bumped, home, neighbours
from models.rows import Array, grown
from models.sources.accumulator import clear_lanes, hand_over
from models.sources.base import Found, Query, State, Step
from models.sources.choosing import choose_allowed

SPAN: Final = 20
"""The largest distance of two places that count for each other."""
ONE: Final = 1000
WEIGHTS: Final = np.rint(ONE * np.exp(-np.arange(SPAN) / 5.0)).astype(np.int64)
"""W(1) .. W(20) in thousandths."""
_CHANGED: Final = 3
"""Places of a sequence that one event changes, at most: itself, and the run of another item that it parts or joins."""
_CHANGES: Final = 2 * (SPAN + _CHANGED) * 2 * (SPAN + _CHANGED)
"""Pairs of which one event can change the count, at most."""


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
def _stands(sequence: Array, item: int, begin: int, end: int) -> bool:
    """Whether an item stands at one of the places from `begin` to before `end`."""
    for k in range(begin, end):  # noqa: SIM110  generators do not compile
        if sequence[k] == item:
            return True
    return False


@kernel
def _number(sequence: Array, begin: int, end: int, number: Array, lane: int, items: Array, n: int) -> int:
    """Number the items of some places, from 1, beginning with the `n` that have a number; how many have one then."""
    for k in range(begin, end):
        if number[sequence[k], lane] == 0:
            items[n] = sequence[k]
            n += 1
            number[sequence[k], lane] = n
    return n


@kernel
def _nearest(sequence: Array, number: Array, reach: int, out: Array) -> None:
    """For pairs of numbered items (earlier, later) the distance of their nearest places; 0 where they are never within reach."""
    for b in range(len(sequence)):
        j = number[sequence[b], 1]
        if j > 0:
            for a in range(b - 1, max(-1, b - 1 - reach), -1):
                i = number[sequence[a], 0]
                if i > 0 and (out[i - 1, j - 1] == 0 or b - a < out[i - 1, j - 1]):
                    out[i - 1, j - 1] = b - a


@allocating_kernel
def _differences(old: Array, new: Array, head: int, tail: int, weights: Array, number: Array, out: Array) -> int:
    """How S changes when a user's sequence does: rows (earlier, later, change) into `out`; how many.

    `number` (items, 2) is all 0 before and after. The common cases need no look at the whole: an item comes last that was not
    there, or the oldest goes and does not stand elsewhere.
    """
    reach = len(weights)
    n = 0
    if tail == 0 and len(old) == head and len(new) == head + 1 and not _stands(old, new[head], 0, head):
        for a in range(head - 1, max(-1, head - 1 - reach), -1):
            if not _stands(new, new[a], a + 1, head):
                out[n, 0] = new[a]
                out[n, 1] = new[head]
                out[n, 2] = weights[head - a - 1]
                n += 1
        return n
    if head == 0 and len(new) == tail and len(old) == tail + 1 and not _stands(old, old[0], 1, len(old)):
        for b in range(1, min(len(old), 1 + reach)):
            if not _stands(old, old[b], 1, b):
                out[n, 0] = old[0]
                out[n, 1] = old[b]
                out[n, 2] = -weights[b - 1]
                n += 1
        return n
    earlier = np.empty(4 * reach + 8, np.int32)
    later = np.empty(4 * reach + 8, np.int32)
    rows = 0
    columns = 0
    for sequence in (old, new):
        end = min(len(sequence), len(sequence) - tail + reach)
        rows = _number(sequence, max(0, head - reach), end, number, 0, earlier, rows)
        columns = _number(sequence, head, end, number, 1, later, columns)
    before = np.zeros((rows, columns), np.int64)
    after = np.zeros((rows, columns), np.int64)
    _nearest(old, number, reach, before)
    _nearest(new, number, reach, after)
    for x in range(rows):
        number[earlier[x], 0] = 0
    for y in range(columns):
        number[later[y], 1] = 0
    for x in range(rows):
        for y in range(columns):
            if before[x, y] != after[x, y]:
                out[n, 0] = earlier[x]
                out[n, 1] = later[y]
                out[n, 2] = (weights[after[x, y] - 1] if after[x, y] > 0 else 0) - (
                    weights[before[x, y] - 1] if before[x, y] > 0 else 0
                )
                n += 1
    return n


@kernel
def _count(
    changes: Array, begin: int,
    data: Array, rows: Array, free: Array, overflowed: Array, totals: Array,
    back_data: Array, back_rows: Array, back_free: Array, back_overflowed: Array, back_totals: Array,
    ahead: Array, behind: Array, scale: Array, bound: int, last: bool,
) -> int:  # fmt: skip
    """Count changes (earlier, later, change) from number `begin`. Returns the number of the one for which there was no memory, or
    -1: taking out needs none."""
    for c in range(begin, len(changes)):
        one, other = rows[changes[c, 0]], back_rows[changes[c, 1]]
        prefetch(data, one.start + home(changes[c, 1], one.cap))
        prefetch(back_data, other.start + home(changes[c, 0], other.cap))
    for c in range(begin, len(changes)):
        i = changes[c, 0]
        j = changes[c, 1]
        delta = changes[c, 2]
        if not bumped(data, rows, i, j, delta) and not add(data, rows, free, overflowed, totals, i, j, delta, bound, last):
            return c
        if not bumped(back_data, back_rows, j, i, delta) and not add(
            back_data, back_rows, back_free, back_overflowed, back_totals, j, i, delta, bound, last
        ):
            add(data, rows, free, overflowed, totals, i, j, -delta, bound, last)
            return c
        ahead[i] += delta
        behind[j] += delta
        scale[i] = 0.0
        scale[j] = 0.0
    return -1


@kernel
def _change(
    windows: Array, window_rows: Array, user: int, positive_rating: int, old: Array, scratch: Array, same: Array, number: Array,
    changes: Array, weights: Array, begin: int, data: Array, rows: Array, free: Array, overflowed: Array, totals: Array,
    back_data: Array, back_rows: Array, back_free: Array, back_overflowed: Array, back_totals: Array,
    ahead: Array, behind: Array, scale: Array, bound: int, last: bool,
) -> int:  # fmt: skip
    """Count the user's sequence as it is instead of the `old` one. Returns as `_count`; what is left is then in `changes`."""
    if begin == 0:
        new = scratch[: sequence_of(windows, window_rows, user, positive_rating, scratch)]
        _same(old, new, same)
        same[2] = 0
        if same[0] < len(old) or same[0] < len(new):
            same[2] = _differences(old, new, same[0], same[1], weights, number, changes)
    return _count(
        changes[: same[2]], begin, data, rows, free, overflowed, totals,
        back_data, back_rows, back_free, back_overflowed, back_totals, ahead, behind, scale,
        bound, last,
    )  # fmt: skip


@kernel
def _add_up(
    profile: Array, length: int, decay: float, share: float, data: Array, rows: Array, back_data: Array, back_rows: Array,
    ahead: Array, behind: Array, cells: Array, score: Array, touched: Array,
) -> int:  # fmt: skip
    """Scores of all items by both sources (n, 2), side by side; returns how many are touched."""
    n = np.uint64(0)
    far = ahead_in(score)
    age = 1.0
    for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
        j = profile[x].item
        after = age / (ahead[j] + ONE)
        near = age / ((ahead[j] + behind[j] + ONE) / ONE) ** (1.0 - share) / ONE
        age *= decay
        size = neighbours(data, rows, j, cells)
        for c in range(size):
            if c + far < size:
                prefetch(score, cells[c + far].item)
            i = np.uint64(cells[c].item)
            touched[n] = i
            n += np.uint64(score[i, 1] == 0.0)
            score[i, 0] += after * cells[c].count
            score[i, 1] += near * cells[c].count
        size = neighbours(back_data, back_rows, j, cells)
        for c in range(size):
            if c + far < size:
                prefetch(score, cells[c + far].item)
            i = np.uint64(cells[c].item)
            touched[n] = i
            n += np.uint64(score[i, 1] == 0.0)
            score[i, 1] += near * cells[c].count
    return int(np.int64(n))


@allocating_kernel
def _best(
    score: Array, touched: Array, count: int, share: float, ahead: Array, behind: Array, scale: Array, open_items: Array,
    seen: Array, stamp: int, keys: Array, k: int, items: Array, scores: Array, candidates: Array,
) -> None:  # fmt: skip
    """Take its part of the popularity out of all scores of the second source; then the best `k` allowed items of each source into
    the rows of `items` and `scores`, their numbers into `candidates`.

    `scale[i]`: (T_i + 1)^-a; 0 where T_i has changed since that was known."""
    values = np.empty((2, count))
    far = ahead_in(score)
    for x in range(count):
        if x + far < count:
            prefetch(score, touched[x + far])
            prefetch(scale, touched[x + far])
        i = touched[x]
        if scale[i] == 0.0:
            scale[i] = ((ahead[i] + behind[i] + ONE) / ONE) ** -share
        score[i, 1] *= scale[i]
        values[0, x] = score[i, 0]
        values[1, x] = score[i, 1]
    for lane in range(2):
        candidates[lane] = choose_allowed(
            values[lane], touched[:count], open_items, seen, stamp, keys, k, items[lane], scores[lane]
        )  # fmt: skip


class Order(Kept):
    """The counts S, kept by rows and by columns, and their sums."""

    kept = ("following", "preceding", "ahead", "behind")
    scratch = (
        "_old", "_new", "_old_length", "_same", "_numbers", "_changes", "_cells",
        "score", "touched", "count", "scale", "_stamp", "_items", "_scores", "_candidates",
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
        self._same: npt.NDArray[np.int64] = np.zeros(3, np.int64)
        self._numbers: npt.NDArray[np.int16] = np.zeros((16, 2), np.int16)
        self._changes: npt.NDArray[np.int64] = np.zeros((_CHANGES, 3), np.int64)
        self._cells: Array = np.zeros(config.max_followers + 1, PAIR)
        self.score: npt.NDArray[np.float64] = np.zeros((16, 2))
        """Per item: scores for the query last asked, directed and undirected."""
        self.touched: npt.NDArray[np.int32] = np.zeros(17, np.int32)
        self.count = 0
        """Items with a score."""
        self.scale: npt.NDArray[np.float64] = np.zeros(16)
        """Per item: see `_best`."""
        self._items: npt.NDArray[np.int32] = np.zeros((2, 0), np.int32)
        self._scores: npt.NDArray[np.float64] = np.zeros((2, 0))
        self._candidates: npt.NDArray[np.int64] = np.zeros(2, np.int64)
        self._stamp = -1

    def ensure(self, items: int) -> None:
        self.following.ensure(items)
        self.preceding.ensure(items)
        self.ahead, self.behind = grown(self.ahead, items), grown(self.behind, items)
        self.scale = grown(self.scale, items)
        self.score, self.touched = grown(self.score, items), grown(self.touched, items + 1)
        self._numbers = grown(self._numbers, items)

    def restore(self, saved: Mapping[str, Value]) -> None:
        super().restore(saved)
        self.scale = np.zeros(len(self.ahead))

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
                self._numbers, self._changes, WEIGHTS, begin,
                one.pool.data, one.pool.rows, one.pool.free, one.overflowed, one.totals,
                other.pool.data, other.pool.rows, other.pool.free, other.overflowed, other.totals,
                self.ahead, self.behind, self.scale, one.max_neighbours, last,
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
            table.data, table.rows, back.data, back.rows, self.ahead, self.behind, self._cells, self.score, self.touched,
        )  # fmt: skip
        if query.k > self._items.shape[1]:
            self._items, self._scores = np.zeros((2, query.k), np.int32), np.zeros((2, query.k))
        _best(
            self.score, self.touched, self.count, config.proximity_share, self.ahead, self.behind, self.scale, query.open,
            query.seen, query.stamp, self.state.history.items.keys, query.k, self._items, self._scores, self._candidates,
        )  # fmt: skip
        self._stamp = query.stamp

    def find(self, lane: int, query: Query, found: Found) -> int:
        """See `Source.find`; lane 0 is what comes after, 1 what comes near."""
        self.ask(query)
        count = int(self._candidates[lane])
        hand_over(self._items, self._scores, lane, count, found.items, found.scores)
        return count
