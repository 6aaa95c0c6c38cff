"""A learner that folds a log, with its snapshots, as a worker has them but for Kafka's clients."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from models import Config
from models.events import Interaction, encode
from streams.learn import Learner
from streams.metrics import Metrics
from streams.replica import Extent, Positions
from streams.settings import Settings
from streams.snapshots import Snapshots
from tests.models.streams_of import shop

LOG = "interactions"
TOPICS = (LOG, "items", "item-vectors", "review-vectors", "recommendations")
MODEL = Config(max_users=1000, max_items=1000, embedding_dim=4, embedding_scan=64, embedding_items=64)


class Replicated:
    """A worker's state without Kafka: what it has folded, and its snapshots."""

    def __init__(self, directory: Path, *, log: list[Any] | None = None, begin: int = 0, ids: str = "1", **settings: Any) -> None:
        model = settings.pop("model", MODEL)
        self.settings = msgspec.structs.replace(
            Settings.load({}, state_dir=str(directory), training_per_s=100_000.0, **settings), model=model
        )
        self.metrics = Metrics(CollectorRegistry())
        self.learner = Learner(self.settings, self.metrics)
        self.log = log if log is not None else shop(1, users=30, items=20, events=300)
        self.positions: Positions = {(topic, 0): 0 for topic in TOPICS}
        ends = {**self.positions, (LOG, 0): len(self.log)}
        there = Extent(dict.fromkeys(TOPICS, ids), {**self.positions, (LOG, 0): begin}, ends)
        self.snapshots = Snapshots(self.settings, self.metrics, self.learner, there, lambda: self.positions)

    def fold(self, until: int | None = None) -> Replicated:
        for event in self.log[self.positions[LOG, 0] : until]:
            offset = self.positions[LOG, 0]
            self.learner.interactions(0, [record(offset, encode(Interaction.of(event)))])
            self.positions[LOG, 0] = offset + 1
        return self

    def restore(self, *, rebuild: bool = False) -> int:
        """Where in the log it goes on."""
        positions = self.snapshots.restore(rebuild=rebuild)
        self.positions |= positions
        return self.positions[LOG, 0]

    def take(self) -> Replicated:
        asyncio.run(self.snapshots.take())
        return self

    def an_interval_later(self) -> None:
        self.snapshots._taken_s -= self.settings.snapshot_interval_s + 1

    def count(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("freshet_snapshots_total", {"outcome": outcome}) or 0.0

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.snapshots.local.directory.iterdir() if path.suffix == ".snapshot")


def record(offset: int, value: bytes) -> Any:
    return ConsumerRecord(
        topic=LOG, partition=0, offset=offset, timestamp=0, timestamp_type=0, key=b"k", value=value, checksum=None,
        serialized_key_size=1, serialized_value_size=len(value), headers=(),
    )  # fmt: skip
