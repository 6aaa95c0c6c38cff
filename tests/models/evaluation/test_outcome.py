"""Passes compared: paired by list, clustered by user, and only where both have tested the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation import Plan, Protocol, run
from models.evaluation.metrics import MISS
from models.evaluation.outcome import MEASURES, Outcome, differences
from models.events import Click, Event


def outcome(users: list[int], n: int = 10, item_events: list[int] | None = None, **ranks: list[int]) -> Outcome:
    return Outcome(
        n=n, ranks={name: np.array(of, np.int32) for name, of in ranks.items()}, users=np.array(users),
        user_events=np.arange(len(users)), item_events=np.array(item_events or [9] * len(users)), report={},
    )  # fmt: skip


def test_a_difference_by_hand() -> None:
    """Ada: first place against a miss, and two misses; Bob: a miss against third place. HR 1/3 less 1/3: d = 1, 0, -1, mean 0;
    the users' sums are 1 and -1, so se = sqrt(2) / 3. MRR: 1 - 1/3 = 2/3 over 3; sums less the mean: 1 - 4/9 and -1/3 - 2/9."""
    a, b = outcome([0, 0, 1], fused=[0, MISS, MISS]), outcome([0, 0, 1], fused=[MISS, MISS, 2])
    found = differences(a, b)
    assert found is not None
    assert (found["hr"].mean, found["hr"].se) == pytest.approx((0.0, math.sqrt(2) / 3))
    assert (found["mrr"].mean, found["mrr"].se) == pytest.approx((2 / 9, math.sqrt(2) * (5 / 9) / 3))


def test_ranks_beyond_the_list_are_misses() -> None:
    found = differences(outcome([0], n=2, fused=[2]), outcome([0], n=2, fused=[MISS]))
    assert found is not None
    assert found["hr"].mean == 0.0


def test_segments_and_sources_may_differ() -> None:
    both = outcome([0, 1, 2], item_events=[2, 9, 0], fused=[0, MISS, MISS], one=[MISS, 0, MISS], two=[MISS, 0, 0])
    cold = differences(both, both, other_source="one", segment="cold item")
    assert cold is not None
    assert cold["hr"].mean == 1.0
    assert both.best() == "two"
    assert both.best("cold item") == "one"  # nobody hits: the first
    assert differences(both, both, segment="warm user") is None
    measured = both.measured("two", "warm item")
    assert measured is not None
    assert (measured.n, measured.hr.mean) == (1, 1.0)


def test_other_events_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="same events"):
        differences(outcome([0, 1], fused=[0, 0]), outcome([0, 0], fused=[0, 0]))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 12), st.integers(-1, 12)), min_size=1, max_size=40))
def test_differences_are_those_of_the_lists_one_by_one(rows: list[tuple[int, int, int]]) -> None:
    """The naive twin: a measure of each list, subtracted, summed by user."""
    users, ours, theirs = map(list, zip(*rows, strict=True))
    found = differences(outcome(users, fused=ours), outcome(users, fused=theirs))
    assert found is not None
    gain: dict[str, Any] = {
        "hr": lambda r: float(0 <= r < 10),
        "ndcg": lambda r: 1 / math.log2(r + 2) if 0 <= r < 10 else 0.0,
        "mrr": lambda r: 1 / (r + 1) if 0 <= r < 10 else 0.0,
    }
    for measure in MEASURES:
        d = [gain[measure](a) - gain[measure](b) for a, b in zip(ours, theirs, strict=True)]
        mean = sum(d) / len(d)
        sums = [sum(x - mean for x, u in zip(d, users, strict=True) if u == user) for user in set(users)]
        assert found[measure].mean == pytest.approx(mean, abs=1e-12)
        assert found[measure].se == pytest.approx(math.sqrt(sum(s * s for s in sums)) / len(d), abs=1e-12)


def test_a_pass_becomes_an_outcome() -> None:
    class Echo:
        """Lists the user's own name, which is never an item."""

        def lists(self, query: Any, n: int) -> dict[str, list[str]]:
            return {"fused": ["x"], "echo": [query.user_id], query.kind: [query.event_id]}

        def predict(self, user_id: str, item_id: str) -> None:
            return None

        def learn(self, event: Any) -> None:
            pass

    log: list[Event] = [Click(event_id=f"e{k}", user_id=f"u{k % 2}", item_id="xyz"[k], timestamp_ms=k + 1) for k in range(3)]
    found = Outcome.of(run(Echo(), Plan(log, Protocol(warmup=0))))
    assert found.ranks["fused"].tolist() == [0, MISS, MISS]
    assert found.ranks["click"].tolist() == [MISS] * 3  # event ids are known, items are not
    assert found.users.tolist() == [0, 1, 0]
    assert found.report["sources"]["fused"]["hr"] == pytest.approx(1 / 3)
