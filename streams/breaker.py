"""A circuit breaker: whoever is asked and does not answer is left alone for a while, and then asked once to see."""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Rests for `pause_s` after `failures` in a row. After it the next question is a trial: one more failure, and it rests again;
    one success, and everything is as before. For one event loop or thread."""

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures, self.pause_s, self._clock = failures, pause_s, clock
        self.in_a_row = 0
        self._resting_until = -float("inf")

    @property
    def rests(self) -> bool:
        """Whether nothing should be asked now."""
        return self._clock() < self._resting_until

    def succeeded(self) -> None:
        self.in_a_row = 0

    def failed(self) -> bool:
        """Whether it rests from now on."""
        self.in_a_row += 1
        if self.in_a_row < self.failures:
            return False
        self._resting_until = self._clock() + self.pause_s
        return True
