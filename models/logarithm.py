"""The natural logarithm, for kernels that need it of many numbers.

The C library works out one at a time, and a loop that calls it does nothing else side by side either. This one is arithmetic
alone, so that a compiler makes four or eight at once, and gives the same everywhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.kernel import inlined

_MANTISSA: Final = np.int64((1 << 52) - 1)
_LEAST: Final = np.int64(np.float64(np.sqrt(0.5)).view(np.int64))
_LN_2: Final = float(np.log(2.0))


@inlined
def log(y: float) -> float:
    """ln y of a normal number above 0, to 1e-15 of it, or to 1e-15 where it is below 1.

    y = m 2^e with sqrt(1/2) <= m < sqrt(2); with f = (m - 1) / (m + 1), |f| < 0.172, ln m = 2 artanh f =
    2 (f + f^3 / 3 + f^5 / 5 + ...), of which what follows f^21 is below 1e-17 (Abramowitz & Stegun 1964, 4.1.27).
    """
    bits = np.float64(y).view(np.int64) - _LEAST
    m = np.int64((bits & _MANTISSA) + _LEAST).view(np.float64)
    f = (m - 1.0) / (m + 1.0)
    z = f * f
    series = 1.0 / 21.0
    series = series * z + 1.0 / 19.0
    series = series * z + 1.0 / 17.0
    series = series * z + 1.0 / 15.0
    series = series * z + 1.0 / 13.0
    series = series * z + 1.0 / 11.0
    series = series * z + 1.0 / 9.0
    series = series * z + 1.0 / 7.0
    series = series * z + 1.0 / 5.0
    series = series * z + 1.0 / 3.0
    return float(np.float64(bits >> np.int64(52)) * _LN_2 + 2.0 * (f + f * z * series))
