"""The decorators of compiled functions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba as nb

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel(function: _F) -> _F:
    """Compile with numba on first use (nopython, IEEE arithmetic: results must not depend on the machine's vector width) and keep
    the code on disk beside the module.

    Numba's cache looks only at the file of the function itself; a kernel calls kernels of other files, so here the cache of
    each is stale as soon as any file with kernels has changed.
    """
    return cast(_F, _compiled(function))


def inlined(function: _F) -> _F:
    """A kernel that others take in where they call it: for small ones called again and again, where passing arrays would cost
    more than what is done with them."""
    return cast(_F, _compiled(function, inline="always"))


def loose_kernel(function: _F) -> _F:
    """As `kernel`, but sums may be re-associated (eight additions at a time). For what is no part of the exact state, that is for
    what is learned by gradient steps and for comparing vectors (where a library would add up in an order of its own, too)."""
    return cast(_F, _compiled(function, fastmath={"reassoc", "contract", "nsz"}))


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
    """Hash of all files of this package that hold kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source = path.read_bytes()
        if any(b"\n@" + name in source for name in (b"kernel", b"inlined", b"loose_kernel")):
            digest.update(source)
    return digest.hexdigest()


_STAMP = _stamp()
