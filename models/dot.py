"""The dot product of a row of bytes and a vector of 16-bit whole numbers, many numbers at a time.

Such products are what most of the time of comparing thousands of coarse vectors goes into. A processor has an instruction for it
(multiply 16-bit numbers, add neighbouring products); a compiler that is given a plain loop finds it, but uses half its width.
Sums are exact, so it does not matter in which order they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

_AT_ONCE: Final = 32
"""Numbers: enough for the widest registers; on others a compiler splits them."""
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def _wide(kind: Any, count: int = _AT_ONCE) -> Any:
    return ir.VectorType(kind, count)


def _read(builder: Any, begin: Any, at: Any, kind: Any) -> Any:
    """The numbers from place `at`, each as 32 bits."""
    place = builder.bitcast(builder.gep(begin, [at]), kind.as_pointer())
    wide = _wide(_I32) if isinstance(kind, ir.VectorType) else _I32
    return builder.sext(builder.load(place, align=1), wide)


def _neighbours_added(builder: Any, products: Any) -> Any:
    """The sums of each two that stand side by side."""
    even, odd = (ir.Constant(_wide(_I32, _AT_ONCE // 2), list(range(first, _AT_ONCE, 2))) for first in (0, 1))
    return builder.add(builder.shuffle_vector(products, products, even), builder.shuffle_vector(products, products, odd))


def _summed(builder: Any, vector: Any) -> Any:
    name = f"llvm.vector.reduce.add.v{_AT_ONCE // 2}i32"
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, [vector.type]), name), [vector])


@intrinsic  # type: ignore[untyped-decorator]
def _dot(_: Any, rows: Any, row: Any, whole: Any) -> Any:
    if (rows.dtype, rows.ndim, rows.layout, whole.dtype, whole.layout) != (types.int8, 2, "C", types.int16, "C"):
        raise TypingError(f"dot: rows of int8 and a vector of int16 are needed, both contiguous, not {rows} and {whole}")

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrix = context.make_array(signature.args[0])(context, builder, arguments[0])
        vector = context.make_array(signature.args[2])(context, builder, arguments[2])
        offset = builder.mul(arguments[1], cgutils.unpack_tuple(builder, matrix.strides)[0])
        bytes_ = builder.gep(builder.bitcast(matrix.data, _I8.as_pointer()), [offset])
        words = builder.bitcast(vector.data, _I16.as_pointer())
        count = cgutils.unpack_tuple(builder, vector.shape)[0]
        at_once = ir.Constant(_I64, _AT_ONCE)
        chunks = builder.sdiv(count, at_once)
        sums = cgutils.alloca_once_value(builder, ir.Constant(_wide(_I32, _AT_ONCE // 2), [0] * (_AT_ONCE // 2)))
        with cgutils.for_range(builder, chunks) as loop:
            at = builder.mul(loop.index, at_once)
            products = builder.mul(_read(builder, bytes_, at, _wide(_I8)), _read(builder, words, at, _wide(_I16)))
            builder.store(builder.add(builder.load(sums), _neighbours_added(builder, products)), sums)
        total = cgutils.alloca_once_value(builder, _summed(builder, builder.load(sums)))
        with cgutils.for_range_slice(builder, builder.mul(chunks, at_once), count, ir.Constant(_I64, 1)) as (at, _count):
            product = builder.mul(_read(builder, bytes_, at, _I8), _read(builder, words, at, _I16))
            builder.store(builder.add(builder.load(total), product), total)
        return builder.load(total)

    return types.int32(rows, types.intp, whole), code


dot = cast(Callable[[Any, int, Any], int], _dot)
"""dot(rows, row, whole): the sum of rows[row, d] * whole[d] over all d of `whole`, which must fit into 32 bits. `rows` is (n, as
many or more) int8 and `whole` int16, both contiguous. In kernels only.

Raises:
    TypingError: (when it is compiled) other arrays."""
