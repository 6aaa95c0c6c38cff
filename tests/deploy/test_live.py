"""The whole of Freshet under a real Prometheus with our rules: every query of every panel and rule is answered with data, and
faults turn on the alerts they should, no others, and only while they last.

Durations are shortened by the tables in `prometheus.py`; how long real ones take is what the unit tests of the rules are about.
"""

from __future__ import annotations

import http.server
import itertools
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import Struct

from deploy.grafana.build import rendered
from models.events import Click, encode
from streams.clock import now_ms
from streams.embedded_kafka import EmbeddedKafka
from streams.scrape import scrape
from tests.deploy.prometheus import ALERTMANAGER, PROMETHEUS, Api, alertmanager, prometheus, shortened, wait
from tests.deploy.promql_lint import substituted
from tests.deploy.rule_files import RULES, rules
from tests.deploy.stage import Stage, stage

# Debian's package, which only root can install: .ci/run does, make test must not. The rules have unit tests beside it.
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian: apt-get install prometheus)")
CLICKS = 40
"""So many make a rate of which less than a third is chance."""
QUIET_S = 240.0
"""A bound for the longest shortened window to forget what was."""


class Posted(Struct):
    """What Alertmanager has posted: (status, alert, severity)."""

    alerts: list[tuple[str, str, str]] = []


