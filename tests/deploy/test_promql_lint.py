"""The lint finds what it is there for: each kind of mistake, in a query that is otherwise right."""

from __future__ import annotations

import promql_parser as promql
import pytest

from tests.deploy.promql_lint import problems, selected

RECORDED = {"job:freshet_x:ratio": {"job"}}


@pytest.mark.parametrize(
    "expr",
    [
        'sum by (topic) (rate(freshet_events_total{job=~".+", topic="clicks"}[1m]))',
        'histogram_quantile(0.99, sum by (le) (rate(freshet_freshness_seconds_bucket{le="1.0"}[1m])))',
        'time() - (freshet_last_event_timestamp_seconds > 0) and on (job) up{job=~"freshet.*"} == 1',
        "1 - job:freshet_x:ratio",
    ],
)
def test_right_queries_have_no_problems(expr: str) -> None:
    assert problems(expr, RECORDED) == []


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("sum(rate(freshet_events_total[1m])", "does not parse"),
        ("freshet_misspelt", "nobody exports"),
        ("rate(freshet_events_total{user_id='ada'}[1m])", "no label user_id"),
        ("rate(freshet_events_total{topic='klicks'}[1m])", "never has topic"),
        ("sum(freshet_lag_records{topic=~'.*interaction'})", "never has topic"),
        ("rate(freshet_freshness_seconds_bucket{le='0.7'}[1m])", "never has le"),
        ("sum(freshet_events_total)", "only grows"),
        ("rate(freshet_ready[1m])", "is a gauge"),
        ("rate(job:freshet_x:ratio[5m])", "recorded already"),
        ("sum by (item_id) (rate(freshet_events_total[1m]))", "groups by item_id"),
        ("sum by (instance) (job:freshet_x:ratio)", "groups by instance"),
    ],
)
def test_each_mistake_is_named(expr: str, said: str) -> None:
    assert any(said in problem for problem in problems(expr, RECORDED)), problems(expr, RECORDED)


def test_selectors_are_found_wherever_they_stand() -> None:
    tree = promql.parse("(a > 0) or -max_over_time(sum(rate(b[1m]))[5m:1m]) unless on (x) topk(3, c)")
    assert [(one.name, one.function) for one in selected(tree)] == [("a", None), ("b", "rate"), ("c", None)]
