"""Vectors a second time, in bytes, for comparing thousands of them with one: a quarter of the memory to walk through.

    v ~ scale * q,  q whole numbers from -127 to 127,  scale = the largest |number| of v / 127

and the cosine of v and a direction t, centred (see `models.cosines`), is (scale q . t - m . t) / |scale q - m| with m the mean.
The direction is rounded to whole numbers too, up to 32,767, so that products and their sums are exact and quick. What rounding
changes in a cosine is about 0.001 for 384 numbers. A vector nearer to the mean than scale * sqrt(dim), some times
what rounding has moved it by, has no direction, nor has one that is all 0: their cosines are 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.dot import dot
from models.kept import Kept
from models.kernel import kernel, loose_kernel
from models.rows import Array, grown

_MOST: Final = 127.0
_MOST_TURNED: Final = 32767


@kernel
def _coarsen(matrix: Array, numbers: Array, scales: Array) -> None:
    """q and scale of the vectors of a matrix."""
    for row in range(len(matrix)):
        most = 0.0
        for d in range(matrix.shape[1]):
            most = max(most, abs(np.float64(matrix[row, d])))
        scale = most / _MOST
        scales[row] = scale
        for d in range(matrix.shape[1]):
            numbers[row, d] = np.int8(np.rint(matrix[row, d] / scale)) if scale > 0.0 else 0


@loose_kernel
def _length(v: Array, scale: np.float32, mean: Array) -> float:
    """|v - m|, 0 where that is no direction."""
    square = np.float32(0.0)
    for d in range(len(mean)):
        difference = scale * np.float32(v[d]) - mean[d]
        square += difference * difference
    return float(np.sqrt(square)) if np.sqrt(square) > scale * np.sqrt(np.float32(len(mean))) else 0.0


@kernel
def _turn(direction: Array, turned: Array) -> float:
    """A direction as whole numbers into `turned`; what 1 of them stands for, 0 where there is no direction."""
    most = 0.0
    for d in range(len(direction)):
        most = max(most, abs(np.float64(direction[d])))
    step = most / min(_MOST_TURNED, (1 << 31) // (128 * len(direction)) - 1)  # such that no sum of products leaves its 32 bits
    for d in range(len(direction)):
        turned[d] = np.int16(np.rint(np.float64(direction[d]) / step)) if step > 0.0 else 0
    return float(step)


@kernel
def _along(
    numbers: Array, scales: Array, lengths: Array, rows: Array, direction: Array, mean: Array, turned: Array, out: Array
) -> None:  # fmt: skip
    """Cosines of the vectors at `rows` into `out`; 0 where a row is negative. `lengths`: of v - m, 0 where that is no direction,
    negative where nobody has asked yet. `turned` (dim,) is scratch."""
    step = _turn(direction, turned)
    common = 0.0
    for d in range(len(mean)):
        common += np.float64(mean[d]) * turned[d]
    for x in range(len(rows)):
        out[x] = 0.0
        row = rows[x]
        if row < 0:
            continue
        if lengths[row] < 0.0:
            lengths[row] = _length(numbers[row], np.float32(scales[row]), mean) if scales[row] > 0.0 else 0.0
        if lengths[row] > 0.0:
            out[x] = step * (scales[row] * dot(numbers, row, turned) - common) / lengths[row]


class Coarse(Kept):
    """See the module. Derived from the rows of a matrix, whose owner says what changes."""

    scratch = ("_numbers", "_scales", "_lengths")

    def __init__(self) -> None:
        self._numbers: npt.NDArray[np.int8] = np.zeros((0, 0), np.int8)
        self._scales: npt.NDArray[np.float64] = np.zeros(0)
        self._lengths: npt.NDArray[np.float32] = np.zeros(0, np.float32)

    def follow(self, matrix: npt.NDArray[np.float32], begin: int = 0, end: int | None = None) -> None:
        """The vectors from row `begin` to before `end` have changed, and with them the mean of all."""
        if len(self._numbers) < len(matrix):
            if not len(self._numbers):
                self._numbers = np.zeros((0, matrix.shape[1]), np.int8)
            self._numbers, self._scales = grown(self._numbers, len(matrix), len(matrix)), grown(self._scales, len(matrix))
            self._lengths = grown(self._lengths, len(matrix))
        _coarsen(matrix[begin:end], self._numbers[begin:end], self._scales[begin:end])
        self._lengths[:] = -1.0

    def along(
        self, rows: npt.NDArray[np.int64], direction: npt.NDArray[np.float32], mean: npt.NDArray[np.float32],
        out: npt.NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Cosines of the vectors at `rows` (n,), centred, and a unit vector into `out` (n,); 0 where a row is negative."""
        _along(self._numbers, self._scales, self._lengths, rows, direction, mean, np.empty(len(mean), np.int16), out)
