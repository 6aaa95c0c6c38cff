"""Live quality on a real broker: each event is tested once, by its owner, before it is learned, and never by a replay."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from models.events import Click, Impression, Purchase, RecommendationList
from streams.clock import now_ms
from streams.scrape import Scrape, scrape
from tests.streams.flow import Flow, flow, free_port, settle, until

_prefixes = itertools.count()


@pytest.fixture
def river(kafka: Any, tmp_path: Path) -> Any:
    with flow(kafka.bootstrap, tmp_path, f"live{next(_prefixes)}.", model_repeats="never", cohort_window_s="20") as made:
        yield made


def click(user: str, item: str, k: int, **more: Any) -> Click:
    return Click(event_id=f"{user}-{item}-{k}", user_id=user, item_id=item, timestamp_ms=now_ms(), **more)


def crowd(river: Flow, people: int = 4) -> int:
    """Everybody likes a, b, c; how many clicks that was."""
    pairs = [(f"fan{u}", item) for u in range(people) for item in "abc"]
    river.send_all([("clicks", click(user, item, 0)) for user, item in pairs])
    return len(pairs)


def holds(item: str) -> Any:
    return lambda served: item in [one.item_id for one in served.items]


def test_the_list_that_was_out_is_tested_before_the_event_is_learned(river: Flow) -> None:
    worker = river.start()
    crowd(river)
    river.settle()
    river.send("clicks", click("ada", "a", 1))
    served: RecommendationList = river.list_of("ada", lambda s: holds("b")(s) and not holds("a")(s))
    river.settle()
    before = {s: river.metric("freshet_quality_tests_total", source=s) for s in ("served", "fused", "item_cf")}
    hits = {s: river.metric("freshet_quality_hits_total", source=s) for s in before}
    gained = river.metric("freshet_quality_gain_total", source="served")
    river.send("clicks", click("ada", "b", 2, list_id=served.list_id))
    river.settle()
    assert {s: river.metric("freshet_quality_tests_total", source=s) for s in before} == {s: n + 1 for s, n in before.items()}
    assert {s: river.metric("freshet_quality_hits_total", source=s) for s in before} == {s: n + 1 for s, n in hits.items()}
    place = [one.item_id for one in served.items].index("b")
    assert river.metric("freshet_quality_gain_total", source="served") - gained == pytest.approx((1.0, 0.63093)[place], abs=1e-4)

    river.send("clicks", click("ada", "b", 2, list_id=served.list_id))  # the same event again
    river.send("purchases", Purchase(event_id="p1", user_id="ada", item_id="b", timestamp_ms=now_ms()))  # she has it already
    river.settle()
    assert river.metric("freshet_quality_tests_total", source="served") == before["served"] + 1
    tests = river.metric("freshet_quality_tests_total", source="fused")
    until(lambda: river.metric("freshet_recent_items") >= 2, "the gauges are refreshed")
    assert 0 <= river.metric("freshet_recent_gini") < 1
    served_tests = river.metric("freshet_quality_tests_total", source="served")
    until(lambda: river.metric("freshet_drift_window", signal="hit_rate") == served_tests, "all tests are in the drift's window")
    river.stop(worker)

    river.environment["FRESHET_SNAPSHOTS"] = "false"
    river.start()
    assert tests > 0
    assert river.metric("freshet_folded_total", kind="click") == river.metric("freshet_folded_total") - 1, "all folded again"
    assert river.metric("freshet_quality_tests_total") == 0, "what is read again tests nothing"


def test_two_workers_test_each_event_once(river: Flow) -> None:
    river.environment["FRESHET_QUALITY_PER_S"] = "1000"
    river.start("--roles", "ingest,recommend,attribute")
    first, second = river.metrics_port, free_port()
    river.environment["FRESHET_METRICS_PORT"] = str(second)
    river.start("--roles", "ingest,recommend,attribute", wait=False)

    def reading(port: int) -> Scrape:
        return scrape(f"http://127.0.0.1:{port}/metrics") or Scrape("", 0.0)

    def shares() -> list[float]:
        topic = river.settings.topic("interactions")
        return [reading(port).total("freshet_owned_partitions", topic=topic) for port in (first, second)]

    until(lambda: shares() == [2.0, 2.0], "two partitions each")
    until(lambda: all(reading(port).total("freshet_ready") == 1.0 for port in (first, second)), "both are ready")
    sent = crowd(river, people=20)
    tested = [0.0, 0.0]

    def all_tested() -> bool:
        tested[:] = [reading(port).total("freshet_quality_tests_total", source="fused") for port in (first, second)]
        return sum(tested) >= sent

    until(all_tested, f"{sent} tests in all")
    settle(river.settings, first, second)  # who owns a partition may be ahead of who only folds it
    assert all_tested()
    assert all(reading(port).total("freshet_folded_total", kind="click") == sent for port in (first, second)), "both fold all"
    assert sum(tested) == sent
    assert min(tested) > 0


def test_cohorts_are_counted_when_their_window_is_over(river: Flow) -> None:
    river.start()
    crowd(river)
    river.send("clicks", click("ada", "a", 1))
    served = river.list_of("ada", holds("b"))
    river.settle()
    shown = [one.item_id for one in served.items][:2]
    river.send(
        "impressions", Impression(event_id="i1", user_id="ada", list_id=served.list_id, items=shown, timestamp_ms=now_ms())
    )
    river.send("clicks", click("ada", shown[1], 2, list_id=served.list_id, position=2))
    river.settle()
    assert river.metric("freshet_cohort_clicked_total") == 0, "its window is not over"

    def passed() -> bool:
        river.send("clicks", click("ada", f"other-{now_ms()}", 3))  # time passes with the log
        return river.metric("freshet_cohort_shown_total", origin="platform") == 2

    until(passed, "the two items shown are counted")
    clicked = {p: river.metric("freshet_cohort_clicked_total", origin="platform", position=p) for p in ("1", "2-3")}
    assert clicked == {"1": 0.0, "2-3": 1.0}
    assert river.metric("freshet_cohort_clicked_total", origin="served", position="2-3") >= 1


def test_beyond_the_budget_only_the_list_that_was_out_is_tested(river: Flow) -> None:
    river.environment["FRESHET_QUALITY_PER_S"] = "1"
    river.start()
    sent = crowd(river)
    until(lambda: river.metric("freshet_folded_total", kind="click") == sent, "all folded")
    until(lambda: river.metric("freshet_lists_total", audience="strangers") > 0, "a list for strangers")
    river.settle()
    for user in "xyz":  # strangers: the list for them was out
        river.send("clicks", click(user, "a", 1))
    river.settle()
    assert river.metric("freshet_quality_tests_total", source="served") >= 3
    assert 1 <= river.metric("freshet_quality_tests_total", source="fused") < sent
