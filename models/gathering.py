"""Scores of candidates by all sources that keep one of every item, by one kernel: one call for each source would take longer than
what is done in it.

Kernels take a set number of arrays, and there are as many of these as there are sources; so this one is given a table of where
they lie. Arrays move when they grow: the table holds them, and is made anew as soon as one is not the one that it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_not
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from models.kept import Kept
from models.kernel import kernel
from models.rows import Array
from models.sources.base import Source


def _loading(number: Any, width: Any) -> Any:
    """What loads a number from an address."""

    def load(_: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(builder.inttoptr(arguments[0], width.as_pointer()))

        return number(types.int64), code

    return intrinsic(load)


_float_at = cast(Callable[[int], float], _loading(types.float64, ir.DoubleType()))
_integer_at = cast(Callable[[int], int], _loading(types.int64, ir.IntType(64)))
_BEGIN, _STEP, _INTEGER, _ROW = range(4)
"""Of an array: address of the first item's number, bytes to the next, whether it is an integer, and the row for it."""
_DTYPES: Final = {np.dtype(np.float64): 0, np.dtype(np.int64): 1}


@kernel
def _gather(table: Array, items: Array, count: int, out: Array) -> None:
    """out[row, x] = number of items[x], for each array of the table."""
    for a in range(len(table)):
        begin, step, row = table[a, _BEGIN], table[a, _STEP], table[a, _ROW]
        if table[a, _INTEGER]:
            for x in range(count):
                out[row, x] = _integer_at(begin + step * items[x])
        else:
            for x in range(count):
                out[row, x] = _float_at(begin + step * items[x])


class Gathering(Kept):
    """See the module. All it holds is scratch; bound: one array of each source, which are the source's own."""

    scratch = ("_arrays", "_table")

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = [(row, source) for row, source in enumerate(sources) if source.spread is not None]
        self.others = [(row, source) for row, source in enumerate(sources) if source.spread is None]
        """Rows and sources that have to be asked."""
        self._arrays: list[Array | None] = [None] * len(self._sources)
        self._table: npt.NDArray[np.int64] = np.zeros((len(self._sources), 4), np.int64)

    def gather(self, items: Array, count: int, out: Array) -> None:
        """Scores of the first `count` of `items` for the query that the sources were asked last, each into its row of `out`."""
        arrays = [source.spread for _, source in self._sources]
        if any(map(is_not, arrays, self._arrays)):
            self._tabulate(arrays)
        _gather(self._table, items, count, out)

    def _tabulate(self, arrays: list[Array | None]) -> None:
        """Raises TypeError for an array that is neither of float64 nor of int64."""
        for line, (row, source), array in zip(self._table, self._sources, arrays, strict=True):
            if array is None or array.dtype not in _DTYPES:
                raise TypeError(f"{source.name}: scores of all items are float64 or int64")
            line[:] = array.ctypes.data + source.column * array.itemsize, array.strides[0], _DTYPES[array.dtype], row
        self._arrays = arrays
