"""Our Prometheus rules as the tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules/freshet.yml"


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules with the key `kind`: record or alert."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def recorded() -> dict[str, set[str]]:
    """Recorded series -> its labels, which are the first part of its name: `job_arm:...` has job and arm."""
    return {rule["record"]: set(rule["record"].split(":")[0].split("_")) for rule in rules("record")}
