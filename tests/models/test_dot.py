"""Dot products of bytes and 16-bit numbers, against numpy."""

from __future__ import annotations

import numba as nb
import numpy as np
import pytest
from numba.core.errors import TypingError

from models.dot import dot
from models.kernel import kernel
from models.rows import Array


@kernel
def _dots(rows: Array, wanted: Array, whole: Array, out: Array) -> None:
    for x in range(len(wanted)):
        out[x] = dot(rows, wanted[x], whole)


@pytest.mark.parametrize("dim", [0, 1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 384, 1000])
@pytest.mark.parametrize("spare", [0, 3])
def test_sums_of_products(dim: int, spare: int) -> None:
    """Of rows anywhere, in any order, which may be longer than the vector; what lies behind either does not count."""
    rng = np.random.default_rng(dim)
    rows = rng.integers(-128, 128, (20, dim + spare)).astype(np.int8)
    whole = rng.integers(1000, 2000, dim + 64).astype(np.int16)[:dim]
    wanted, out = np.array([7, 0, 19, 7]), np.zeros(4, np.int64)
    _dots(rows, wanted, whole, out)
    assert out.tolist() == (rows[wanted, :dim].astype(np.int64) @ whole.astype(np.int64)).tolist()


def test_the_largest_numbers_do_not_overflow_on_the_way() -> None:
    """Two products side by side are as much as 31 bits hold: an instruction that saturates would show."""
    rows, whole, out = np.full((1, 64), -128, np.int8), np.full(64, -32768, np.int16), np.zeros(1, np.int64)
    _dots(rows, np.array([0]), whole, out)
    assert out[0] == 64 * 128 * 32768


@pytest.mark.parametrize("which", ["rows of another kind", "rows that do not follow each other", "a vector of another kind"])
def test_other_arrays_are_refused(which: str) -> None:
    rows, whole = np.zeros((4, 8), np.int8), np.zeros(8, np.int16)
    if which == "rows of another kind":
        rows = rows.astype(np.int16)
    elif which == "rows that do not follow each other":
        rows = rows[:, ::2]
    else:
        whole = whole.astype(np.int32)
    with pytest.raises(TypingError, match="rows of int8 and a vector of int16"):
        nb.njit(_dots.py_func)(rows, np.zeros(1, np.int64), whole, np.zeros(1, np.int64))
