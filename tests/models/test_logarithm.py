"""The logarithm that kernels work out side by side, against the one of the C library, in more digits than both have."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernel import dividing_kernel
from models.logarithm import log
from models.rows import Array

LEAST, MOST = float(np.finfo(np.float64).tiny), float(np.finfo(np.float64).max)


@dividing_kernel
def logs(numbers: Array, out: Array) -> None:
    for x in range(len(numbers)):
        out[x] = log(numbers[x])


def of(numbers: list[float]) -> list[float]:
    out = np.empty(len(numbers))
    logs(np.array(numbers), out)
    return [float(number) for number in out]


def error(number: float, found: float) -> float:
    """How far off, as a part of ln y, or absolutely where that is below 1."""
    with localcontext() as context:
        context.prec = 40
        exact = Decimal(number).ln()
        return float(abs(Decimal(found) - exact) / max(abs(exact), Decimal(1)))


@given(st.lists(st.floats(LEAST, MOST), min_size=1, max_size=40))
def test_it_is_that_of_any_number_above_0(numbers: list[float]) -> None:
    for number, found in zip(numbers, of(numbers), strict=True):
        assert error(number, found) < 1e-15


@pytest.mark.parametrize("number", [LEAST, MOST, 1.0, math.nextafter(1.0, 2.0), math.nextafter(1.0, 0.0), 2.0, 0.5, 1001.0])
def test_it_is_that_of_the_ends_and_of_what_lies_round_1(number: float) -> None:
    assert error(number, of([number])[0]) < 1e-15


@pytest.mark.parametrize("exponent", [-3, 0, 1, 10])
def test_it_does_not_jump_where_the_exponent_changes(exponent: int) -> None:
    edge = math.sqrt(0.5) * 2.0**exponent
    numbers = [edge * (1.0 + k * 2.0**-52) for k in range(-8, 9)]
    for number, found in zip(numbers, of(numbers), strict=True):
        assert error(number, found) < 1e-15


def test_it_is_0_of_1() -> None:
    assert of([1.0]) == [0.0]


def test_it_says_the_same_wherever_in_an_array_a_number_stands() -> None:
    """Several are worked out at once, the last ones of an array alone."""
    numbers = np.random.default_rng(5).uniform(1.0, 1001.0, 37).tolist()
    together = of(numbers)
    assert [of([number])[0] for number in numbers] == together
