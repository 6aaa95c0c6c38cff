"""What a pass has given, small enough to keep and complete enough to compare: the rank of every tested item in every list.

Two passes over one plan test the same events, so their lists are compared event by event. With d_e = a_e - b_e the difference of
a measure at one event, the mean of d has the standard error of `metrics.clustered`, clustered by user: what both passes find easy
or hard alike does not blur the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models.evaluation.metrics import Estimate, RankMetrics, Ranks, clustered, gains, rank_metrics
from models.evaluation.prequential import FUSED, SEGMENTS, Evaluation
from models.evaluation.report import report

MEASURES: Final = ("hr", "ndcg", "mrr")


class Outcome(Struct, frozen=True, kw_only=True):
    """`n`: places of a list; `ranks[source]`: (scored,), 0-based, `MISS` for a miss; `users`, `user_events`, `item_events`:
    (scored,), the user's number, and past events of user and item; `report`: as by `evaluation.report`."""

    n: int
    ranks: dict[str, Ranks]
    users: npt.NDArray[np.int64]
    user_events: npt.NDArray[np.int64]
    item_events: npt.NDArray[np.int64]
    report: dict[str, Any]

    @staticmethod
    def of(result: Evaluation) -> Outcome:
        """What the pass has measured."""
        return Outcome(
            n=result.plan.protocol.n, ranks=result.ranks, users=result.users, user_events=result.user_events,
            item_events=result.item_events, report=report(result),
        )  # fmt: skip

    def rows(self, segment: str) -> npt.NDArray[np.bool_]:
        """The tests of a segment, one of `SEGMENTS`."""
        return SEGMENTS[segment](self.user_events, self.item_events)

    def measured(self, source: str = FUSED, segment: str = "all") -> RankMetrics | None:
        """Measures of a source in a segment; None where nothing of it was tested."""
        rows = self.rows(segment)
        return rank_metrics(self.ranks[source][rows], self.users[rows], self.n)

    def best(self, segment: str = "all") -> str | None:
        """The single source with the most hits in a segment (of equal ones the first); None without any."""
        rows = self.rows(segment)
        singles = [name for name in self.ranks if name != FUSED]
        return max(singles, key=lambda name: int((self.ranks[name][rows] >= 0).sum()), default=None)


def differences(
    outcome: Outcome, other: Outcome, *, source: str = FUSED, other_source: str = FUSED, segment: str = "all"
) -> Mapping[str, Estimate] | None:
    """`outcome` minus `other` by measure (hr, ndcg, mrr), paired by event; None where the segment is empty.

    Raises:
        ValueError: the two have not tested the same events.
    """
    if not (np.array_equal(outcome.users, other.users) and np.array_equal(outcome.item_events, other.item_events)):
        raise ValueError("these passes have not tested the same events: their difference means nothing")
    rows = outcome.rows(segment)
    if not rows.any():
        return None
    _, cluster = np.unique(outcome.users[rows], return_inverse=True)
    ours = gains(outcome.ranks[source][rows], outcome.n)
    theirs = gains(other.ranks[other_source][rows], other.n)
    return {measure: clustered(ours[measure] - theirs[measure], cluster) for measure in MEASURES}
