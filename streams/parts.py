"""What the settings become: the Faust app and the parts that a worker of these settings has, none of them started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust

from models.text_ranking import ItemTexts
from streams.language_ranker import create_ranker
from streams.language_stage import LanguageStage
from streams.metrics import Metrics
from streams.settings import Settings
from streams.vector_store import VectorStore


class MetricsObserver:
    """What the embedder reports, as metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def embedded(self, n: int, seconds: float) -> None:
        self.metrics.embedded.inc(n)
        self.metrics.embed_seconds.observe(seconds)

    def truncated(self, n: int) -> None:
        self.metrics.truncated.inc(n)

    def upserted(self, collection: str, n: int, seconds: float) -> None:
        self.metrics.upserts[collection].inc(n)
        self.metrics.qdrant_seconds["write"].observe(seconds)

    def store_failed(self) -> None:
        self.metrics.qdrant_failures.inc()

    def duplicate(self, n: int) -> None:
        self.metrics.duplicate_texts.inc(n)


def language_stage(settings: Settings, texts: ItemTexts, metrics: Metrics) -> LanguageStage:
    """The language stage of the settings, not started yet. Raises `RankerError`."""
    budget_s = settings.ranker_budget_ms / 1000
    ranker = create_ranker(
        settings.ranker,
        model=settings.ranker_model,
        api_key=settings.ranker_api_key,
        device=settings.ranker_device,
        threads=settings.ranker_threads,
        timeout_s=budget_s,
    )
    return LanguageStage(
        ranker,
        texts,
        weight=settings.ranker_weight,
        budget_s=budget_s,
        failures=settings.ranker_failures,
        pause_s=settings.ranker_pause_s,
        observe=lambda outcome, lists: metrics.language_lists[outcome].inc(lists),
    )


def vector_store(settings: Settings) -> VectorStore:
    """Embedded in the state directory, or the server of the settings."""
    return VectorStore(
        path=None if settings.qdrant_url else str(Path(settings.state_dir) / "qdrant"),
        url=settings.qdrant_url or None,
        api_key=settings.qdrant_api_key or None,
        prefix=settings.qdrant_prefix,
        max_local_points=settings.qdrant_local_points,
    )


def faust_app(settings: Settings, roles: Sequence[str]) -> Any:
    """A Faust app that keeps no tables, serves no web pages and creates no topics."""
    alone = tuple(roles) == ("embed",)
    app_id = settings.app_id + ("-embed" if alone else "")
    return faust.App(
        app_id,
        broker=settings.connection.faust_broker(),
        broker_credentials=settings.connection.faust_credentials(),
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=1,  # there are no tables: this selects the assignor that keeps partitions of all topics together
        key_serializer="raw",
        value_serializer="raw",
        broker_session_timeout=settings.session_timeout_s,
        broker_request_timeout=max(90.0, settings.session_timeout_s + 10.0),  # Faust refuses sessions that last longer
        broker_heartbeat_interval=min(1.0, settings.session_timeout_s / 4),
        broker_rebalance_timeout=60.0,
        broker_commit_interval=settings.commit_interval_s,
        consumer_group_instance_id=f"{settings.instance_id}-{app_id}" if settings.instance_id else None,
        consumer_auto_offset_reset="earliest",
        producer_linger=0.0,  # batches are explicit
        producer_max_batch_size=1_000_000,
        producer_max_request_size=1_000_000,
        producer_request_timeout=120.0,
        web_enabled=False,
        canonical_url=f"http://{settings.instance_id or f'worker-{os.getpid()}'}:6066",  # an address in the group, never bound
        datadir=str(Path(settings.state_dir).absolute() / "faust"),
    )
