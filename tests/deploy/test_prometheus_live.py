"""A real Prometheus with our rules scrapes a process's metrics: every query of every panel and rule is answered with data."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from deploy.grafana.build import rendered
from deploy.inventory import process
from streams import clock
from streams.health import serve
from streams.metrics import POSITIONS, Metrics
from tests.deploy.promql_lint import substituted
from tests.deploy.rule_files import RULES, rules

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian: apt-get install prometheus)")
PATIENCE_S = 60.0
"""A bound for a broken run, not a measurement."""


def exercise(metrics: Metrics) -> None:
    """Everything happens once: each counter and histogram of a process with all roles moves."""
    for name, value in vars(metrics).items():
        for child in value.values() if isinstance(value, dict) else [value]:
            if name.startswith("_") or hasattr(child, "set"):
                continue  # counted below, by their own methods
            if hasattr(child, "observe"):
                child.observe(0.02)
            elif hasattr(child, "inc"):
                child.inc()
    metrics.ready.set(1)
    metrics.last_event.set(clock.now_ms() / 1000)
    for position in (1, 2, 5, 12):
        metrics.shown("default", [position] * 3, "platform")
        metrics.shown("default", [position] * 10, "served")
        metrics.click("default", position)


class Api:
    """Prometheus's HTTP interface on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.base + path, timeout=10) as answer:  # noqa: S310  http to our own server
            body: bytes = answer.read()
        return body

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expr})))["data"][
            "result"
        ]
        return found

    def answers(self) -> bool:
        try:
            return bool(self.get("/-/ready"))
        except OSError:
            return False


def wait(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {PATIENCE_S:.0f} s"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def exporter() -> Iterator[int]:
    """A process's `/metrics` in which everything happens all the time; its port."""
    metrics, done = process(), threading.Event()

    def live() -> None:
        while not done.wait(0.1):
            exercise(metrics)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    yield serve(metrics.registry, None, "127.0.0.1", 0)
    done.set()
    thread.join()


@pytest.fixture(scope="module")
def prometheus(exporter: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Prometheus with our rules, once it has scraped and evaluated enough to answer."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in RULES],
        "scrape_configs": [{"job_name": "freshet-worker", "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        api = Api(port)
        wait(lambda: api.answers() or server.poll() is not None, "Prometheus")
        assert server.poll() is None, (folder / "log").read_text()
        last_recorded = rules("record")[-1]["record"]
        wait(lambda: api.query(last_recorded), f"{last_recorded} of the rules")
        yield api
    finally:
        server.terminate()
        server.wait(timeout=30)


def panel_queries() -> list[Any]:
    return [
        pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}")
        for path, text in rendered().items()
        for panel in json.loads(text)["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize("expr", panel_queries())
def test_every_query_of_every_panel_returns_numbers(prometheus: Api, expr: str) -> None:
    found = wait(lambda: prometheus.query(substituted(expr)), expr)
    assert all(one["value"][1] != "NaN" for one in found)


@pytest.mark.parametrize("name", [rule["record"] for rule in rules("record")])
def test_every_recorded_series_is_there(prometheus: Api, name: str) -> None:
    assert wait(lambda: prometheus.query(name), name)


def test_no_rule_fails_and_no_alert_fires_while_all_is_well(prometheus: Api) -> None:
    groups = json.loads(prometheus.get("/api/v1/rules"))["data"]["groups"]
    evaluated = [rule for group in groups for rule in group["rules"]]
    assert len(evaluated) == len(rules("record")) + len(rules("alert"))
    assert {rule["health"] for rule in evaluated} == {"ok"}
    assert [alert for rule in evaluated for alert in rule.get("alerts", ()) if alert["state"] == "firing"] == []


def test_click_through_rate_is_measured_on_the_platforms_impressions(prometheus: Api) -> None:
    """A click on 3 items that the platform showed, and on 10 that were served: 1/3, not 1/10 and not 1/13."""
    found = wait(lambda: prometheus.query("job_arm:freshet_ctr:ratio_rate1h"), "CTR")
    assert [one["metric"]["arm"] for one in found] == ["default"]
    by_position = prometheus.query("job_arm_position:freshet_ctr:ratio_rate1h")
    assert {one["metric"]["position"] for one in by_position} == set(POSITIONS)
    assert float(found[0]["value"][1]) == pytest.approx(1 / 3, rel=0.05)


def test_a_scrape_has_fewer_than_a_thousand_series(prometheus: Api) -> None:
    (samples,) = prometheus.query("scrape_samples_scraped")
    assert int(samples["value"][1]) < 1000
