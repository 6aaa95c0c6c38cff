"""A real Prometheus and a real Alertmanager on loopback, with our rules; durations can be shortened, so that a test sees alerts
come and go."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.rule_files import ROOT, RULES
from tests.streams.flow import free_port

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
PATIENCE_S = 180.0
"""A bound for a broken run, not a measurement."""

RANGES = {
    "2m": "4s", "5m": "5s", "10m": "6s", "15m": "8s", "30m": "10s", "1h": "15s", "2h": "15s", "6h": "20s", "1d": "30s",
    "3d": "40s", "30d": "60s",
}  # fmt: skip
"""What an hour is where a test has a minute: each range of the rules, shortened."""
PENDING = {"1m": "2s", "2m": "10s", "5m": "20s", "10m": "8s", "15m": "8s"}
"""Likewise for how long a condition must hold. Two minutes are more than it takes to find Kafka after a start, five are more than
a start takes, and so must be what stands for them."""


def shortened(text: str) -> str:
    """Rules with every range, pending time and interval shortened. KeyError for a duration that the tables above do not have."""
    text = re.sub(r"\[(\w+)\]", lambda found: f"[{RANGES[found[1]]}]", text)
    text = re.sub(r"(?m)^(\s+for: )(\w+)$", lambda found: found[1] + PENDING[found[2]], text)
    return re.sub(r"(?m)^(\s+interval: )\w+$", r"\g<1>1s", text)


class Api:
    """The HTTP interface of Prometheus or Alertmanager."""

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

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = json.loads(self.get("/api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def answers(self) -> bool:
        try:
            return bool(self.get("/-/ready"))
        except OSError:
            return False


def wait(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {patience_s:.0f} s"
        time.sleep(0.2)
    return found


@contextmanager
def _program(arguments: list[str], folder: Path, port: int) -> Iterator[Api]:
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder)
    try:
        api = Api(port)
        wait(lambda: api.answers() or server.poll() is not None, arguments[0])
        assert server.poll() is None, (folder / "log").read_text()
        yield api
    finally:
        server.terminate()
        server.wait(timeout=30)


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, list[int]], *, alertmanager: int | None = None) -> Iterator[Api]:
    """Prometheus with our rules, shortened. `targets`: job -> ports on loopback."""
    assert PROMETHEUS is not None
    (folder / "rules").mkdir(parents=True)
    for path in RULES:
        (folder / "rules" / path.name).write_text(shortened(path.read_text()))
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s"},
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            for job, ports in targets.items()
        ],
    }
    if alertmanager is not None:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    arguments = [
        PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with _program(arguments, folder, port) as api:
        yield api


@contextmanager
def alertmanager(folder: Path, webhook: int) -> Iterator[int]:
    """Alertmanager with our routes, impatient, posting to a port on loopback; its own port."""
    assert ALERTMANAGER is not None
    folder.mkdir(parents=True)
    text = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    text = text.replace("url_file: /run/secrets/alert_webhook", f"url: http://127.0.0.1:{webhook}/")
    text = re.sub(r"(?m)^(\s+(group_wait|group_interval): )\w+$", r"\g<1>1s", text)
    (folder / "alertmanager.yml").write_text(text)
    port = free_port()
    arguments = [
        ALERTMANAGER, f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with _program(arguments, folder, port):
        yield port
