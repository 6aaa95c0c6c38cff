"""Rows: click-through rate, text, model and process."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import JOB, SELECT, Panel, Query, Row
from deploy.grafana.queries import RATE, quantile, rate

CTR: Final = Row(
    "Click-through rate",
    (
        Panel(
            "CTR by arm",
            "Attributed clicks over items shown: the platform's impressions where they come, else served lists. Clicks trail "
            "what was shown, so judge on the hour. All arms fall: look at freshness and at unattributed clicks; one arm: it "
            "is worse.",
            "percentunit",
            [
                Query(f"job_arm:freshet_ctr:ratio_rate5m{{{JOB}}}", "{{arm}}, 5 min"),
                Query(f"job_arm:freshet_ctr:ratio_rate1h{{{JOB}}}", "{{arm}}, 1 h"),
            ],
        ),
        Panel(
            "CTR by position, 1 h",
            "It falls from position to position. Flat: positions are not those on the screen, or lists are not ranked. Only "
            "the first: the platform shows less than it is sent.",
            "percentunit",
            [Query(f"job_arm_position:freshet_ctr:ratio_rate1h{{{JOB}}}", "{{arm}}, {{position}}", instant=True)],
            kind="bargauge",
        ),
        Panel(
            "Clicks: attributed, and why not",
            "not_in_list is people finding things elsewhere; no_list: they were served nothing; outside_window: "
            "FRESHET_ATTRIBUTION_WINDOW_S is too short for this shop. Runbook: FreshetAttributionLost.",
            "reqps",
            [
                Query(f"sum(rate(freshet_clicks_attributed_total{{{SELECT}}}{RATE}))", "attributed"),
                Query(rate("freshet_clicks_unattributed_total", "reason"), "{{reason}}"),
            ],
            stack=True,
        ),
        Panel(
            "Items shown",
            "Items per second, by where we know it from. Platform impressions that stop make the CTR jump, as it is then "
            "measured on served lists. Unknown lists: impressions come later than FRESHET_SERVED_LISTS_PER_USER remembers.",
            "reqps",
            [
                Query(rate("freshet_impressions_total", "origin"), "{{origin}}"),
                Query(f"sum(rate(freshet_impressions_unknown_total{{{SELECT}}}{RATE}))", "of an unknown list"),
            ],
            width=12,
        ),
        Panel(
            "Clocks apart",
            "Share of freshness measurements in which the broker's clock was ahead of ours (they count as zero). Above a few "
            "per cent: mend the time service of this machine or of the brokers before believing the freshness.",
            "percentunit",
            [
                Query(
                    f"sum by (instance) (rate(freshet_clock_skew_total{{{SELECT}}}{RATE})) "
                    f"/ (sum by (instance) (rate(freshet_freshness_seconds_count{{{SELECT}}}{RATE})) > 0)",
                    "{{instance}}",
                )
            ],
            width=12,
        ),
    ),
)

TEXT: Final = Row(
    "Text: embedding and Qdrant",
    (
        Panel(
            "Texts",
            "Texts per second: embedded, known already, cut off. Zero embedded while item-texts waits: the embedder is stuck "
            "or Qdrant is away. Many cut off: the model reads less than people write. Runbook: FreshetEmbedderBehind.",
            "reqps",
            [
                Query(f"sum(rate(freshet_texts_embedded_total{{{SELECT}}}{RATE}))", "embedded"),
                Query(f"sum(rate(freshet_texts_duplicate_total{{{SELECT}}}{RATE}))", "known already"),
                Query(f"sum(rate(freshet_texts_truncated_total{{{SELECT}}}{RATE}))", "cut off"),
            ],
        ),
        Panel(
            "Embedding a batch",
            "Median and 99th percentile. Growing: longer texts or less CPU; more embedders, FRESHET_EMBEDDING_THREADS or a "
            "GPU help.",
            "s",
            [
                Query(quantile(0.5, "freshet_embed_seconds"), "p50"),
                Query(quantile(0.99, "freshet_embed_seconds"), "p99"),
            ],
        ),
        Panel(
            "Qdrant calls, p99",
            "write: one upsert; near: one question of a batch of users. near above FRESHET_QDRANT_DEADLINE_MS: lists stop "
            "waiting and use their own vectors. Runbook: FreshetQdrantFails.",
            "s",
            [Query(quantile(0.99, "freshet_qdrant_seconds", "operation"), "{{operation}}")],
        ),
        Panel(
            "Who answered: what lies near this taste?",
            "Answers per second. With a Qdrant server nearly all should be qdrant; scan is the exact fallback over each "
            "worker's own vectors (and the rule when Qdrant is embedded). Failures: runbook FreshetQdrantFails.",
            "reqps",
            [
                Query(rate("freshet_near_answers_total", "by"), "{{by}}"),
                Query(f"sum(rate(freshet_qdrant_failures_total{{{SELECT}}}{RATE}))", "failed calls"),
            ],
        ),
        Panel(
            "Lists through the language stage",
            "Only where FRESHET_RANKER is set. late or resting: the ranker does not keep FRESHET_RANKER_BUDGET_MS and lists go "
            "out in their fused order; failed: look at its endpoint or model; no_text: nothing is said about the items.",
            "reqps",
            [Query(rate("freshet_language_lists_total", "outcome"), "{{outcome}}")],
            stack=True,
        ),
        Panel(
            "Points written",
            "Points per second, by collection. Every review is a point, every text moves its item's point. Zero while texts "
            "are embedded: Qdrant refuses; read the embedder's log.",
            "reqps",
            [Query(rate("freshet_qdrant_upserts_total", "collection"), "{{collection}}")],
        ),
        Panel(
            "Points in Qdrant",
            "As the embedder counts them. Embedded, Qdrant refuses to grow past FRESHET_QDRANT_LOCAL_POINTS: before that, "
            "move to a server.",
            "short",
            [Query(f"max by (collection) (freshet_qdrant_points{{{SELECT}}})", "{{collection}}")],
        ),
    ),
)

MODEL: Final = Row(
    "Model and process",
    (
        Panel(
            "Model: share of its bounds",
            "Entries held over the most that may be held. At 100 % the oldest leave to make room, which is meant, but is the "
            "shop larger than the bound? Then raise the setting (docs/settings.md) and mind the process's memory.",
            "percentunit",
            [
                Query(
                    f"max by (part) (freshet_model_size{{{SELECT}}} / freshet_model_bound{{{SELECT}}})", "{{part}}", instant=True
                )
            ],
            kind="bargauge",
            width=6,
            maximum=1,
            thresholds=((None, "green"), (0.8, "orange"), (0.95, "red")),
        ),
        Panel(
            "Model: entries",
            "What each part holds, in the largest replica. It flattens at its bound. A sudden fall is a process that started "
            "anew and has not caught up: see the replica's lag above.",
            "short",
            [Query(f"max by (part) (freshet_model_size{{{SELECT}}})", "{{part}}")],
            width=6,
            log_scale=True,
            minimum=None,
        ),
        Panel(
            "Memory",
            "Resident memory by process. It follows the model's entries; growth without them is a leak: restart the process "
            "and report it.",
            "bytes",
            [Query(f"process_resident_memory_bytes{{{SELECT}}}", "{{job}} {{instance}}")],
            width=6,
        ),
        Panel(
            "CPU",
            "Cores in use by process. A worker uses about one (Python), an embedder its FRESHET_EMBEDDING_THREADS on top. "
            "There for minutes: add workers or embedders.",
            "short",
            [Query(f"rate(process_cpu_seconds_total{{{SELECT}}}{RATE})", "{{job}} {{instance}}")],
            width=6,
        ),
    ),
)
