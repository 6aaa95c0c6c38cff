"""Rows: text, Qdrant, the language stage."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import SELECT, Panel, Query, Row
from deploy.grafana.queries import quantile, rate, total

TEXT: Final = Row(
    "Text: embedding and Qdrant",
    (
        Panel(
            "Texts",
            "Texts per second: embedded, known already, cut off. Zero embedded while item-texts waits: the embedder is "
            "stuck or Qdrant is away. Many cut off: the model reads less than people write. Runbook: "
            "FreshetEmbedderBehind.",
            "reqps",
            [
                Query(total("freshet_texts_embedded_total"), "embedded"),
                Query(total("freshet_texts_duplicate_total"), "known already"),
                Query(total("freshet_texts_truncated_total"), "cut off"),
            ],
        ),
        Panel(
            "From a text to its vector",
            "Median and 99th percentile of the time from a review at the broker to its item's vector. The objective is 60 "
            "s for 99 %. Above: FreshetEmbeddingBurnsFast.",
            "s",
            [
                Query(quantile(0.5, "freshet_text_delay_seconds"), "p50"),
                Query(quantile(0.99, "freshet_text_delay_seconds"), "p99"),
            ],
            thresholds=((None, "green"), (60, "red")),
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
            "worker's own vectors (and the rule when Qdrant is embedded). A worker does not ask for FRESHET_QDRANT_PAUSE_S after "
            "FRESHET_QDRANT_FAILURES without an answer. Failures: runbook FreshetQdrantFails.",
            "reqps",
            [
                Query(rate("freshet_near_answers_total", "by"), "{{by}}"),
                Query(total("freshet_qdrant_failures_total"), "failed calls"),
                Query(f"sum(freshet_qdrant_resting{{{SELECT}}})", "workers that do not ask"),
            ],
        ),
        Panel(
            "Lists through the language stage",
            "Only where FRESHET_RANKER is set. late or resting: the ranker does not keep FRESHET_RANKER_BUDGET_MS and "
            "lists go out in their fused order; failed: look at its endpoint or model; no_text: nothing is said about the "
            "items.",
            "reqps",
            [Query(rate("freshet_language_lists_total", "outcome"), "{{outcome}}")],
            stack=True,
        ),
        Panel(
            "Points written",
            "Points per second, by collection. Every review is a point, every text moves its item's point. Zero while texts "
            "are embedded: Qdrant refuses; read the embedder's log. Runbook: FreshetQdrantFails.",
            "reqps",
            [Query(rate("freshet_qdrant_upserts_total", "collection"), "{{collection}}")],
            width=12,
        ),
        Panel(
            "Points in Qdrant",
            "As the embedder counts them. Embedded, Qdrant refuses to grow past FRESHET_QDRANT_LOCAL_POINTS: before that, "
            "move to a server.",
            "short",
            [Query(f"max by (collection) (freshet_qdrant_points{{{SELECT}}})", "{{collection}}")],
            width=12,
        ),
    ),
)
