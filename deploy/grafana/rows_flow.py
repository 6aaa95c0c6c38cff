"""Rows: are we fine, the flow, freshness."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import JOB, SELECT, Panel, Query, Row
from deploy.grafana.queries import RATE, quantile, rate

OBJECTIVE: Final = 0.99
"""Share of the events whose list must be acknowledged within a second (the alerts' objective)."""

FINE: Final = Row(
    "Are we fine?",
    (
        Panel(
            "Within 1 s",
            "Share of events whose list was acknowledged within one second. The objective is 99 %. Below it: look at the "
            "stages, then at the lag. Runbook: FreshetFreshnessBurnsFast.",
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
            thresholds=((None, "red"), (0.95, "orange"), (OBJECTIVE, "green")),
        ),
        Panel(
            "Events in",
            "Valid events per second over all input topics. Zero while platforms publish: is a worker with the ingest role "
            "ready, are messages refused (dead letters)? Runbook: FreshetStalled.",
            "reqps",
            [Query(f"sum(rate(freshet_events_total{{{SELECT}}}{RATE}))", "events/s")],
            kind="stat",
            width=4,
            height=5,
        ),
        Panel(
            "Lists out",
            "Acknowledged lists per second. Fewer than events is normal: several events of a user in one batch make one list, "
            "and an equal list is not sent. Zero while events come in: runbook FreshetStalled.",
            "reqps",
            [Query(f"sum(rate(freshet_lists_total{{{SELECT}}}{RATE}))", "lists/s")],
            kind="stat",
            width=4,
            height=5,
        ),
        Panel(
            "Click-through rate, 1 h",
            "Attributed clicks over items shown in the last hour, over all arms. A fall without a fall of the events: did the "
            "lists go stale (freshness), did a platform stop sending list_id or impressions? Runbook: "
            "FreshetAttributionLost.",
            "percentunit",
            [
                Query(
                    f"sum(rate(freshet_clicks_attributed_total{{{SELECT}}}[1h])) / sum(job_arm:freshet_shown:rate1h{{{JOB}}})",
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
            "Records in Kafka that no agent has finished. Growing for minutes: add workers (or embedders, if the topic is "
            "item-texts). Runbook: FreshetStalled, FreshetEmbedderBehind.",
            "short",
            [Query(f"sum(freshet_lag_records{{{SELECT}}})", "records")],
            kind="stat",
            width=4,
            height=5,
            thresholds=((None, "green"), (1_000, "orange"), (10_000, "red")),
        ),
        Panel(
            "Processes not ready",
            "Processes that are up but have not caught up or own no partitions. A minute after a start is normal; longer: "
            "runbook FreshetNotReady.",
            "short",
            [Query(f"count(freshet_ready{{{SELECT}}}) - sum(freshet_ready{{{SELECT}}})", "not ready")],
            kind="stat",
            width=4,
            height=5,
            thresholds=((None, "green"), (1, "orange")),
        ),
    ),
)

FLOW: Final = Row(
    "Flow",
    (
        Panel(
            "Events in, by topic",
            "Valid events per second. A topic that falls silent while its platform works: look at its dead letters, then at "
            "the platform.",
            "reqps",
            [Query(rate("freshet_events_total", "topic"), "{{topic}}")],
            stack=True,
        ),
        Panel(
            "Refused messages, by reason",
            "Messages per second that went to dead-letters. Read them with `freshet dead-letters`; a new reason in bulk is a "
            "platform's release. Runbook: FreshetDeadLetters.",
            "reqps",
            [Query(rate("freshet_dead_letters_total", "topic, reason") + " > 0", "{{topic}}: {{reason}}")],
            stack=True,
        ),
        Panel(
            "Lists out, by arm",
            "Lists per second, by arm and audience, and lists that were made but found equal to the last one. Only unchanged "
            "lists: the model learns nothing new; is the replica folding?",
            "reqps",
            [
                Query(rate("freshet_lists_total", "arm, audience"), "{{arm}}, {{audience}}"),
                Query(f"sum(rate(freshet_lists_unchanged_total{{{SELECT}}}{RATE}))", "unchanged, not sent"),
            ],
        ),
        Panel(
            "Folded into the model, by kind",
            "Interactions per second that changed each replica's model, and those it knew already. Every replica folds "
            "everything, so the sum counts each interaction once per process. Many duplicates: a platform or a replay repeats "
            "itself; harmless.",
            "reqps",
            [
                Query(rate("freshet_folded_total", "kind"), "{{kind}}"),
                Query(f"sum(rate(freshet_duplicates_total{{{SELECT}}}{RATE}))", "known already"),
            ],
        ),
        Panel(
            "Age of the newest event",
            "How far the newest folded event lies behind the clock, by process. It grows when events stop or folding stops; "
            "it is large throughout a replay of old logs. Processes apart from each other: one replica is behind.",
            "s",
            [Query(f"time() - (freshet_last_event_timestamp_seconds{{{SELECT}}} > 0)", "{{instance}}")],
            minimum=None,
        ),
        Panel(
            "Records per batch",
            "Median and 95th percentile of what an agent takes at once. Batches grow when an agent falls behind: it then "
            "works cheaper per event, and later. At the bound (FRESHET_BATCH_EVENTS) for minutes: add workers.",
            "short",
            [
                Query(quantile(0.5, "freshet_batch_records", "agent"), "{{agent}} p50"),
                Query(quantile(0.95, "freshet_batch_records", "agent"), "{{agent}} p95"),
            ],
        ),
    ),
)

FRESHNESS: Final = Row(
    "Freshness: from an event at the broker to its acknowledged list",
    (
        Panel(
            "Freshness",
            "Median and 99th percentile. Above a second: which stage has grown (beside)? All of them: the machine is full. "
            "Runbook: FreshetFreshnessBurnsFast.",
            "s",
            [
                Query(quantile(0.5, "freshet_freshness_seconds"), "p50"),
                Query(quantile(0.99, "freshet_freshness_seconds"), "p99"),
            ],
            thresholds=((None, "green"), (1, "red")),
        ),
        Panel(
            "Stages, p99",
            "ingest: broker to log; wait: until the replica has folded the batch; recommend: making lists; emit: until "
            "acknowledged. ingest or emit high: Kafka is slow. wait high: folding is behind. recommend high: the model has "
            "grown or the cores are taken.",
            "s",
            [Query(quantile(0.99, "freshet_stage_seconds", "stage"), "{{stage}}")],
        ),
        Panel(
            "Distribution of freshness",
            "Events per second by the time they waited. A second band above the usual one is a single slow worker or "
            "partition: compare the instances.",
            "s",
            [Query(f"sum by (le) (rate(freshet_freshness_seconds_bucket{{{SELECT}}}{RATE}))", "{{le}}", heatmap=True)],
            kind="heatmap",
            minimum=None,
        ),
        Panel(
            "Share within 1 s, by window",
            "The objective's windows that the alerts look at. A dip in 5 m is an incident, one in 6 h is a habit.",
            "percentunit",
            [
                Query(f"job:freshet_fresh_within_1s:ratio_rate{window}{{{JOB}}}", f"{{{{job}}}} {window}")
                for window in ("5m", "1h", "6h")
            ],
            minimum=None,
            maximum=1,
            thresholds=((None, "red"), (OBJECTIVE, "green")),
        ),
        Panel(
            "Waiting records, by topic",
            "What the agents have not finished. One topic grows: its agent is too slow or stuck (look at its stage); all "
            "grow: Kafka or the machine.",
            "short",
            [Query(f"sum by (topic) (freshet_lag_records{{{SELECT}}})", "{{topic}}")],
        ),
        Panel(
            "Behind the log, by process",
            "Records that a process's replica has not folded. It falls to zero after a start. Stuck above zero: that process "
            "makes stale lists or none; restart it. Runbook: FreshetNotReady.",
            "short",
            [Query(f"sum by (instance) (freshet_replica_lag_records{{{SELECT}}})", "{{instance}}")],
        ),
    ),
)
