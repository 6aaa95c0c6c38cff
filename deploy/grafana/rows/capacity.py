"""Rows: what the processes use, what they hold, how much room is left."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import SELECT, Panel, Query, Row
from deploy.grafana.queries import RATE, quantile, total

PROCESS: Final = Row(
    "Processes",
    (
        Panel(
            "CPU",
            "Cores in use by process. A worker uses at most about one (Python), an embedder its FRESHET_EMBEDDING_THREADS "
            "on top. There for minutes: add workers or embedders (docs/operations.md, capacity).",
            "short",
            [Query(f"rate(process_cpu_seconds_total{{{SELECT}}}{RATE})", "{{job}} {{instance}}")],
            thresholds=((None, "green"), (0.9, "orange")),
        ),
        Panel(
            "Memory",
            "Resident memory by process. It follows the model's entries (below) and doubles for a moment while a snapshot "
            "is written; growth without entries is a leak: restart the process and report it. Keep it under two thirds of "
            "the limit.",
            "bytes",
            [Query(f"process_resident_memory_bytes{{{SELECT}}}", "{{job}} {{instance}}")],
        ),
        Panel(
            "CPU per event",
            "CPU seconds of all processes over events, in and out of the model. It rises when batches become small "
            "(harmless at low rates) or the model grows. Twice its value at the same rate after a release: go back.",
            "s",
            [
                Query(f"{total('process_cpu_seconds_total')} / ({total('freshet_events_total')} > 0)", "CPU per event"),
            ],
        ),
        Panel(
            "Largest batches, p95 of records",
            "Near FRESHET_BATCH_EVENTS for minutes the workers are at their limit: they keep up by making fewer lists per "
            "event. Add workers, up to the number of partitions.",
            "short",
            [Query(quantile(0.95, "freshet_batch_records", "instance"), "{{instance}}")],
        ),
        Panel(
            "Open files",
            "Descriptors open over the most allowed, by process. Rising towards 1: connections are not closed; restart "
            "the process and report it.",
            "percentunit",
            [Query(f"process_open_fds{{{SELECT}}} / process_max_fds{{{SELECT}}}", "{{job}} {{instance}}")],
            maximum=1,
        ),
        Panel(
            "Series per process",
            "Series that Prometheus takes from each process at a scrape. It stays below 1,000; above, a label has got "
            "values it should not have (too many arms?).",
            "short",
            [Query(f"scrape_samples_scraped{{{SELECT}}}", "{{job}} {{instance}}")],
            thresholds=((None, "green"), (1_000, "red")),
        ),
    ),
)

STATE: Final = Row(
    "State",
    (
        Panel(
            "Model: share of its bounds",
            "Entries held over the most that may be held. At 100 % the oldest leave to make room, which is meant, but is "
            "the shop larger than the bound? Then raise the setting (docs/settings.md) and mind the process's memory.",
            "percentunit",
            [
                Query(
                    f"max by (part) (freshet_model_size{{{SELECT}}} / freshet_model_bound{{{SELECT}}})", "{{part}}", instant=True
                )
            ],
            kind="bargauge",
            width=12,
            height=14,
            maximum=1,
            thresholds=((None, "green"), (0.8, "orange"), (0.95, "red")),
        ),
        Panel(
            "Model: entries",
            "What each part holds, in the largest replica. It flattens at its bound. A sudden fall is a process that "
            "started anew and has not caught up: Pipeline, behind the log.",
            "short",
            [Query(f"max by (part) (freshet_model_size{{{SELECT}}})", "{{part}}")],
            width=12,
            height=14,
            log_scale=True,
            minimum=None,
        ),
    ),
)
