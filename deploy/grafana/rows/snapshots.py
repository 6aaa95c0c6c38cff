"""Rows: snapshots of the state."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import SELECT, Panel, Query, Row
from deploy.grafana.queries import quantile, rate

SNAPSHOTS: Final = Row(
    "Snapshots",
    (
        Panel(
            "Snapshots by outcome",
            "Written every FRESHET_SNAPSHOT_INTERVAL_S while events come. Failed: the worker's log says why, mostly a "
            "full disk; the older ones stand. Damaged: found at a start and set aside.",
            "reqps",
            [Query(rate("freshet_snapshots_total", "outcome"), "{{outcome}}")],
            width=6,
        ),
        Panel(
            "Age of the newest snapshot",
            "What would be replayed from the log after a crash. It grows while nothing happens, and while snapshots fail.",
            "s",
            [
                Query(
                    f"time() - freshet_snapshot_timestamp_seconds{{{SELECT}}} "
                    f'and on (job, instance) freshet_model_size{{{SELECT}, part="users"}}',
                    "{{job}} {{instance}}",
                )
            ],
            width=6,
        ),
        Panel(
            "Stream held up by a snapshot, p99",
            "Forking the process. Above 50 ms: its memory has grown large; see the memory below.",
            "s",
            [Query(quantile(0.99, "freshet_snapshot_pause_seconds"), "all workers")],
            width=6,
        ),
        Panel(
            "Size of the newest snapshot, time to write it",
            "Three of this size must fit into the state directory. While it is written, memory that changes is held twice.",
            "short",
            [
                Query(f"max by (job) (freshet_snapshot_bytes{{{SELECT}}})", "{{job}}, bytes"),
                Query(f"max by (job) (freshet_snapshot_seconds{{{SELECT}}})", "{{job}}, seconds"),
            ],
            width=6,
            log_scale=True,
            minimum=None,
        ),
    ),
)
