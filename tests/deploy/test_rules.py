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

from deploy.prometheus.build import rendered
from tests.deploy.alert_cases import CASES, RECORDED, Case, Recorded
from tests.deploy.promql_lint import everything, problems, selected, surviving
from tests.deploy.rule_files import ROOT, groups, recorded, rules

PROMTOOL = shutil.which("promtool")
# Of Debian's package prometheus, which only root can install: .ci/run does, make test must not
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)")
RULE_KEYS = {"record", "alert", "expr", "for", "labels", "annotations"}
GROUP_KEYS = {"name", "rules", "interval"}


def test_committed_objectives_are_the_generated_ones() -> None:
    """Else: python -m deploy.prometheus.build"""
    for path, text in rendered().items():
        assert path.read_text(encoding="utf-8") == text


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
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:  # without: one number, no series
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
    assert used <= surviving(promql.parse(rule["expr"]), recorded())


def test_only_keys_that_every_prometheus_since_2_42_knows() -> None:
    for group in groups():
        assert set(group) <= GROUP_KEYS
        for rule in group["rules"]:
            assert set(rule) <= RULE_KEYS


@needs_promtool
def test_promtool_accepts_configuration_and_rules() -> None:
    done = subprocess.run(
        [PROMTOOL, "check", "config", "deploy/prometheus/prometheus.yml"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = sum(int(count) for count in re.findall(r"(\d+) rules found", done.stdout))
    assert found == len(rules("record")) + len(rules("alert"))


@needs_promtool
@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules("alert")])
def test_alert_fires_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    """promtool runs the rules over each case's series; labels and texts of the alerts must come out as well."""
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "under-test", "rules": needed(alert)}]}))
    for k, case in enumerate(case for case in CASES if case.alert == alert):
        (tmp_path / f"case{k}.yml").write_text(yaml.safe_dump(promtool_case(case)))
    files = sorted(path.name for path in tmp_path.glob("case*.yml"))
    done = subprocess.run([PROMTOOL, "test", "rules", *files], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def needed(alert: str) -> list[dict[str, Any]]:
    """The alert and the recorded series it is made of, in the order of the files. All rules at every minute of three days would
    take promtool an hour."""
    by_name = {rule.get("record") or rule.get("alert"): rule for rule in [*rules("record"), *rules("alert")]}
    wanted, todo = set(), [alert]
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo += [
            one.name for one in selected(promql.parse(by_name[name]["expr"])) if one.name in by_name and one.name not in wanted
        ]
    return [rule for name, rule in by_name.items() if name in wanted]


def promtool_case(case: Case) -> dict[str, Any]:
    """A case as promtool reads it."""
    expected = []
    rule = next(rule for rule in rules("alert") if rule["alert"] == case.alert)
    if case.labels is not None:
        texts = {name: filled(text, case.labels, case.value) for name, text in rule["annotations"].items()}
        expected = [{"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": texts}]
    fired = {"eval_time": f"{case.minute}m", "alertname": case.alert, "exp_alerts": expected}
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    often = "1m" if case.minute < 1_000 or "Flow" in case.alert else "5m"  # the flow is watched minute by minute
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": often,
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": [fired]}],
    }


@needs_promtool
@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.record)
def test_recorded_series_have_the_value_they_should(case: Recorded, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "under-test", "rules": needed(case.record)}]}))
    expected = [{"labels": selector(labels), "value": value} for labels, value in case.samples.items()]
    asked = {"expr": f"round({case.record}, 1e-6)", "eval_time": f"{case.minute}m", "exp_samples": expected}
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}]
    (tmp_path / "case.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([PROMTOOL, "test", "rules", "case.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def selector(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ", ".join(f'{label}="{value}"' for label, value in labels) + "}"


def filled(text: str, labels: dict[str, str], value: str) -> str:
    """An annotation as Prometheus expands it."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
    return re.sub(r"\{\{ \$value.*? \}\}", value, text)


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    tested: dict[str, set[bool]] = {rule["alert"]: set() for rule in rules("alert")}
    for case in CASES:
        tested[case.alert].add(case.labels is not None)
    assert tested == {name: {True, False} for name in tested}
