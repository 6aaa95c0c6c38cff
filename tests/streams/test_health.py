"""Health pages: alive is not ready, every condition is named, nothing is answered but what is asked for."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from models.events import Click
from streams import logs, vitals
from streams.clock import now_ms
from streams.embedded_kafka import EmbeddedKafka
from streams.health import Condition, Health, serve
from streams.lanes import LaneStats
from streams.logs import Remembered
from streams.settings import Settings
from streams.status import Snapshot, changed, render
from tests.streams.flow import Flow, flow, until

FINE = Condition("loop", True, "turned 0 s ago")


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  http to our own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    return registry


def test_one_condition_that_fails_is_enough_and_is_named(registry: CollectorRegistry) -> None:
    conditions = [
        Condition("kafka", True, "a broker answered 1 s ago"),
        Condition("replica", False, "catching up, 7 records behind"),
    ]
    port = serve(registry, Health(lambda: FINE, lambda: conditions, lambda: "page"), "127.0.0.1", 0)
    code, text = get(port, "/readyz")
    assert code == 503
    assert text.splitlines() == ["ok  kafka: a broker answered 1 s ago", "NOT replica: catching up, 7 records behind"]
    assert get(port, "/healthz")[0] == 200, "not ready is no reason to be killed"
    conditions[1] = Condition("replica", True, "0 records behind")
    assert get(port, "/readyz")[0] == 200


def test_only_what_there_is_is_answered(registry: CollectorRegistry) -> None:
    port = serve(registry, Health(lambda: FINE, lambda: [FINE], lambda: "page"), "127.0.0.1", 0)
    assert get(port, "/statusz") == (200, "page")
    assert "things_total 1.0" in get(port, "/metrics")[1]
    assert get(port, "/")[1].split() == ["/healthz", "/readyz", "/statusz", "/metrics"]
    assert get(port, "/table/")[0] == 404
    assert get(port, "/../etc/passwd")[0] == 404
    assert get(port, "/healthz", "POST")[0] == 405
    assert get(port, "/healthz", "HEAD") == (200, "")
    metrics_only = serve(registry, None, "127.0.0.1", 0)
    assert get(metrics_only, "/healthz")[0] == 404
    assert get(metrics_only, "/metrics")[0] == 200


def test_it_listens_where_it_was_told_and_says_so_where_it_cannot(registry: CollectorRegistry) -> None:
    port = serve(registry, None, "127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        serve(registry, None, "127.0.0.1", port)
    with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
        socket.create_connection(("127.0.0.2", port), timeout=1).close()


def test_a_client_that_says_nothing_holds_up_nobody(registry: CollectorRegistry) -> None:
    port = serve(registry, None, "127.0.0.1", 0)
    silent = [http.client.HTTPConnection("127.0.0.1", port, timeout=5) for _ in range(20)]
    for client in silent:
        client.connect()
    assert get(port, "/metrics")[0] == 200
    for client in silent:
        client.close()


def page(**changes: object) -> str:
    stats = LaneStats()
    stats.begin(7)
    stats.end()
    values = {
        "settings": Settings(arm="b", qdrant_api_key="s3cret", sasl_password="s3cret"),
        "roles": ("recommend", "attribute"),
        "started_ms": now_ms() - 3_725_000,
        "conditions": [FINE],
        "done": {("clicks", 0): (5, 12), ("clicks", 1): (3, 3)},
        "folded": {("interactions", 0): (10, 10)},
        "agents": {"ingest": stats},
        "sizes": {"users": (50, 200)},
        "left_out": {"too_old": 3},
        "weights": {"trainer": "this process", "epoch, publication": "3, 17"},
        "remembered": [Remembered(0.0, "WARNING", "streams.app", "first"), Remembered(1.0, "ERROR", "streams.app", "last")],
        **changes,
    }
    return render(Snapshot(**values))  # type: ignore[arg-type]


def test_the_page_for_people_has_what_they_ask_for() -> None:
    text = page()
    lines = [line.split() for line in text.splitlines()]
    assert "READY, up 1 h 2 min" in text
    assert ["clicks", "0", "5", "12", "7"] in lines
    assert ["clicks", "1", "3", "3", "0"] in lines
    assert ["users", "50", "200", "25.0%"] in lines
    assert ["too_old", "3"] in lines
    assert ["trainer", "this", "process"] in lines
    assert text.index("last") < text.index("first"), "the newest first"
    assert any(line[:1] == ["python"] for line in lines)
    assert "NOT READY" in page(conditions=[Condition("group", False, "rebalancing")])


def test_the_page_says_which_settings_differ_but_no_secret() -> None:
    text = page()
    assert ["FRESHET_ARM", "b"] in [line.split() for line in text.splitlines()]
    assert "s3cret" not in text
    assert dict(changed(Settings(qdrant_api_key="x")))["FRESHET_QDRANT_API_KEY"] == "(set, not shown)"
    assert changed(Settings()) == []


def test_texts_of_warnings_cannot_forge_lines_of_the_page() -> None:
    text = page(remembered=[Remembered(0.0, "WARNING", "x", "a\nREADY, up 9 h")])
    assert "\nREADY, up 9 h" not in text


def test_a_loop_that_stands_still_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(vitals.time, "monotonic", lambda: now[0])
    found = object.__new__(vitals.Vitals)
    found._turned = None
    assert found.alive().holds, "it compiles"
    found._turned = 100.0
    now[0] += vitals.ALIVE_S - 1
    assert found.alive().holds
    now[0] += 2
    assert not found.alive().holds


# ------------------------------------------------------------------------------------------------ a real worker
def state(river: Flow, path: str) -> tuple[int, str]:
    try:
        return get(river.metrics_port, path)
    except OSError:
        return 0, ""


def test_a_worker_says_why_it_is_not_ready_and_recovers(tmp_path: Path) -> None:
    """Kafka goes away and comes back: alive all the time, ready only while a broker answers."""
    with EmbeddedKafka(data=tmp_path / "kafka") as kafka, flow(kafka.bootstrap, tmp_path, "health.") as river:
        worker = river.start()
        assert state(river, "/healthz")[0] == 200
        code, text = state(river, "/readyz")
        assert code == 200
        assert {line.split()[1] for line in text.splitlines()} == {"kafka:", "group:", "partitions:", "replica:", "embedder:"}
        river.send("clicks", Click(event_id="e1", user_id="ada-of-the-page", item_id="i1", timestamp_ms=now_ms()))
        river.send("clicks", b"no event", key="ada-of-the-page")
        river.settle()
        said = state(river, "/statusz")[1]
        row = [line.split() for line in said.splitlines()]
        assert ["health.interactions", "1"] in [cells[:2] for cells in row]
        assert any(cells[:1] == ["recommend"] and cells[1] == "1" for cells in row), said
        assert "ada-of-the-page" not in said
        assert river.metric("freshet_owned_partitions", topic="health.interactions") == 4
        assert river.metric("freshet_rebalance_seconds_count") >= 1

        kafka.kill()
        until(lambda: "NOT kafka" in state(river, "/readyz")[1], "not ready without Kafka")  # the group may notice before
        assert state(river, "/readyz")[0] == 503
        until(lambda: river.metric("freshet_condition", condition="kafka") == 0.0, "the metric says so too")
        until(lambda: river.metric("freshet_ready") == 0.0, "and the sum of the conditions")
        assert state(river, "/healthz")[0] == 200, "restarting it would not bring Kafka back"
        assert worker.poll() is None
        kafka.start()
        until(lambda: state(river, "/readyz")[0] == 200, "ready again")
        river.stop(worker)
        log = river.log()
    assert "reason=invalid_json" in log
    said = re.findall("no broker answers|Kafka answers again", log)
    assert said == ["no broker answers", "Kafka answers again"] * (len(said) // 2), "once when it goes and once when it comes"
    assert said
    assert "no event" not in log


def test_a_worker_whose_loop_is_held_up_is_reported(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """A stopped process answers no probe at all, which whoever watches it takes as dead."""
    with flow(kafka.bootstrap, tmp_path, "stuck.") as river:
        worker = river.start()
        worker.send_signal(signal.SIGSTOP)
        with pytest.raises(OSError, match="timed out"):
            urllib.request.urlopen(f"http://127.0.0.1:{river.metrics_port}/healthz", timeout=2)
        worker.send_signal(signal.SIGCONT)
        until(lambda: state(river, "/healthz")[0] == 200, "it goes on", 30)
        river.stop(worker)


def test_what_was_warned_of_is_remembered_and_counted() -> None:
    import logging

    before = logging.getLogger().handlers, logging.getLogger().level
    try:
        logs.configure("INFO")
        counted: list[str] = []
        logs.recent().count = counted.append
        logging.getLogger("streams.x").info("quiet")
        for k in range(60):
            logging.getLogger("streams.x").warning("warning %d", k, extra={"event_id": f"e{k}"})
        assert [line.text for line in logs.recent().lines()][-1] == "warning 59 event_id=e59"
        assert len(logs.recent().lines()) == 50
        assert counted == ["WARNING"] * 60
    finally:
        logging.getLogger().handlers, logging.getLogger().level = before
