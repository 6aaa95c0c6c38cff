"""Write the rules of the objectives: `python -m deploy.prometheus.build`. The file is committed; a test compares.

For each objective: the share of errors over every window, and two alerts, one for a budget that burns fast and one for a budget
that burns slowly. All other rules are written by hand, in `rules/freshet.yml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from deploy.prometheus.objectives import FAST, LONG, OBJECTIVES, SLOW, WINDOWS, Objective

FOLDER: Final = Path(__file__).parent / "rules"
HEAD: Final = "# Generated from deploy/prometheus/objectives.py by python -m deploy.prometheus.build: edit there.\n"
Rule = dict[str, Any]


def rendered() -> dict[Path, str]:
    """File -> its text."""
    return {FOLDER / "objectives.yml": HEAD + yaml.dump({"groups": groups()}, sort_keys=False, width=128, Dumper=_Indented)}


def groups() -> list[dict[str, Any]]:
    """The rule groups: what is recorded often, what is recorded seldom, the alerts."""
    short = [_recorded(one, window) for one in OBJECTIVES for window in WINDOWS if window not in LONG]
    long = [_recorded(one, window) for one in OBJECTIVES for window in LONG]
    alerts = [alert for one in OBJECTIVES for alert in (_alert(one, "Fast"), _alert(one, "Slowly"))]
    return [
        {"name": "freshet-objectives", "rules": short},
        {"name": "freshet-objectives-long", "interval": "5m", "rules": long},
        {"name": "freshet-objectives-alerts", "rules": alerts},
    ]


def _recorded(objective: Objective, window: str) -> Rule:
    return {"record": objective.series(window), "expr": objective.errors.replace("$w", window)}


def _alert(objective: Objective, how: str) -> Rule:
    pairs = FAST if how == "Fast" else SLOW
    too_fast = [(f"{factor:g} * {objective.budget:g}", long, short) for factor, long, short in pairs]
    burning = " or ".join(
        f"({objective.series(long)} > {limit} and {objective.series(short)} > {limit})" for limit, long, short in too_fast
    )
    counts = " + ".join(f"sum by (job) (increase({counter}[1h]))" for counter in objective.counted)
    enough = f" and on (job) ({counts} >= {objective.needed})" if counts else ""
    page = objective.pages and how == "Fast"
    return {
        "alert": f"{objective.alert}Burns{how}",
        "expr": f"({burning}){enough}",
        "for": "2m" if how == "Fast" else "15m",
        "labels": {"severity": "page" if page else "ticket", "objective": objective.name},
        "annotations": {
            "summary": "{{ $labels.job }}: {{ $value | humanizePercentage }} " + objective.sentence,
            "impact": f"{objective.impact} {_gone(pairs)}",
            "runbook_url": f"docs/operations.md#{objective.alert.lower()}burns{how.lower()}",
        },
    }


def _gone(pairs: tuple[tuple[float, str, str], ...]) -> str:
    days = 30 / pairs[-1][0]
    return f"The month's budget of errors is gone in at most {days:g} days at this rate."


class _Indented(yaml.SafeDumper):
    """Lists are indented below their key, as everywhere else in this project's YAML."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def main() -> None:
    """Write them."""
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
