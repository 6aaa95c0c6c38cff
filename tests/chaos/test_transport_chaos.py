"""Faults against the batch transport on a real broker: nothing is lost, and no more is repeated than was uncommitted."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.connection import Connection
from streams.embedded_kafka import EmbeddedKafka
from tests.chaos.cluster import Cluster

_numbers = itertools.count(1)

UNCOMMITTED_S = 2.0
"""Generous: commits go out every 0.5 s, and a batch may be running."""


@pytest.fixture
def cluster(connection: Connection, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(connection, tmp_path, f"chaos-{next(_numbers)}", **getattr(request, "param", {})) as made:
        yield made


SLOW = {"SLOW_S": "0.2"}
"""Batches of 200 records: no more than a thousand a second, also out of a backlog, so that a bound of repetitions in seconds is
one in records on a machine of any speed."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """One of its own, to be stopped and killed."""
    with EmbeddedKafka(data=tmp_path / "kafka") as started:
        yield started


@pytest.mark.parametrize("cluster", [SLOW], ids=["slow"], indirect=True)
def test_a_killed_worker_loses_nothing(cluster: Cluster) -> None:
    rate = 1_000
    cluster.start()
    cluster.feed(rate, seconds=8)
    cluster.until(copied=1_000)
    cluster.kill()
    cluster.start()
    cluster.until(copied=4_000)
    cluster.kill()
    cluster.start()
    count = cluster.count()
    assert (count.sent, count.lost) == (8_000, 0)
    assert count.repeated <= 2 * UNCOMMITTED_S * rate
    assert not cluster.dead()


def test_a_planned_stop_repeats_nothing(cluster: Cluster) -> None:
    cluster.start(0)
    cluster.start(1)
    cluster.feed(1_000, seconds=12)
    cluster.until(copied=2_000)
    cluster.joined(1)
    assert cluster.terminate(1) == 0
    cluster.until(copied=6_000)
    cluster.start(1)
    assert cluster.count() == (12_000, 0, 0)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", [{}, {"STATIC": "1"}, {"SLOW_S": "0.3"}], ids=["dynamic", "static", "slow"], indirect=True)
def test_rolling_restarts_repeat_nothing(cluster: Cluster) -> None:
    cluster.start(0)
    cluster.feed(1_000, seconds=25)
    time.sleep(4)
    cluster.start(1)
    time.sleep(5)
    for number in (0, 1, 0):
        assert cluster.terminate(number) == 0
        cluster.start(number)
        time.sleep(5)
    assert cluster.count() == (25_000, 0, 0)
    assert not cluster.dead()


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_random_kills_lose_nothing(cluster: Cluster) -> None:
    chance, kills, rate = random.Random(int(os.environ.get("SEED", "1"))), 6, 1_000
    cluster.start(0)
    cluster.start(1)
    cluster.feed(rate, seconds=50)
    for _ in range(kills):
        time.sleep(chance.uniform(1, 6))
        number = chance.randrange(2)
        cluster.kill(number)
        time.sleep(chance.choice([0, 1, 8]))
        cluster.start(number)
    count = cluster.count()
    assert (count.sent, count.lost) == (50_000, 0)
    assert count.repeated <= kills * UNCOMMITTED_S * rate


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_broker_that_stops_and_one_that_is_killed(broker: EmbeddedKafka, tmp_path: Path) -> None:
    with Cluster(Connection(bootstrap=broker.bootstrap), tmp_path, "broker") as cluster:
        cluster.start(0)
        cluster.start(1)
        cluster.feed(1_000, seconds=35)
        cluster.until(copied=2_000)
        broker.stop()
        time.sleep(8)
        broker.start()
        time.sleep(8)
        broker.kill()
        time.sleep(2)
        broker.start()
        count = cluster.count()
        assert (count.sent, count.lost, count.repeated) == (35_000, 0, 0)
        assert not cluster.dead()


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_everything_at_random(broker: EmbeddedKafka, tmp_path: Path) -> None:
    seconds, rate = float(os.environ.get("CHAOS_SECONDS", "120")), 800
    chance, kills = random.Random(int(os.environ.get("SEED", "1"))), 0
    with Cluster(Connection(bootstrap=broker.bootstrap), tmp_path, "random") as cluster:
        cluster.start(0)
        cluster.start(1)
        cluster.feed(rate, seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            cluster.revive()
            number = chance.randrange(2)
            match chance.choice(["terminate", "terminate", "kill", "broker"]):
                case "broker":
                    chance.choice([broker.stop, broker.kill])()
                    time.sleep(chance.uniform(1, 8))
                    broker.start()
                case "kill":
                    cluster.kill(number)
                    kills += 1
                    time.sleep(chance.choice([0, 2, 7]))
                    cluster.start(number)
                case _:
                    assert cluster.terminate(number) in (0, -signal.SIGTERM)  # the latter: it was still importing
                    time.sleep(chance.choice([0, 2, 7]))
                    cluster.start(number)
            time.sleep(chance.uniform(2, 9))
        cluster.revive()
        count = cluster.count()
        assert (count.sent, count.lost) == (int(rate * seconds), 0)
        assert count.repeated <= (kills + 1) * UNCOMMITTED_S * rate
