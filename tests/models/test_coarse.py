"""Cosines of vectors held in bytes, against the textbook in double precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.coarse import Coarse
from tests.models.naive import coarse, turned
from tests.models.test_cosines import cosine, units


def compared(held: Coarse, rows: list[int], direction: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]) -> list[float]:
    out = np.full(len(rows), np.nan)
    held.along(np.array(rows), direction, mean, out)
    return [float(x) for x in out]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("unit", [True, False])
def test_cosines_along_a_direction(seed: int, unit: bool) -> None:
    rng = np.random.default_rng(seed)
    matrix = units(rng, 30) if unit else units(rng, 30) * rng.uniform(0.3, 3.0, (30, 1)).astype(np.float32)
    mean, direction, rows, held = matrix.mean(axis=0), units(rng, 1)[0], [7, -1, 29, 0, 7], Coarse()
    held.follow(matrix)
    found = compared(held, rows, direction, mean)
    rough, rounded = coarse(matrix.astype(float)), turned(direction.astype(float))
    assert found == pytest.approx([cosine(rough[r] - mean, rounded) if r >= 0 else 0.0 for r in rows], abs=1e-5)
    exact = [cosine(matrix[r].astype(float) - mean, direction.astype(float)) if r >= 0 else 0.0 for r in rows]
    assert found == pytest.approx(exact, abs=0.02)


def test_what_changes_is_followed_and_so_is_the_mean() -> None:
    rng = np.random.default_rng(1)
    matrix, direction, held = units(rng, 40), units(rng, 1)[0], Coarse()
    for count in range(1, 41):  # row by row, as vectors come; the matrix has room for more
        held.follow(matrix, count - 1, count)
        compared(held, [0, count - 1], direction, matrix[:count].mean(axis=0))
    matrix[3] = matrix[39]
    held.follow(matrix, 3, 4)
    other = Coarse()
    other.follow(matrix)
    mean = matrix.mean(axis=0)
    assert compared(held, [*range(40)], direction, mean) == compared(other, [*range(40)], direction, mean)


def test_the_mean_and_nothing_have_no_direction() -> None:
    rng = np.random.default_rng(2)
    matrix, held = units(rng, 3), Coarse()
    matrix[1] = 0.0
    held.follow(matrix)
    assert compared(held, [0, 1], matrix[2], matrix[0]) == [0.0, 0.0]


@pytest.mark.parametrize("dim", [384, 1024, 4096])
def test_sums_of_the_largest_numbers_fit(dim: int) -> None:
    """All numbers alike: every product is the largest there is."""
    row = np.full((1, dim), 1 / np.sqrt(dim), np.float32)
    held, mean = Coarse(), np.zeros(dim, np.float32)
    mean[0] = 0.5
    held.follow(row)
    (found,) = compared(held, [0], row[0], mean)
    assert found == pytest.approx(cosine(row[0].astype(float) - mean, row[0].astype(float)), abs=1e-3)
