"""Small builders of Grafana's dashboard JSON (schema version 39 and later reads it): queries, panels, rows, the dashboard.

Plain dictionaries out. Every panel must have a title, a unit and a description which says what to do when it looks bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
WIDTH: Final = 24
"""Columns of Grafana's grid."""
JOB: Final = 'job=~"$job"'
SELECT: Final = 'job=~"$job", instance=~"$instance"'
"""Label matchers of a recorded series (which has no instance) and of a scraped one."""


@dataclass(frozen=True)
class Query:
    """One PromQL query and how its series are called; `instant` for a number, not a course."""

    expr: str
    legend: str = "__auto"
    instant: bool = False
    heatmap: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. `kind`: timeseries, stat, heatmap or bargauge. `thresholds`: (from this value on, colour),
    the first from minus infinity."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stack: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    decimals: int | None = None
    thresholds: Sequence[tuple[float | None, str]] = ((None, "green"),)
    log_scale: bool = False


@dataclass(frozen=True)
class Row:
    """A titled band of panels, laid out from left to right."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


TAG: Final = "freshet"
"""Of every dashboard of ours; they link to each other by it."""


def dashboard(*, uid: str, title: str, description: str, rows: Sequence[Row]) -> Json:
    """The whole dashboard, as provisioned: not editable, the last hour, refreshed every ten seconds; with links to the others and
    marks where processes started and partitions were dealt out anew."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # one crosshair through all panels
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [_datasource_variable(), _variable("job", "freshet_ready"), _variable("instance", _of_job("freshet_ready"))]
        },
        "annotations": {"list": [_restarts(), _rebalances()]},
        "links": [_links()],
        "panels": _layout(rows),
    }


def _restarts() -> Json:
    return _annotation("Starts", "orange", f"changes(process_start_time_seconds{{{SELECT}}}[1m]) > 0", "{{job}} started")


def _rebalances() -> Json:
    query = f"increase(freshet_rebalance_seconds_count{{{SELECT}}}[1m]) > 0"
    return _annotation("Rebalances", "purple", query, "{{job}}: partitions dealt out anew")


def _annotation(name: str, color: str, expr: str, title: str) -> Json:
    """A mark wherever the query has a value. A fixed range: a mark is as wide as it, whatever the zoom."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "target": {"expr": expr, "interval": "15s", "refId": "Anno"},
        "titleFormat": title,
        "textFormat": "{{instance}}",
        "tagKeys": "job",
        "useValueForTime": False,
    }


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": "Freshet",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _of_job(metric: str) -> str:
    return f"{metric}{{{JOB}}}"


def _datasource_variable() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(label: str, series: str) -> Json:
    query = f"label_values({series}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"{label}-values"},
        "refresh": 2,  # whenever the time range changes: workers come and go
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def _layout(rows: Sequence[Row]) -> list[Json]:
    """Panels with their places and ids (from 1); a panel that does not fit into the line begins a new one."""
    out: list[Json] = []
    y = 0
    for row in rows:
        out.append(
            {
                "id": len(out) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": _place(0, y, WIDTH, 1),
            }
        )
        y += 1
        x = line = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, line = 0, y + line, 0
            out.append({"id": len(out) + 1, "gridPos": _place(x, y, panel.width, panel.height), **_panel(panel)})
            x, line = x + panel.width, max(line, panel.height)
        y += line
    return out


def _place(x: int, y: int, w: int, h: int) -> Json:
    return {"x": x, "y": y, "w": w, "h": h}


def _panel(panel: Panel) -> Json:
    defaults: Json = {
        "unit": panel.unit,
        "min": panel.minimum,
        "max": panel.maximum,
        "decimals": panel.decimals,
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in panel.thresholds]},
        "custom": _custom(panel),
    }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(query, chr(ord("A") + k)) for k, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": {k: v for k, v in defaults.items() if v is not None}, "overrides": []},
        "options": _options(panel),
    }


def _target(query: Query, ref: str) -> Json:
    target: Json = {
        "refId": ref,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": query.instant,
        "range": not query.instant,
    }
    return target | {"format": "heatmap"} if query.heatmap else target


def _custom(panel: Panel) -> Json | None:
    if panel.kind != "timeseries":
        return None
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if panel.stack else 10,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stack else "none"},
        "thresholdsStyle": {"mode": "line" if len(panel.thresholds) > 1 else "off"},
        "scaleDistribution": {"type": "log", "log": 10} if panel.log_scale else {"type": "linear"},
    }


def _options(panel: Panel) -> Json:
    match panel.kind:
        case "timeseries":
            return {
                "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {"colorMode": "background", "graphMode": "area", "textMode": "auto", "reduceOptions": _last()}
        case "bargauge":
            return {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": _last()}
        case "heatmap":
            return {
                "calculate": False,
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                "yAxis": {"unit": panel.unit},
                "rowsFrame": {"layout": "le"},
            }
    raise ValueError(f"{panel.title}: there is no builder for panels of kind {panel.kind!r}")


def _last() -> Json:
    return {"calcs": ["lastNotNull"], "fields": "", "values": False}
