"""Sums that stand side by side, against numpy: the same to the last bit."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt
import pytest
from numba.core.errors import TypingError

from models.kernel import kernel
from models.rows import Array
from models.side_by_side import WIDTH, add, add_product


@kernel
def _added(out: Array, rows: Array, what: Array) -> None:
    for x in range(len(rows)):
        add(out, rows[x], what)


@kernel
def _products_added(out: Array, rows: Array, factors: Array, at: Array, what: Array) -> None:
    for x in range(len(rows)):
        add_product(out, rows[x], factors, at[x], what)


def _numbers(seed: int, *shape: int) -> npt.NDArray[np.float64]:
    """Of very different sizes, so that sums are rounded."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * 10.0 ** rng.integers(-9, 9, shape)


@pytest.mark.parametrize("columns", [WIDTH, WIDTH + 1, 2 * WIDTH])
@pytest.mark.parametrize("skew", [0, 1])
def test_sums(columns: int, skew: int) -> None:
    """Of rows anywhere in memory, of which some come twice; what stands behind the width, before and after, stays."""
    raw = _numbers(1, 9 * columns + skew)
    out, what = raw[skew:].reshape(9, columns), _numbers(2, WIDTH + 2)
    expected, rows = out.copy(), np.array([3, 0, 8, 3, 3])
    for row in rows:
        expected[row, :WIDTH] += what[:WIDTH]
    _added(out, rows, what)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("columns", [WIDTH, 2 * WIDTH])
def test_sums_of_products(columns: int) -> None:
    """Each product and each sum is rounded: not as by one instruction for both."""
    out, factors, what = _numbers(3, 9, columns), _numbers(4, 5, WIDTH + 1), _numbers(5, WIDTH)
    expected, rows, at = out.copy(), np.array([3, 0, 8, 3, 3]), np.array([4, 0, 1, 4, 2])
    for row, factor in zip(rows, at, strict=True):
        expected[row, :WIDTH] += what * factors[factor, :WIDTH]
    _products_added(out, rows, factors, at, what)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("which", ["of another kind", "that does not follow itself"])
def test_other_arrays_are_refused(which: str) -> None:
    out = np.zeros((4, 8), np.float32) if which == "of another kind" else np.zeros((4, 8))[:, ::2]
    with pytest.raises(TypingError, match="contiguous arrays of float64"):
        nb.njit(_added.py_func)(out, np.zeros(1, np.int64), np.zeros(WIDTH))
