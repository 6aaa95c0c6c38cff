"""Rows: are we fine, the objectives, the processes."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import JOB, SELECT, Panel, Query, Row
from deploy.grafana.queries import RATE, rate, total
from deploy.prometheus.objectives import OBJECTIVES

FINE: Final = Row(
    "Are we fine?",
    (
        Panel(
            "Alerts firing",
            "Alerts of ours that fire now. More than none: Prometheus' page Alerts names them, and their runbook entries "
            "say where to begin (docs/operations.md).",
            "short",
            [Query('count(ALERTS{alertname=~"Freshet.*", alertstate="firing"}) or vector(0)', "firing")],
            kind="stat",
            width=3,
            height=5,
            thresholds=((None, "green"), (1, "red")),
        ),
        Panel(
            "Within 1 s",
            "Share of events whose list was acknowledged within one second. The objective is 99 %. Below it: Pipeline, "
            "stages, then the lag. Runbook: FreshetFreshnessBurnsFast.",
            "percentunit",
            [
                Query(
                    f'sum(rate(freshet_freshness_seconds_bucket{{{SELECT}, le="1.0"}}{RATE})) '
                    f"/ (sum(rate(freshet_freshness_seconds_count{{{SELECT}}}{RATE})) > 0)",
                    "within 1 s",
                )
            ],
            kind="stat",
            width=4,
            height=5,
            maximum=1,
            decimals=2,
            thresholds=((None, "red"), (0.95, "orange"), (0.99, "green")),
        ),
        Panel(
            "Flow",
            "Share of the flow that works now: partitions with a ready worker; 0 while events wait and nobody takes any. "
            "Below 100 %: runbook FreshetFlowBurnsFast.",
            "percentunit",
            [Query(f"min(job:freshet_flow_up:ratio{{{JOB}}})", "works")],
            kind="stat",
            width=3,
            height=5,
            maximum=1,
            thresholds=((None, "red"), (0.5, "orange"), (1, "green")),
        ),
        Panel(
            "Events in",
            "Valid events per second over all input topics. Zero while platforms publish: is a worker with the ingest role "
            "ready, are messages refused (below)? Runbook: FreshetFlowBurnsFast.",
            "reqps",
            [Query(total("freshet_events_total"), "events/s")],
            kind="stat",
            width=3,
            height=5,
        ),
        Panel(
            "Lists out",
            "Acknowledged lists per second. Fewer than events is normal: several events of a user in one batch make one "
            "list, and an equal list is not sent. Zero while events come in: runbook FreshetStalled.",
            "reqps",
            [Query(total("freshet_lists_total"), "lists/s")],
            kind="stat",
            width=3,
            height=5,
        ),
        Panel(
            "Click-through rate, 1 h",
            "Of the items shown whose window ended in the last hour, the share that was clicked, over all arms. A fall: "
            "Quality. Runbook: FreshetCtrFell, FreshetAttributionLost.",
            "percentunit",
            [
                Query(
                    f"sum(rate(freshet_cohort_clicked_total{{{SELECT}}}[1h])) "
                    f"/ (sum(rate(freshet_cohort_shown_total{{{SELECT}}}[1h])) > 0)",
                    "CTR",
                )
            ],
            kind="stat",
            width=4,
            height=5,
            decimals=2,
        ),
        Panel(
            "Waiting records",
            "Records in Kafka that no agent has finished. Growing for minutes: Pipeline, waiting records by topic; add "
            "workers (or embedders, if the topic is item-texts). Runbook: FreshetStalled, FreshetEmbedderBehind.",
            "short",
            [Query(f"sum(freshet_lag_records{{{SELECT}}})", "records")],
            kind="stat",
            width=4,
            height=5,
            thresholds=((None, "green"), (1_000, "orange"), (10_000, "red")),
        ),
    ),
)


def _budget_left() -> list[Query]:
    return [Query(f"1 - {one.series('30d')}{{{JOB}}} / {one.budget:g}", f"{{{{job}}}} {one.name}") for one in OBJECTIVES]


OBJECTIVES_ROW: Final = Row(
    "Objectives",
    (
        Panel(
            "Error budget left, 30 days",
            "Of the errors that the objectives allow in 30 days, the share not used up yet (or since Prometheus has "
            "data). At 0 the objective is missed: no risky releases until it recovers; what used it up is beside. "
            "Runbook: the objective's BurnsSlowly entry, such as FreshetFreshnessBurnsSlowly.",
            "percentunit",
            _budget_left(),
            minimum=None,
            maximum=1,
            thresholds=((None, "red"), (0, "orange"), (0.25, "green")),
        ),
        Panel(
            "Share within 1 s, by window",
            "The windows that the freshness alerts look at. A dip in 5 m is an incident, one in 1 d is a habit. Which "
            "stage has grown: Pipeline. Runbook: FreshetFreshnessBurnsFast.",
            "percentunit",
            [
                Query(f"1 - job:freshet_freshness_errors:ratio_rate{window}{{{JOB}}}", f"{{{{job}}}} {window}")
                for window in ("5m", "1h", "6h", "1d")
            ],
            minimum=None,
            maximum=1,
            thresholds=((None, "red"), (0.99, "green")),
        ),
        Panel(
            "Flow, by window",
            "Share of the time and of the partitions for which the flow worked. Dips at restarts and rebalances "
            "(annotations) are short; longer ones: runbook FreshetFlowBurnsFast.",
            "percentunit",
            [
                Query(f"1 - job:freshet_flow_errors:ratio_rate{window}{{{JOB}}}", f"{{{{job}}}} {window}")
                for window in ("5m", "1h", "6h", "1d")
            ],
            minimum=None,
            maximum=1,
            thresholds=((None, "red"), (0.999, "green")),
        ),
        Panel(
            "Attribution and embedding, share good",
            "Clicks whose list is known, and texts whose vector came within a minute (objectives 95 % and 99 %). "
            "attribution falls: FreshetAttributionBurnsFast. embedding falls: FreshetEmbeddingBurnsFast.",
            "percentunit",
            [
                Query(f"1 - job:freshet_{name}_errors:ratio_rate{window}{{{JOB}}}", f"{{{{job}}}} {name} {window}")
                for name in ("attribution", "embedding")
                for window in ("30m", "6h")
            ],
            width=12,
            minimum=None,
            maximum=1,
        ),
        Panel(
            "Freshness",
            "Median and 99th percentile of the time from an event at the broker to its acknowledged list, over 5 minutes. "
            "p99 above a second: Pipeline, stages. Runbook: FreshetFreshnessBurnsFast.",
            "s",
            [
                Query(f"job:freshet_freshness_seconds:p50_5m{{{JOB}}}", "{{job}} p50"),
                Query(f"job:freshet_freshness_seconds:p99_5m{{{JOB}}}", "{{job}} p99"),
            ],
            width=12,
            thresholds=((None, "green"), (1, "red")),
        ),
    ),
)

PROCESSES: Final = Row(
    "Processes",
    (
        Panel(
            "Processes up and ready",
            "How many answer their scrape, and how many of these can work. Fewer than you run: FreshetDown. Up but not "
            "ready for longer than a start takes: FreshetNotReady.",
            "short",
            [
                Query(f"sum by (job) (up{{{SELECT}}})", "{{job}} up"),
                Query(f"sum by (job) (freshet_ready{{{SELECT}}})", "{{job}} ready"),
            ],
        ),
        Panel(
            "Starts",
            "Starts of each process within the range. Each costs its partitions some seconds. Again and again: the last "
            "log line before a start says why. Runbook: FreshetRestarts.",
            "short",
            [Query(f"changes(process_start_time_seconds{{{SELECT}}}{RATE})", "{{job}} {{instance}}")],
        ),
        Panel(
            "Age of the newest event",
            "How far the newest folded event lies behind the clock, by process. It grows when events stop or folding "
            "stops; it is large throughout a replay of old logs. Processes apart from each other: one replica is behind "
            "(restart it).",
            "s",
            [Query(f"time() - (freshet_last_event_timestamp_seconds{{{SELECT}}} > 0)", "{{instance}}")],
            minimum=None,
        ),
        Panel(
            "Warnings and errors logged",
            "Lines per second, after rate limits. They are on /statusz of the process, newest first, and in its log. "
            "CRITICAL is the last word of a process that ends itself.",
            "reqps",
            [Query(rate("freshet_log_lines_total", "job, level"), "{{job}} {{level}}")],
            width=12,
            stack=True,
        ),
        Panel(
            "Versions",
            "Processes by version. More than one for longer than a release takes: some were not restarted; finish the "
            "release or go back (docs/operations.md).",
            "short",
            [
                Query(
                    f"count by (version, python) (freshet_build_info{{{SELECT}}})", "{{version}}, Python {{python}}", instant=True
                )
            ],
            kind="bargauge",
            width=12,
        ),
    ),
)
