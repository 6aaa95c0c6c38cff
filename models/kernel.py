"""The decorators of compiled functions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba as nb
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel(function: _F) -> _F:
    """Compile with numba on first use (nopython, IEEE arithmetic: results must not depend on the machine's vector width) and keep
    the code on disk beside the module.

    Numba's cache looks only at the file of the function itself; a kernel calls kernels of other files, so here the cache of
    each is stale as soon as any file with kernels has changed.

    It makes no arrays (numba refuses to compile it if it does), and so need not count references to those it is given: whoever
    calls holds them. Counting costs more than many a kernel does, an array 30 ns a call, and 10 ns where kernels call kernels.
    """
    return cast(_F, _compiled(function, _nrt=False))


def allocating_kernel(function: _F) -> _F:
    """A kernel that makes arrays, or assigns whole ones to others."""
    return cast(_F, _compiled(function, _nrt=True))


def dividing_kernel(function: _F) -> _F:
    """A kernel in which division by 0 is no error but gives infinity or nan, as IEEE says: without a branch for it in every step
    a compiler divides several numbers at once. It sees to it that nothing is divided by 0."""
    return cast(_F, _compiled(function, _nrt=False, error_model="numpy"))


def inlined(function: _F) -> _F:
    """A kernel that others take in where they call it: for small ones called again and again, where passing arrays would cost
    more than what is done with them."""
    return cast(_F, _compiled(function, inline="always"))


_LOOSE: Final = frozenset({"reassoc", "contract", "nsz"})


def loose_kernel(function: _F) -> _F:
    """As `kernel`, but sums may be re-associated (eight additions at a time). For what is no part of the exact state, that is for
    what is learned by gradient steps and for comparing vectors (where a library would add up in an order of its own, too)."""
    return cast(_F, _compiled(function, _nrt=False, fastmath=set(_LOOSE)))


def allocating_loose_kernel(function: _F) -> _F:
    """A loose kernel that makes arrays."""
    return cast(_F, _compiled(function, _nrt=True, fastmath=set(_LOOSE)))


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_: Any, array: Any, row: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        begin = builder.bitcast(made.data, byte)
        offset = builder.mul(arguments[1], cgutils.unpack_tuple(builder, made.strides)[0])
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        read, near, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [builder.gep(begin, [offset]), read, near, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), code


prefetch = cast(Callable[[Any, int], None], _prefetch)
"""prefetch(array, row): that row will be looked at soon. In kernels only, and without effect but on time: where rows lie all over
the memory, a processor waits for one after the other unless it is told of the next ones."""
_AHEAD: Final = 40
"""Steps that take as long as memory does: some 2 ns each."""
_NEAR: Final = 1 << 18
"""Bytes of an array that is at hand anyway."""


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Where nothing can be written (a read-only container without a volume) code is not kept: numba would refuse."""
    try:
        return _stamped(nb.njit(cache=True, **options)(function))
    except RuntimeError:
        return nb.njit(**options)(function)


def _stamped(compiled: Any) -> Any:
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)  # absent where caching is switched off
    if file is not None:
        file._source_stamp = _STAMP
    return compiled


def _stamp() -> str:
    """Hash of all files of this package that hold kernels, and of this one, which says how they are compiled."""
    digest, here = hashlib.sha256(), Path(__file__)
    for path in sorted(here.parent.rglob("*.py")):
        source = path.read_bytes()
        if path == here or any(
            b"\n@" + name in source
            for name in (b"kernel", b"inlined", b"intrinsic", b"loose_kernel", b"dividing_", b"allocating_")
        ):
            digest.update(source)
    return digest.hexdigest()


_STAMP = _stamp()


@inlined
def is_wide(array: Any) -> bool:
    """Whether an array is too large to be at hand."""
    return bool(array.nbytes > _NEAR)


@inlined
def ahead_in(array: Any) -> int:
    """How many steps ahead a loop had better ask (`prefetch`) for the rows of an array; of a small one never, that is many."""
    return _AHEAD if is_wide(array) else 1 << 40
