"""The objectives: what share of what must be good over 30 days, and how fast the budget of errors may burn until an alert.

Windows and factors are those of the *Site Reliability Workbook* (chapter 5): an alert looks at a long window, so that it means
something, and at a short one, so that it ends when the trouble does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")
LONG: Final = ("1d", "3d", "30d")
"""Windows that change slowly and cost more: evaluated every five minutes."""
FAST: Final = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
"""(times the budget's even rate, long window, short window): at 14.4 times, a fiftieth of the month's is gone in an hour."""
SLOW: Final = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))


@dataclass(frozen=True)
class Objective:
    """`errors` is PromQL with `$w` for the window: the share of errors, by job. `counted` are the counters of what it is a share
    of (none: of time itself); alerts need at least `needed` in an hour, for one slow event at night is no incident. `pages`:
    whether fast burning wakes somebody. `sentence` goes on after "12 % "."""

    name: str
    alert: str
    target: float
    sentence: str
    impact: str
    errors: str
    counted: tuple[str, ...] = ()
    needed: int = 0
    pages: bool = True

    @property
    def budget(self) -> float:
        """Share that may be bad."""
        return round(1 - self.target, 6)

    def series(self, window: str) -> str:
        """Name of the recorded share of errors."""
        return f"job:freshet_{self.name}_errors:ratio_rate{window}"


def rate(series: str) -> str:
    """PromQL: events per second, by job."""
    return f"sum by (job) (rate({series}[$w]))"


def share(bad: str, everything: str) -> str:
    """PromQL: the share of the bad; no sample while nothing happens."""
    return f"{bad} / ({everything} > 0)"


def late(histogram: str, within: str) -> str:
    """PromQL: the share of a histogram's observations above one of its bounds."""
    return "1 - " + share(rate(f'{histogram}_bucket{{le="{within}"}}'), rate(f"{histogram}_count"))


_ATTRIBUTED: Final = rate("freshet_clicks_attributed_total")
_UNATTRIBUTED: Final = rate("freshet_clicks_unattributed_total")
_NO_LIST: Final = rate('freshet_clicks_unattributed_total{reason="no_list"}')
_UNKNOWN: Final = rate("freshet_clicks_of_unknown_list_total")

OBJECTIVES: Final = (
    Objective(
        name="freshness",
        alert="FreshetFreshness",
        target=0.99,
        sentence="of the events waited more than 1 s for their list.",
        impact="People see lists that do not know their last click.",
        errors=late("freshet_freshness_seconds", "1.0"),
        counted=("freshet_freshness_seconds_count",),
        needed=100,
    ),
    Objective(
        name="flow",
        alert="FreshetFlow",
        target=0.999,
        sentence="of the flow stood still: partitions without a ready worker, or events that nobody takes.",
        impact="The lists of the people in these partitions do not change. Nothing is lost, the log keeps the events.",
        errors="1 - avg_over_time(job:freshet_flow_up:ratio[$w])",
    ),
    Objective(
        name="attribution",
        alert="FreshetAttribution",
        target=0.95,
        sentence="of the clicks came from people without a list, or named a list that nobody remembers.",
        impact="Click-through rates are too low, and experiments may be read wrongly.",
        errors=share(f"({_NO_LIST} + {_UNKNOWN})", f"({_ATTRIBUTED} + {_UNATTRIBUTED})"),
        counted=("freshet_clicks_attributed_total", "freshet_clicks_unattributed_total"),
        needed=100,
        pages=False,
    ),
    Objective(
        name="embedding",
        alert="FreshetEmbedding",
        target=0.99,
        sentence="of the texts waited more than 60 s for their vector.",
        impact="New reviews and descriptions do not yet speak for their items; lists are made without them.",
        errors=late("freshet_text_delay_seconds", "60.0"),
        counted=("freshet_text_delay_seconds_count",),
        needed=100,
        pages=False,
    ),
)
