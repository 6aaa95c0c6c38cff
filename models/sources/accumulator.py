"""Adding up a score per item, and what of it speaks for an item: what the kernels of most sources share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.kernel import ahead_in, inlined, kernel, prefetch
from models.rows import Array, grown


@inlined
def blank(fraction: Array, because: Array, count: int) -> None:
    """No piece of evidence yet, for any of so many items."""
    fraction[:count] = 0.0
    because[:count] = -1


@inlined
def offer(fraction: Array, because: Array, x: int, part: float, item: int) -> None:
    """Offer a part of the score of the item at place `x` to its pieces of evidence: the largest stay, the first among equals.
    Rows begin as by `blank`.
    """
    e = fraction.shape[1] - 1
    if part <= fraction[x, e]:
        return
    while e > 0 and fraction[x, e - 1] < part:
        fraction[x, e] = fraction[x, e - 1]
        because[x, e] = because[x, e - 1]
        e -= 1
    fraction[x, e] = part
    because[x, e] = item


@kernel
def clear(score: Array, touched: Array, count: Array) -> None:
    """Set the touched places to 0."""
    far = ahead_in(score)
    for x in range(count[0]):
        if x + far < count[0]:
            prefetch(score, touched[x + far])
        score[touched[x]] = 0
    count[0] = 0


@kernel
def gather(score: Array, items: Array, out: Array) -> None:
    """out[x] = score[items[x]]."""
    for x in range(len(items)):
        out[x] = score[items[x]]


@kernel
def clear_lanes(score: Array, touched: Array, count: int) -> None:
    """Set the touched rows to 0."""
    far = ahead_in(score)
    for x in range(count):
        if x + far < count:
            prefetch(score, touched[x + far])
        score[touched[x]] = 0.0


@kernel
def gather_first(values: Array, items: Array, out: Array) -> None:
    """out[x, 0] = values[items[x]]."""
    for x in range(len(items)):
        out[x, 0] = values[items[x]]


@kernel
def hand_over(items: Array, scores: Array, lane: int, count: int, found: Array, found_scores: Array) -> None:
    """One row of candidates and their scores, as far as it goes, to where they are wanted."""
    for x in range(count):
        found[x] = items[lane, x]
        found_scores[x] = scores[lane, x]


class Accumulator:
    """Sparse scratch: a score per item, of which only the touched ones are cleared. Not state.

    Kernels add to `score` and append to `touched` what was 0 before; `count[0]` is the number of touched items. They do so
    without a branch, which could not be predicted: always write to the end of `touched` (it has a place to spare), and count on
    if the score was 0.
    """

    def __init__(self) -> None:
        self.score: npt.NDArray[np.float64] = np.zeros(16)
        self.touched: npt.NDArray[np.int32] = np.zeros(17, np.int32)
        self.count: npt.NDArray[np.int64] = np.zeros(1, np.int64)

    def ensure(self, span: int) -> None:
        """Make place for indices below `span`."""
        self.score = grown(self.score, span)
        self.touched = grown(self.touched, span + 1)

    def reset(self) -> None:
        """All 0."""
        clear(self.score, self.touched, self.count)

    def gather(self, items: npt.NDArray[np.int32], out: npt.NDArray[np.float64]) -> None:
        """Scores of `items` into `out`."""
        gather(self.score, items, out)
