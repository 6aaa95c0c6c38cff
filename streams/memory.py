"""Memory that is not in use goes back to the system, and what stays in use is not looked through for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
"""As in glibc's <malloc.h>."""
_LARGE: Final = 1 << 20


def give_back_large() -> bool:
    """From here on whatever has a megabyte or more is the system's again as soon as it is freed; whether that could be arranged.

    Arrays of the model grow by being copied. glibc would keep ever larger ones for later (its threshold follows what is freed,
    up to 32 MB), and some hundred megabytes of model leave tens of megabytes of holes. Elsewhere, as with musl, nothing is done.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE))
    except (AttributeError, OSError):
        return False


@contextlib.contextmanager
def no_collections() -> Iterator[None]:
    """While a library of language models comes in: half a million objects, of which next to none is garbage. Python would look
    through all of them again and again, a tenth to a quarter of a second each time, for which lists would wait."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
