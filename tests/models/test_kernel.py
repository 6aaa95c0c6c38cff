"""Kernels compile wherever they are."""

from __future__ import annotations

import numba as nb
import numpy as np
import pytest
from numba.core.caching import CacheImpl

from models.kernel import (
    ahead_in,
    allocating_kernel,
    allocating_loose_kernel,
    dividing_kernel,
    inlined,
    kernel,
    loose_kernel,
    prefetch,
)
from models.rows import Array, aligned


def double(x: int) -> int:
    return 2 * x


DECORATORS = [kernel, allocating_kernel, dividing_kernel, inlined, loose_kernel, allocating_loose_kernel]


@pytest.mark.parametrize("decorate", DECORATORS)
def test_where_nothing_can_be_written_code_is_compiled_and_not_kept(decorate: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a read-only file system and no volume: `freshet topics` imports the model, too."""
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert decorate(double)(21) == 42  # type: ignore[operator]


@kernel
def _quotient(a: float, b: float) -> float:
    return a / b


@dividing_kernel
def _any_quotient(a: float, b: float) -> float:
    return a / b


def test_division_by_0_is_an_error_unless_a_kernel_says_that_it_knows() -> None:
    with pytest.raises(ZeroDivisionError):
        _quotient(1.0, 0.0)
    assert _any_quotient(1.0, 0.0) == np.inf
    assert _any_quotient(3.0, 2.0) == _quotient(3.0, 2.0) == 1.5


@kernel
def _gathered(values: Array, rows: Array) -> float:
    total = 0.0
    far = ahead_in(values)
    for x in range(len(rows)):
        if x + far < len(rows):
            prefetch(values, rows[x + far])
        total += values[rows[x], 1]
    return total


@pytest.mark.parametrize("rows", [10, 100_000])
def test_asking_ahead_changes_nothing(rows: int) -> None:
    values = np.arange(3.0 * rows).reshape(rows, 3)
    wanted = np.random.default_rng(1).integers(0, rows, 50).astype(np.int32)
    assert _gathered(values, wanted) == values[wanted, 1].sum()
    assert _gathered(values[::2], wanted // 2) == values[::2][wanted // 2, 1].sum(), "rows need not follow each other"
    compiled = nb.njit(_gathered.py_func)  # anew: of code that was kept on disk there is no text
    compiled(values, wanted)
    assert "prefetch" in next(iter(compiled.inspect_asm().values()))


def test_aligned_rows_begin_where_a_cache_line_does() -> None:
    for rows in (1, 7, 100_000):
        made = aligned(rows, 4)
        assert made.shape == (rows, 4)
        assert made.ctypes.data % 64 == 0
        assert not made.any()
        made[:] = 1.0
