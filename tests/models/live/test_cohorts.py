"""Cohorts: each list is followed for its window and counted once, whatever order things are told in; the share is unbiased."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.live import Closed, Cohorts, Shown

W = 100


def to(user: str = "ada", list_id: str = "l", arm: str = "a") -> Shown:
    return Shown(user, list_id, arm)


def test_clicks_count_until_the_window_is_over_and_the_list_then() -> None:
    cohorts = Cohorts(W, 10)
    cohorts.shown(0, to(), "served", [1, 2, 3], 1_000)
    assert cohorts.close(0, 1_000 + W) == [], "a click at its very end still counts"
    cohorts.clicked(0, to(), ["served"], 2, 1_000 + W)
    assert cohorts.close(0, 1_001 + W) == [Closed("a", "served", 0b111, 0b010)]
    cohorts.clicked(0, to(), ["served"], 1, 1_002 + W)
    assert cohorts.close(0, 9_999) == [], "once, and what comes late changes nothing"


def test_a_click_may_be_told_before_its_impression() -> None:
    cohorts = Cohorts(W, 10)
    cohorts.clicked(0, to(), ["platform"], 2, 1_000)
    cohorts.shown(0, to(), "platform", [1, 2], 1_001)
    assert cohorts.close(0, 2_000) == [Closed("a", "platform", 0b11, 0b10)]


def test_only_what_was_shown_can_be_clicked() -> None:
    cohorts = Cohorts(W, 10)
    cohorts.shown(0, to(), "platform", [1], 1_000)
    cohorts.clicked(0, to(), ["platform"], 4, 1_001)
    assert cohorts.close(0, 2_000) == [Closed("a", "platform", 0b1, 0)]
    cohorts.clicked(0, to(list_id="m"), ["platform"], 1, 3_000)
    assert cohorts.close(0, 4_000) == [], "nothing of it was shown"


def test_strangers_share_a_list_but_not_its_clicks() -> None:
    cohorts = Cohorts(W, 10)
    cohorts.shown(0, to("ada"), "platform", [1], 1_000)
    cohorts.shown(0, to("bob"), "platform", [1], 1_000)
    cohorts.clicked(0, to("bob"), ["platform"], 1, 1_001)
    assert cohorts.close(0, 2_000) == [Closed("a", "platform", 1, 0), Closed("a", "platform", 1, 1)]


def test_partitions_have_clocks_of_their_own_and_leave_as_a_whole() -> None:
    cohorts = Cohorts(W, 10)
    cohorts.shown(0, to("ada"), "served", [1], 1_000)
    cohorts.shown(1, to("bob"), "served", [1], 1_000)
    assert len(cohorts.close(0, 5_000)) == 1
    assert len(cohorts) == 1
    cohorts.forget()
    assert cohorts.close(1, 5_000) == []
    assert len(cohorts) == 0


def test_the_bound_holds_and_a_fair_share_is_followed() -> None:
    """Ten times too many lists, a tenth of them clicked: the share of what is left is still a tenth."""
    cohorts, shown, clicked, most = Cohorts(W, 500), 0, 0, 0
    for k in range(50_000):
        at = 1_000 + k // 50
        for closed in cohorts.close(0, at):
            shown += 1
            clicked += closed.clicked
        cohorts.shown(0, to(list_id=str(k)), "served", [1], at)
        if k >= 2_000 and k % 10 == 0:
            cohorts.clicked(0, to(list_id=str(k - 2_000)), ["served"], 1, at)
        most = max(most, len(cohorts))
    assert most <= 500
    assert cohorts.share in (1 / 16, 1 / 32)
    assert shown > 1_500
    assert clicked / shown == pytest.approx(0.1, rel=0.2)
    for k in range(200):  # quiet again
        cohorts.close(0, 100_000 + k)
    assert cohorts.share == 1.0
    with pytest.raises(ValueError, match="at least 1"):
        Cohorts(W, 0)


def test_a_list_that_was_given_up_is_not_closed_by_its_old_date() -> None:
    cohorts = Cohorts(W, 2)
    cohorts.shown(0, to(), "served", [1], 1_000)
    while len(cohorts):
        cohorts._follow_fewer()
    cohorts._below = 1 << 64
    cohorts.shown(0, to(), "served", [1], 1_000 + W)
    assert cohorts.close(0, 1_001 + W) == [], "its window has just begun"
    assert len(cohorts.close(0, 1_001 + 2 * W)) == 1


def test_positions_beyond_reason_are_no_memory_leak() -> None:
    cohorts = Cohorts(W, 2)
    cohorts.shown(0, to(), "platform", [1, 10**9], 1_000)
    cohorts.clicked(0, to(), ["platform"], 10**9, 1_000)
    assert cohorts.close(0, 9_000) == [Closed("a", "platform", 1, 0)]


# ------------------------------------------------------------------------------------------------ a naive twin
OPS = st.lists(
    st.tuples(
        st.sampled_from(["shown", "clicked"]), st.integers(0, 1), st.integers(0, 2), st.integers(1, 4), st.integers(0, 60)
    ),
    max_size=40,
)  # fmt: skip


class Naive:
    """Keeps everything it was told and looks through all of it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str, int, int]] = []
        self.counted: set[tuple[str, int]] = set()  # list and the time it began

    def close(self, partition: int, now: int) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        for name in {told[2] for told in self.told if told[1] == partition}:
            of_list = [told for told in self.told if told[1] == partition and told[2] == name]
            begin = 0
            while begin < len(of_list):
                start = of_list[begin][4]
                inside = [told for told in of_list[begin:] if told[4] <= start + W]
                if now > start + W and (name, start) not in self.counted:
                    self.counted.add((name, start))
                    shown = {told[3] for told in inside if told[0] == "shown"}
                    clicked = {told[3] for told in inside if told[0] == "clicked"} & shown
                    if shown:
                        found[sum(1 << p - 1 for p in shown), sum(1 << p - 1 for p in clicked)] += 1
                begin += len(inside)
        return found


