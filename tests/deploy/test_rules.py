"""Rules and scrape configuration: they parse, name what is exported, and alerts fire when they should and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.deploy.alert_cases import CASES
from tests.deploy.promql_lint import everything, problems
from tests.deploy.rule_files import ROOT, RULES, recorded, rules

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)")
RULE_KEYS = {"record", "alert", "expr", "for", "labels", "annotations"}
GROUP_KEYS = {"name", "rules", "interval"}


def all_rules() -> list[Any]:
    return [
        pytest.param(rule, id=rule.get("record") or rule.get("alert")) for kind in ("record", "alert") for rule in rules(kind)
    ]


@pytest.mark.parametrize("rule", all_rules())
def test_names_only_what_is_exported(rule: dict[str, Any]) -> None:
    assert problems(rule["expr"], recorded()) == []


@pytest.mark.parametrize("rule", rules("record"), ids=lambda rule: rule["record"])
def test_recorded_series_has_the_labels_its_name_says(rule: dict[str, Any]) -> None:
    """Every aggregation inside keeps exactly the labels of the level, besides le."""
    level = recorded()[rule["record"]]
    for node in everything(promql.parse(rule["expr"])):
        if isinstance(node, promql.AggregateExpr):
            grouped = set(node.modifier.labels) - {"le"}
            assert grouped == level or grouped < level, f"{rule['record']} groups by {grouped}"


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: rule["alert"])
def test_alert_says_what_happens_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "impact", "runbook_url"}
    assert re.fullmatch(r"\d+m", rule["for"])
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.M)
    assert anchor in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: rule["alert"])
def test_labels_in_texts_survive_the_expression(rule: dict[str, Any]) -> None:
    """`{{ $labels.x }}` of a label that an aggregation has removed would be empty in the message."""
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    groupings = [n.modifier.labels for n in everything(promql.parse(rule["expr"])) if isinstance(n, promql.AggregateExpr)]
    for labels in groupings:
        assert used <= set(labels)


def test_only_keys_that_every_prometheus_since_2_42_knows() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        assert set(group) <= GROUP_KEYS
        for rule in group["rules"]:
            assert set(rule) <= RULE_KEYS


@needs_promtool
def test_promtool_accepts_configuration_and_rules() -> None:
    done = subprocess.run(
        [PROMTOOL, "check", "config", "deploy/prometheus/prometheus.yml"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules('record')) + len(rules('alert'))} rules found" in done.stdout


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    """promtool runs the rules over each case's series; labels and texts of the alerts must come out as well."""
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(promtool_cases()))
    done = subprocess.run([PROMTOOL, "test", "rules", "cases.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def promtool_cases() -> dict[str, Any]:
    """`CASES` as promtool reads them."""
    by_name = {rule["alert"]: rule for rule in rules("alert")}
    tests = []
    for case in CASES:
        expected = []
        if case.labels is not None:
            rule = by_name[case.alert]
            texts = {name: filled(text, case.labels, case.value) for name, text in rule["annotations"].items()}
            expected = [{"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": texts}]
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [{"eval_time": f"{case.minute}m", "alertname": case.alert, "exp_alerts": expected}],
            }
        )
    return {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}


def filled(text: str, labels: dict[str, str], value: str) -> str:
    """An annotation as Prometheus expands it."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
    return re.sub(r"\{\{ \$value.*? \}\}", value, text)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    tested: dict[str, set[bool]] = {rule["alert"]: set() for rule in rules("alert")}
    for case in CASES:
        tested[case.alert].add(case.labels is not None)
    assert tested == {name: {True, False} for name in tested}
