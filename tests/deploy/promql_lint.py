"""What is wrong with a PromQL query, seen from what the processes export. Shared by the tests of dashboards and rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

from deploy.inventory import Exported, exported, process

FROM_PROMETHEUS = {"job", "instance"}
OF_PROMETHEUS: dict[str, set[str]] = {
    "up": FROM_PROMETHEUS,
    "scrape_samples_scraped": FROM_PROMETHEUS,
    "ALERTS": {"alertname", "alertstate", "severity"},
}
COUNTING = {"rate", "increase"}
IDS = {"user_id", "item_id", "event_id", "list_id", "review_id", "session_id", "offset"}
"""What must never be a label."""


@dataclass(frozen=True)
class Selected:
    """One selector of a query. `function`: what is applied to its range, None for an instant one."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    function: str | None


def scraped() -> dict[str, Exported]:
    """Series name -> its metric."""
    return {series: metric for metric in exported() for series in metric.series}


def bucket_bounds(series: str) -> set[str]:
    """The `le` values of a histogram, as they are written."""
    return {
        sample.labels["le"]
        for family in process().registry.collect()
        for sample in family.samples
        if sample.name == series and "le" in sample.labels
    }


def substituted(expr: str) -> str:
    """A dashboard's query as Grafana would send it, with every variable at All."""
    return expr.replace("$__rate_interval", "1m").replace("$job", ".+").replace("$instance", ".+")


def selected(node: Any, function: str | None = None) -> Iterator[Selected]:
    """All selectors below `node`."""
    match node:
        case promql.VectorSelector():
            matchers = tuple((m.name, str(m.op).removeprefix("MatchOp."), m.value) for m in node.matchers.matchers)
            yield Selected(node.name, matchers, function)
        case promql.MatrixSelector():
            yield from selected(node.vector_selector, function)
        case promql.Call():
            for argument in node.args:
                yield from selected(argument, node.func.name)
        case _:
            for child in children(node):
                yield from selected(child, None)


def children(node: Any) -> list[Any]:
    match node:
        case promql.BinaryExpr():
            return [node.lhs, node.rhs]
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return [node.expr]
        case promql.Call():
            return list(node.args)
        case promql.MatrixSelector():
            return [node.vector_selector]
        case promql.VectorSelector() | promql.NumberLiteral() | promql.StringLiteral():
            return []
    raise TypeError(f"unknown part of a query: {node!r}")


def everything(node: Any) -> Iterator[Any]:
    yield node
    for child in children(node):
        yield from everything(child)


def problems(expr: str, recorded: Mapping[str, set[str]]) -> list[str]:
    """One sentence for each thing that is wrong. `recorded`: name of a recorded series -> its labels."""
    try:
        tree = promql.parse(expr)
    except ValueError as problem:
        return [f"does not parse: {problem}"]
    known = scraped()
    found = [sentence for one in selected(tree) for sentence in _selector_problems(one, known, recorded)]
    for node in everything(tree):
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            available = set().union(*(_labels(one.name, known, recorded) for one in selected(node.expr)))
            found += [f"groups by {label}, which nothing inside has" for label in set(node.modifier.labels) - available]
    return found


def _labels(name: str, known: Mapping[str, Exported], recorded: Mapping[str, set[str]]) -> set[str]:
    if name in recorded or name in OF_PROMETHEUS:
        return recorded.get(name) or OF_PROMETHEUS[name]
    own = set(known[name].labels) if name in known else set()
    return own | FROM_PROMETHEUS | ({"le"} if name.endswith("_bucket") else set())


def surviving(node: Any, recorded: Mapping[str, set[str]]) -> set[str]:
    """Labels that the result of a query surely has, besides those nobody knows of."""
    match node:
        case promql.VectorSelector():
            return _labels(node.name, scraped(), recorded)
        case promql.AggregateExpr():
            return set(node.modifier.labels) if node.modifier is not None else set()
        case promql.BinaryExpr():
            left, right = surviving(node.lhs, recorded), surviving(node.rhs, recorded)
            if str(node.op) == "or":
                return left & right
            return left or right  # a number has none; `and` and `unless` keep the left one's
        case _:
            return set().union(*(surviving(child, recorded) for child in children(node)))


def _selector_problems(one: Selected, known: Mapping[str, Exported], recorded: Mapping[str, set[str]]) -> Iterator[str]:
    if one.name not in known and one.name not in recorded and one.name not in OF_PROMETHEUS:
        yield f"nobody exports or records {one.name}"
        return
    for label, operator, value in one.matchers:
        if label not in _labels(one.name, known, recorded):
            yield f"{one.name} has no label {label}"
        elif not _possible(one.name, label, operator, value, known):
            yield f"{one.name} never has {label} {operator} {value!r}"
    if one.name in known:
        counts = known[one.name].kind in ("counter", "histogram", "summary")
        if counts and one.function not in COUNTING:
            yield f"{one.name} only grows: it belongs into rate or increase, not {one.function}"
        if not counts and one.function in COUNTING:
            yield f"{one.name} is a gauge: {one.function} of it means nothing"
    elif one.function in COUNTING:
        yield f"{one.name} is recorded already as a ratio, rate or quantile"


def _possible(name: str, label: str, operator: str, value: str, known: Mapping[str, Exported]) -> bool:
    """Can the matcher ever select something? Labels with open values can have any."""
    closed = known[name].labels.get(label, ()) if name in known else ()
    values = bucket_bounds(name) if label == "le" else set(closed)
    if not values:
        return True
    return any(re.fullmatch(value, v) for v in values) if operator == "Re" else value in values
