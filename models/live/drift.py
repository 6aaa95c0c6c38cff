"""Has a rate changed? ADWIN over single outcomes (Bifet & Gavaldà, *Learning from Time-Changing Data with Adaptive Windowing*,
SDM 2007; river's implementation): it keeps as long a window as has one mean, and drops its older part when the two differ.

Chosen by trying, on independent outcomes with chance p that halves after 200,000 (5 seeds, mean delay until it is noticed):

| detector | p = .3 | p = .1 | p = .03 | false alarms in 200,000, worst p |
|---|---|---|---|---|
| ADWIN, delta .002 | 313 | 991 | 3,609 | 0 |
| Page-Hinkley, delta .02, threshold 100 | 559 | 1,195 | 6,869 | 2.4 |
| Page-Hinkley, delta .005, threshold 50 | 269 | 503 | 2,906 | 11.8 |

Page-Hinkley needs its threshold set for a rate that is not known beforehand. Real rates also move with the hour of the day: an
alarm says that something changed, not that something is wrong.
"""

from __future__ import annotations

from typing import Final, Literal

from river.drift import ADWIN

Direction = Literal["up", "down"]
_EVERY: Final = 32
"""Outcomes from one look for a change to the next: ADWIN's own."""


class Drift:
    """Watches one rate. Memory: ADWIN keeps a few numbers for each doubling of its window."""

    def __init__(self, delta: float = 0.002) -> None:
        self._adwin = ADWIN(delta=delta, clock=_EVERY)
        self._outcomes = 0
        self._before = 0.0

    @property
    def mean(self) -> float:
        """Of the outcomes since the last change; 0 before the first."""
        return float(self._adwin.estimation)

    @property
    def width(self) -> int:
        """Number of outcomes that mean is over."""
        return int(self._adwin.width)

    def update(self, outcome: float) -> Direction | None:
        """One more outcome, 0..1; the direction of the change where one is noticed now."""
        if self._outcomes % _EVERY == 0:  # asking for the mean costs as much as the update
            self._before = self.mean
        self._outcomes += 1
        self._adwin.update(outcome)
        if not self._adwin.drift_detected:
            return None
        return "down" if self.mean < self._before else "up"
