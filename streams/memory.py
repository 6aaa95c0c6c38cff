"""Memory that is not in use goes back to the system."""

from __future__ import annotations

import ctypes
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
