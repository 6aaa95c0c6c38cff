"""The overview: are we fine, and if not, where to look. Rows in the order of the flow."""

from __future__ import annotations

from deploy.grafana.panels import Json, dashboard
from deploy.grafana.rows_flow import FINE, FLOW, FRESHNESS
from deploy.grafana.rows_snapshots import SNAPSHOTS
from deploy.grafana.rows_state import CTR, MODEL, TEXT


def overview() -> Json:
    """The dashboard's JSON."""
    return dashboard(
        uid="freshet-overview",
        title="Freshet: overview",
        description="From events to lists: flow, freshness, click-through rate, text, model. What to do: docs/operations.md.",
        tags=["freshet"],
        rows=[FINE, FLOW, FRESHNESS, CTR, TEXT, MODEL, SNAPSHOTS],
    )
