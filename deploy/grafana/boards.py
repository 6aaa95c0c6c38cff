"""The four dashboards, each of rows that `rows/` describes."""

from __future__ import annotations

from deploy.grafana.panels import Json, dashboard
from deploy.grafana.rows.capacity import PROCESS, STATE
from deploy.grafana.rows.fine import FINE, OBJECTIVES_ROW, PROCESSES
from deploy.grafana.rows.quality import CLICKS, DRIFT, TESTS, VARIETY
from deploy.grafana.rows.snapshots import SNAPSHOTS
from deploy.grafana.rows.text import TEXT
from deploy.grafana.rows.traffic import ERRORS, FLOW, GROUP, IN_AND_OUT
from deploy.grafana.rows.weights import WEIGHTS


def boards() -> dict[str, Json]:
    """Name of the file -> the dashboard's JSON."""
    return {
        "overview": dashboard(
            uid="freshet-overview",
            title="Freshet: overview",
            description="Are we fine? If not, where to look. What to do: docs/operations.md.",
            rows=[FINE, OBJECTIVES_ROW, IN_AND_OUT, ERRORS, PROCESSES],
        ),
        "quality": dashboard(
            uid="freshet-quality",
            title="Freshet: quality",
            description="Are the lists good? Tested on what people do next, clicked or not, varied or not, changing or not.",
            rows=[TESTS, CLICKS, VARIETY, DRIFT],
        ),
        "pipeline": dashboard(
            uid="freshet-pipeline",
            title="Freshet: pipeline",
            description="From events to lists, stage by stage: who works, what waits, what is slow.",
            rows=[GROUP, FLOW, TEXT, WEIGHTS],
        ),
        "capacity": dashboard(
            uid="freshet-capacity",
            title="Freshet: capacity",
            description="What processes use, what they hold beside their bounds, snapshots.",
            rows=[PROCESS, STATE, SNAPSHOTS],
        ),
    }
