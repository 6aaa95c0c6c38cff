"""The language stage in a running worker: lists in an endpoint's order, and in the fused order where it fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from models.events import Click, Item, RecommendationList
from streams.clock import now_ms
from tests.streams.chat_endpoint import Endpoint
from tests.streams.flow import flow


def names(served: RecommendationList) -> list[str]:
    return [item.item_id for item in served.items]


def kettle_first(request: Any) -> str:
    numbered = re.findall(r"^(\d+)\. (.*)$", request["messages"][1]["content"], re.M)
    return str([int(number) for number, _ in sorted(numbered, key=lambda pair: "kettle" not in pair[1])])


def test_lists_go_out_in_the_order_of_the_endpoint_and_without_it_when_it_fails(kafka: Any, tmp_path: Path) -> None:
    endpoint = Endpoint()
    endpoint.say = kettle_first
    wishes = {"ranker": endpoint.url, "ranker_model": "m", "ranker_weight": "50", "ranker_budget_ms": "20000", "list_size": "3"}
    with flow(kafka.bootstrap, tmp_path, "language.", **wishes) as river:
        river.start()
        river.send_all([("items", Item(item_id=item, title=f"a {item}")) for item in ("lamp", "desk", "chair", "kettle")])
        likes = [("lamp", 4), ("desk", 3), ("chair", 2), ("kettle", 1)]
        for item, people in likes:
            river.send_all([("clicks", click(f"u{k}", item, 0)) for k in range(people)])
        river.settle()  # items and clicks come by ways of their own: without its words no list can be reordered
        river.send("clicks", click("ada", "lamp", 1))
        first = river.list_of("ada", lambda served: names(served)[:1] == ["kettle"])
        assert len(first.items) == 3
        assert any(reason.kind == "language" for reason in first.items[0].reasons)
        for item in first.items:
            assert abs(sum(reason.weight for reason in item.reasons) - item.score) < 1e-9
        assert river.metric("freshet_language_lists_total", outcome="reordered") >= 1
        endpoint.status = 500
        river.send("clicks", click("ada", "desk", 2))
        second = river.list_of("ada", lambda served: served.list_id != first.list_id)
        assert [item.score for item in second.items] == sorted((item.score for item in second.items), reverse=True)
        assert river.metric("freshet_language_lists_total", outcome="failed") >= 1
    endpoint.close()


def click(user: str, item: str, k: int) -> Click:
    return Click(event_id=f"{user}-{item}-{k}", user_id=user, item_id=item, timestamp_ms=now_ms())
