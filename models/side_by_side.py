"""Sums that stand side by side, added to at once.

Several sources add up in one walk, and what they have for an item or a peer lies in one row of `WIDTH` numbers. A compiler has to
suppose that what is written to one array is read from another, and so loads, adds and stores one number after the other; here it
is told to do all at once. Each sum is rounded as if it were made alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

WIDTH: Final = 4
"""Numbers of a row that are added to."""
_ROW: Final = ir.VectorType(ir.DoubleType(), WIDTH)
_ALIGN: Final = 8
"""Bytes: a row need not begin where a register's worth does."""


def _refuse_others(*arrays: Any) -> None:
    if any((array.dtype, array.layout) != (types.float64, "C") for array in arrays):
        raise TypingError(f"contiguous arrays of float64 are needed, not {', '.join(map(str, arrays))}")


def _begin(context: Any, builder: Any, kind: Any, array: Any, row: Any = None) -> Any:
    """Where a row (None: an array of one dimension) begins."""
    made = context.make_array(kind)(context, builder, array)
    begin = builder.bitcast(made.data, ir.IntType(8).as_pointer())
    if row is not None:
        begin = builder.gep(begin, [builder.mul(row, cgutils.unpack_tuple(builder, made.strides)[0])])
    return builder.bitcast(begin, _ROW.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def _add(_: Any, out: Any, row: Any, what: Any) -> Any:
    _refuse_others(out, what)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of = signature.args
        sums = _begin(context, builder, of[0], arguments[0], arguments[1])
        more = builder.load(_begin(context, builder, of[2], arguments[2]), align=_ALIGN)
        builder.store(builder.fadd(builder.load(sums, align=_ALIGN), more), sums, align=_ALIGN)
        return context.get_dummy_value()

    return types.void(out, types.intp, what), code


@intrinsic  # type: ignore[untyped-decorator]
def _add_product(_: Any, out: Any, row: Any, factors: Any, at: Any, what: Any) -> Any:
    _refuse_others(out, factors, what)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of = signature.args
        sums = _begin(context, builder, of[0], arguments[0], arguments[1])
        factor = builder.load(_begin(context, builder, of[2], arguments[2], arguments[3]), align=_ALIGN)
        more = builder.fmul(builder.load(_begin(context, builder, of[4], arguments[4]), align=_ALIGN), factor)
        builder.store(builder.fadd(builder.load(sums, align=_ALIGN), more), sums, align=_ALIGN)
        return context.get_dummy_value()

    return types.void(out, types.intp, factors, types.intp, what), code


add = cast(Callable[[Any, Any, Any], None], _add)
"""add(out, row, what): out[row, :WIDTH] += what[:WIDTH]. `out` is (n, WIDTH or more) and `what` (WIDTH or more,). In kernels
only; whether the row is there nobody looks.

Raises:
    TypingError: (when it is compiled) arrays that are not contiguous or not of float64."""
add_product = cast(Callable[[Any, Any, Any, Any, Any], None], _add_product)
"""add_product(out, row, factors, at, what): out[row, :WIDTH] += what[:WIDTH] * factors[at, :WIDTH]; otherwise as `add`."""
