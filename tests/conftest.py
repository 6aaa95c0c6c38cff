"""One real Kafka for the whole run. Tests keep apart by topic names of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from streams import topics
from streams.connection import Connection
from streams.embedded_kafka import EmbeddedKafka

_numbers = itertools.count(1)

# property tests run on shared, noisy machines: slowness is not a failure here
settings.register_profile("freshet", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.load_profile("freshet")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A running broker, shared: leave it running."""
    data: Path = tmp_path_factory.mktemp("kafka")
    broker = EmbeddedKafka(data=data, timeout=180).start()
    yield broker
    broker.close()


@pytest.fixture
def connection(kafka: EmbeddedKafka) -> Connection:
    return Connection(bootstrap=kafka.bootstrap)


@pytest.fixture
def make_topic(connection: Connection) -> Callable[..., str]:
    """Call it for a new, empty topic: make_topic(), make_topic(partitions=1), make_topic(config={...})."""

    def make(partitions: int = 2, config: dict[str, str] | None = None) -> str:
        name = f"test-{next(_numbers)}"
        topics.ensure(connection, [topics.TopicSpec(name=name, partitions=partitions, replication=1, config=config or {})])
        return name

    return make