@pytest.fixture(scope="module")
def posted() -> Iterator[tuple[int, Posted]]:
    """A webhook on loopback: its port and what came."""
    kept = Posted()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept.alerts += [(a["status"], a["labels"]["alertname"], a["labels"]["severity"]) for a in body["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, kept
    server.shutdown()


@pytest.fixture(scope="module")
def running(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(kafka.bootstrap, tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture(scope="module")
def api(running: Stage, posted: tuple[int, Posted], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Prometheus, when it has seen enough to answer; with Alertmanager where there is one."""
    folder = tmp_path_factory.mktemp("watch")
    targets = {
        "freshet-worker": [running.worker_port],
        "freshet-embedder": [running.embedder_port],
        "qdrant": [running.qdrant_port],
    }
    if ALERTMANAGER is None:
        with prometheus(folder / "prometheus", targets) as found:
            yield found
        return
    with (
        alertmanager(folder / "alertmanager", posted[0]) as port,
        prometheus(folder / "prometheus", targets, alertmanager=port) as found,
    ):
        yield found


def panel_queries() -> list[Any]:
    return [
        pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}")
        for path, text in rendered().items()
        for panel in json.loads(text)["panels"]
        for target in panel.get("targets", ())
    ]


def annotation_queries() -> list[Any]:
    board = json.loads(next(iter(rendered().values())))
    return [pytest.param(mark["target"]["expr"], id=mark["name"]) for mark in board["annotations"]["list"]]


@pytest.mark.parametrize("expr", panel_queries())
def test_every_query_of_every_panel_returns_numbers(api: Api, expr: str) -> None:
    def answered() -> bool:
        found = api.query(substituted(expr))
        return bool(found) and all(one["value"][1] != "NaN" for one in found)

    wait(answered, expr)


@pytest.mark.parametrize("expr", annotation_queries())
def test_queries_of_annotations_are_accepted_and_say_nothing_while_nothing_happens(api: Api, expr: str) -> None:
    wait(lambda: api.query(substituted(expr).replace("[1m]", "[5s]")) == [], expr)


@pytest.mark.parametrize("name", [rule["record"] for rule in rules("record")])
def test_every_recorded_series_is_there(api: Api, name: str) -> None:
    assert wait(lambda: api.query(name), name)


def test_every_rule_is_evaluated_without_fault(api: Api) -> None:
    def once() -> list[dict[str, Any]]:
        """All of them, when each has had its turn."""
        groups = json.loads(api.get("/api/v1/rules"))["data"]["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in found) else found

    evaluated = wait(once, "every rule has been evaluated")
    assert len(evaluated) == len(rules("record")) + len(rules("alert"))
    assert {rule["health"] for rule in evaluated} == {"ok"}


def test_promtool_finds_nothing_to_say_about_our_metrics(running: Stage) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None
    for port in (running.worker_port, running.embedder_port):
        text = Api(port).get("/metrics")
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
        assert (done.returncode, done.stderr.decode()) == (0, "")


def test_a_process_has_fewer_than_a_thousand_series(api: Api) -> None:
    def both() -> list[dict[str, Any]]:
        found = api.query('scrape_samples_scraped{job=~"freshet.*"}')
        return found if len(found) == 2 else []

    found = wait(both, "both are scraped")
    assert all(int(one["value"][1]) < 1_000 for one in found)


def test_click_through_rate_is_measured_on_what_the_platform_shows(api: Api, running: Stage) -> None:
    """The shop tells what it shows, which is less than what is served; the recorded rate is over the former."""

    def measured() -> dict[str, float] | None:
        """Rate by origin, once both have enough clicks to say something: on a busy machine the first lists are clicked late."""
        reading = scrape(f"http://127.0.0.1:{running.worker_port}/metrics")
        clicked = (
            {origin: reading.total("freshet_cohort_clicked_total", origin=origin) for origin in ("platform", "served")}
            if reading
            else {}
        )
        if reading is None or min(clicked.values()) < CLICKS:
            return None
        return {origin: n / reading.total("freshet_cohort_shown_total", origin=origin) for origin, n in clicked.items()}

    rates = wait(measured, "clicks on what was shown and on what was served")
    assert rates["platform"] > 1.2 * rates["served"] > 0

    def recorded() -> bool:
        """The rule is evaluated after the scrape, and over less time."""
        found, now = api.query("job_arm:freshet_cohort_ctr:ratio_rate1h"), measured()
        return now is not None and [float(one["value"][1]) for one in found] == [pytest.approx(now["platform"], rel=0.5)]

    wait(recorded, "the recorded rate is that of what the platform shows")


# ------------------------------------------------------------------------------------------------ faults
FRESHNESS = {"FreshetFreshnessBurnsFast", "FreshetFreshnessBurnsSlowly"}
FLOW = {"FreshetFlowBurnsFast", "FreshetFlowBurnsSlowly"}


class Watch:
    """What fires. A machine that is too busy to make every list within a second makes the freshness alerts fire by itself, and
    rightly: then they are no answer to a fault, and left out where nobody asks for them."""

    def __init__(self, api: Api, running: Stage) -> None:
        self.api, self.running = api, running
        self._late = False

    def firing(self, asked: frozenset[str] = frozenset()) -> set[str]:
        found = self.api.firing()
        return found - (FRESHNESS - asked) if self._machine_is_late() else found

    def _machine_is_late(self) -> bool:
        """As it was last, where the worker cannot be asked: what fired before it stopped goes on for a while."""
        now = scrape(f"http://127.0.0.1:{self.running.worker_port}/metrics")
        if now is not None and (count := now.total("freshet_freshness_seconds_count")):
            self._late = 1 - now.total("freshet_freshness_seconds_bucket", le="1.0") / count > 0.005
        return self._late

    def quiet(self) -> None:
        """Until no alert fires, and none does for a while."""
        looks = 0

        def silent() -> bool:
            nonlocal looks
            looks = looks + 1 if self.firing() == set() else 0
            return looks > 10

        wait(silent, "silence", QUIET_S)

    def during(self, fault: Callable[[], Any], *expected: str) -> set[str]:
        """Everything that fires from the fault on, until all that is expected does and for some seconds more."""
        fault()
        asked, seen = frozenset(expected), set[str]()

        def all_on() -> bool:
            now = self.firing(asked)
            seen.update(now)
            return asked <= now

        wait(all_on, f"all of {expected}", QUIET_S)
        for _ in range(20):
            seen.update(self.firing(asked))
            time.sleep(0.2)
        return seen


@pytest.fixture
def watch(api: Api, running: Stage) -> Watch:
    found = Watch(api, running)
    found.quiet()
    return found


def test_nothing_fires_while_all_is_well(watch: Watch) -> None:
    for _ in range(25):
        assert watch.firing() == set()
        time.sleep(0.2)


def test_qdrant_stopped(watch: Watch, running: Stage) -> None:
    expected = {"FreshetQdrantFails", "FreshetEmbedderBehind"}
    assert watch.during(lambda: running.stop("qdrant"), *expected) == expected
    reading = scrape(f"http://127.0.0.1:{running.worker_port}/metrics")
    assert reading is not None
    assert reading.total("freshet_ready") == 1.0, "lists do not need Qdrant"
    running.start_qdrant()
    watch.quiet()


def test_worker_stopped(watch: Watch, running: Stage, posted: tuple[int, Posted]) -> None:
    at_once = {"FreshetDown", "FreshetFlowBurnsFast", "FreshetFlowBurnsSlowly"}
    posted[1].alerts.clear()
    assert watch.during(lambda: running.stop("worker"), *at_once) == at_once
    # when it is back, it works off what has waited and says how late that is. Whether Prometheus sees that depends on the
    # machine: counters that jump before their first scrape have not increased
    assert watch.during(running.start_worker) - at_once - FRESHNESS == set()
    assert running.late() > 0
    watch.quiet()
    if ALERTMANAGER is not None:
        wait(lambda: ("resolved", "FreshetFlowBurnsFast", "page") in posted[1].alerts, "the page's end")
        assert ("firing", "FreshetFlowBurnsFast", "page") in posted[1].alerts
        assert ("firing", "FreshetDown", "ticket") in posted[1].alerts


def test_poison_flood(watch: Watch, running: Stage) -> None:
    stop = threading.Event()

    def flood() -> None:
        while not stop.wait(0.05):
            running.send("clicks", "poison", b"\xff no event")

    thread = threading.Thread(target=flood, daemon=True)
    try:
        assert watch.during(thread.start, "FreshetDeadLetters") == {"FreshetDeadLetters"}
    finally:  # else it would be the fault of every test after this one
        stop.set()
        thread.join()
    watch.quiet()


def test_more_people_at_once_than_lists_can_be_made_for(watch: Watch, running: Stage) -> None:
    """Bursts that take longer than a second each, until the alerts are on."""
    stop, numbers = threading.Event(), itertools.count()

    def bursts() -> None:
        while not stop.is_set():
            for user in range(5_000):
                event: dict[str, Any] = {"user_id": f"crowd{user}", "item_id": f"crowd{user % 50}", "timestamp_ms": now_ms()}
                running.send("clicks", event["user_id"], encode(Click(event_id=f"crowd{next(numbers)}", **event)))
            time.sleep(3)  # more bursts than can be worked off are no better a fault, and take longer to end

    thread = threading.Thread(target=bursts, daemon=True)
    try:
        fired = watch.during(thread.start, *FRESHNESS)
        assert fired >= FRESHNESS
        assert fired <= FRESHNESS | FLOW, "a batch may outlast the shortened two minutes in which one should have ended"
    finally:  # else it would be the fault of every test after this one
        stop.set()
        thread.join()
    watch.quiet()


def test_every_duration_of_the_rules_is_shortened() -> None:
    for path in RULES:
        text = shortened(path.read_text())
        assert not set("mhd") & {
            character for line in text.splitlines() if "for: " in line for character in line.split("for: ")[1]
        }
