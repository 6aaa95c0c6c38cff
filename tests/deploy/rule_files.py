"""Our Prometheus rules as the tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))


def groups() -> list[dict[str, Any]]:
    """Every group of every file."""
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules with the key `kind`: record or alert."""
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


def recorded() -> dict[str, set[str]]:
    """Recorded series -> its labels, which are the first part of its name: `job_arm:...` has job and arm."""
    return {rule["record"]: set(rule["record"].split(":")[0].split("_")) for rule in rules("record")}