@given(OPS)
def test_it_counts_as_somebody_who_keeps_everything_does(ops: list[tuple[str, int, int, int, int]]) -> None:
    fast, slow = Cohorts(W, 1_000), Naive()
    now = [1_000, 1_000]
    for what, partition, name, position, later in ops:
        now[partition] += later + 1
        at = now[partition]
        key = f"{partition}-{name}"
        closed = Counter((c.shown, c.clicked) for c in fast.close(partition, at))
        assert closed == slow.close(partition, at)
        if what == "shown":
            fast.shown(partition, to(list_id=key), "platform", [position], at)
        else:
            fast.clicked(partition, to(list_id=key), ["platform"], position, at)
        slow.told.append((what, partition, key, position, at))
    for partition in (0, 1):
        assert Counter((c.shown, c.clicked) for c in fast.close(partition, 10**6)) == slow.close(partition, 10**6)


def test_the_share_is_right_where_clicks_over_views_is_not() -> None:
    """One item in ten is clicked, half a window after it was shown, while traffic grows by half each window."""
    cohorts, shown, clicked = Cohorts(W, 10**6), 0, 0
    events: list[tuple[int, str, Any]] = []
    made = 0
    for window in range(9):
        lists = int(40 * 1.5**window)
        for k in range(lists):
            at = window * W + k * W // lists
            events.append((at, "shown", to(list_id=str(made))))
            if made % 10 == 0:
                events.append((at + W // 2, "clicked", to(list_id=str(made))))
            made += 1
    views = clicks = 0
    for at, what, one in sorted(events, key=lambda event: event[0]):
        for closed in cohorts.close(0, at):
            shown += closed.shown.bit_count()
            clicked += closed.clicked.bit_count()
        last_window = 8 * W <= at < 9 * W
        if what == "shown":
            cohorts.shown(0, one, "served", [1], at)
            views += last_window
        else:
            cohorts.clicked(0, one, ["served"], 1, at)
            clicks += last_window
    assert shown > 2_000
    assert clicked / shown == pytest.approx(0.1, rel=0.01)
    assert clicks / views < 0.085, "the rate of the last window is too low by a sixth, though nothing has changed"
