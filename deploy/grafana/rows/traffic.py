"""Rows: what goes in and out, what is refused."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import JOB, SELECT, Panel, Query, Row
from deploy.grafana.queries import RATE, quantile, rate, total

IN_AND_OUT: Final = Row(
    "In and out",
    (
        Panel(
            "Events in, by topic",
            "Valid events per second. A topic that falls silent while its platform works: look at its refused messages, "
            "then at the platform.",
            "reqps",
            [Query(rate("freshet_events_total", "topic"), "{{topic}}")],
            width=12,
            stack=True,
        ),
        Panel(
            "Lists out, by arm",
            "Lists per second, by arm and audience, and lists that were made but found equal to the last one. Only "
            "unchanged lists: the model learns nothing new; is the replica folding (Pipeline)? Overtaken: a batch was delivered "
            "again after a list for a later event was out (not_sent), a worker froze and wrote an old one (sent_again).",
            "reqps",
            [
                Query(rate("freshet_lists_total", "arm, audience"), "{{arm}}, {{audience}}"),
                Query(total("freshet_lists_unchanged_total"), "unchanged, not sent"),
                Query(rate("freshet_lists_overtaken_total", "outcome"), "overtaken, {{outcome}}"),
            ],
            width=12,
        ),
        Panel(
            "Events per list",
            "Events over the lists made for them. Near 1 at leisure; more in a backlog, where batches are large, as lists "
            "are made once per user and batch. Above 3 with small batches: a few users make most of the events. Runbook: "
            "FreshetFewUsers.",
            "short",
            [
                Query(
                    f'sum(rate(freshet_batch_records_sum{{{SELECT}, agent="recommend"}}{RATE})) '
                    f"/ ({total('freshet_lists_total')} + {total('freshet_lists_unchanged_total')} > 0)",
                    "events per list",
                )
            ],
            width=12,
            thresholds=((None, "green"), (3, "orange")),
        ),
        Panel(
            "CTR by arm, 1 h",
            "Click-through by cohort: shown items whose window ended in the last hour, the share clicked. All arms fall: "
            "Quality, hit rate; one arm: it is worse. Runbook: FreshetCtrFell.",
            "percentunit",
            [Query(f"job_arm:freshet_cohort_ctr:ratio_rate1h{{{JOB}}}", "{{arm}}")],
            width=12,
        ),
    ),
)

ERRORS: Final = Row(
    "Errors",
    (
        Panel(
            "Refused messages, by reason",
            "Messages per second that went to dead-letters. Read them with `freshet dead-letters`; a new reason in bulk "
            "is a platform's release. Runbook: FreshetDeadLetters.",
            "reqps",
            [Query(rate("freshet_dead_letters_total", "topic, reason") + " > 0", "{{topic}} {{reason}}")],
            stack=True,
        ),
        Panel(
            "Share refused, by topic",
            "Of the messages that came, the share that went to dead-letters. Above 1 % for five minutes: FreshetDeadLetters.",
            "percentunit",
            [
                Query(
                    f"{rate('freshet_dead_letters_total', 'topic')} / ({rate('freshet_events_total', 'topic')} "
                    f"+ {rate('freshet_dead_letters_total', 'topic')} > 0)",
                    "{{topic}}",
                )
            ],
            maximum=1,
        ),
        Panel(
            "What failed and is tried again, or left out",
            "Calls to Qdrant that failed (FreshetQdrantFails), item vectors of another encoder (FreshetForeignVectors), "
            "impressions and clicks of lists that are not remembered (FreshetAttributionBurnsFast). All near zero when "
            "all is well.",
            "reqps",
            [
                Query(total("freshet_qdrant_failures_total"), "Qdrant calls failed"),
                Query(total("freshet_vectors_foreign_total"), "foreign vectors"),
                Query(total("freshet_impressions_unknown_total"), "impressions of an unknown list"),
                Query(total("freshet_clicks_of_unknown_list_total"), "clicks of an unknown list"),
            ],
        ),
    ),
)  # fmt: skip

FLOW: Final = Row(
    "From event to list",
    (
        Panel(
            "Stages, p99",
            "ingest: broker to log; wait: until the replica has folded the batch; recommend: making lists; emit: until "
            "acknowledged. ingest or emit high: Kafka is slow. wait high: folding is behind. recommend high: the model has "
            "grown or the cores are taken. Runbook: FreshetFreshnessBurnsFast.",
            "s",
            [Query(quantile(0.99, "freshet_stage_seconds", "stage"), "{{stage}}")],
        ),
        Panel(
            "Stages, p50",
            "The usual time of each stage. Compare with the 99th percentile beside: far apart means bursts, or one slow "
            "process or partition; all high means that the machine is full.",
            "s",
            [Query(quantile(0.5, "freshet_stage_seconds", "stage"), "{{stage}}")],
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
            "Folded into the model, by kind",
            "Interactions per second that changed each replica's model, and those it knew already. Every replica folds "
            "everything, so the sum counts each interaction once per process. Many duplicates: a platform or a replay "
            "repeats itself; harmless.",
            "reqps",
            [
                Query(rate("freshet_folded_total", "kind"), "{{kind}}"),
                Query(total("freshet_duplicates_total"), "known already"),
            ],
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
        Panel(
            "Batches, by agent",
            "Batches finished per second. An agent at zero while its topic waits (below) is stuck: /statusz says for how "
            "long its batch has been running. Runbook: FreshetStalled.",
            "reqps",
            [Query(rate("freshet_batch_records_count", "agent"), "{{agent}}")],
        ),
        Panel(
            "Waiting records, by topic",
            "What the agents have not finished. One topic grows: its agent is too slow or stuck (look at its stage); all "
            "grow: Kafka or the machine. Runbook: FreshetStalled, FreshetEmbedderBehind.",
            "short",
            [Query(f"sum by (topic) (freshet_lag_records{{{SELECT}}})", "{{topic}}")],
        ),
        Panel(
            "Behind the log, by process",
            "Records that a process's replica has not folded. It falls to zero after a start. Stuck above zero: that "
            "process makes stale lists or none; restart it. Runbook: FreshetNotReady.",
            "short",
            [Query(f"sum by (instance) (freshet_replica_lag_records{{{SELECT}}})", "{{instance}}")],
        ),
        Panel(
            "Clocks apart",
            "Share of freshness measurements in which the broker's clock was ahead of ours (they count as zero). Above a "
            "few per cent: mend the time service of this machine or of the brokers before believing the freshness.",
            "percentunit",
            [
                Query(
                    f"sum by (instance) (rate(freshet_clock_skew_total{{{SELECT}}}{RATE})) "
                    f"/ (sum by (instance) (rate(freshet_freshness_seconds_count{{{SELECT}}}{RATE})) > 0)",
                    "{{instance}}",
                )
            ],
        ),
    ),
)

NONE: Final = "0 * " + rate("freshet_rebalance_seconds_count", "job")
SECONDS: Final = quantile(0.95, "freshet_rebalance_seconds", "job")

GROUP: Final = Row(
    "Who works",
    (
        Panel(
            "Conditions, by process",
            "1 where a condition of being ready holds, by process. Which one is 0 says what to do: see the table in runbook "
            "FreshetNotReady.",
            "short",
            [Query(f"freshet_condition{{{SELECT}}}", "{{instance}} {{condition}}")],
            maximum=1,
        ),
        Panel(
            "Partitions owned, by process",
            "Partitions of the interactions log, dealt out over the workers; the line above is how many there are. The "
            "sum is below it: some have no worker (FreshetFlowBurnsFast). Uneven for long: restart the one with most.",
            "short",
            [
                Query(f'sum by (instance) (freshet_owned_partitions{{{SELECT}, topic=~".*interactions"}})', "{{instance}}"),
                Query(f"max(freshet_partitions{{{SELECT}}})", "in all"),
            ],
            stack=False,
        ),
        Panel(
            "Rebalances and how long they take",
            "Times per second at which partitions are dealt out anew, and the 95th percentile of how long nothing was "
            "done meanwhile. More than at releases: runbook FreshetRebalances.",
            "s",
            [
                Query(rate("freshet_rebalance_seconds_count", "job"), "{{job}} per second"),
                Query(f"max by (job) ({SECONDS}) >= 0 or {NONE}", "{{job}} p95 of seconds"),
            ],
        ),
    ),
)  # fmt: skip
