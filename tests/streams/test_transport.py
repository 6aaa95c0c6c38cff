"""The batch transport on a real broker. Faults that need more than one worker are in tests/chaos."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiokafka
import faust
import pytest

from streams import transport
from streams.connection import Connection
from streams.replica import read_all
from tests.chaos.cluster import Cluster

_numbers = itertools.count(1)


@pytest.fixture
def cluster(connection: Connection, tmp_path: Path) -> Any:
    with Cluster(connection, tmp_path, f"transport-{next(_numbers)}") as made:
        yield made


@pytest.fixture
def app(connection: Connection, tmp_path: Path) -> Any:
    made = faust.App(
        f"in-process-{next(_numbers)}",
        broker=connection.faust_broker(),
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_commit_interval=0.2,
        broker_heartbeat_interval=0.5,
        table_standby_replicas=1,
        producer_linger=0.0,
        datadir=str(tmp_path),
        web_enabled=False,
    )
    transport.install(made)
    return made


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    await app.start()
    try:
        yield
    except BaseException:  # a wait that came to nothing, for one: this is shown beside it
        taken = {name: stats.records for name, stats in transport.stats(app).items()}
        print("assigned", app.consumer.assignment(), "taken", taken, "lag", transport.lag(app))
        raise
    finally:
        await app.stop()


async def until(true: Callable[[], Any], what: str) -> None:
    for _ in range(18_000):
        if true():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not within 180 s: {what}")


async def send(connection: Connection, topic: str, values: list[bytes], partition: int = 0) -> None:
    producer = aiokafka.AIOKafkaProducer(**connection.aiokafka())
    await producer.start()
    for value in values:
        await producer.send(topic, value, key=b"k", partition=partition, timestamp_ms=1_234, headers=[("h", b"1")])
    await producer.stop()


def test_batches_go_in_order_to_their_handler_and_out_as_they_were(app: Any, connection: Connection, make_topic: Any) -> None:
    source, target = make_topic(), make_topic()
    values = {0: [b"%d" % n for n in range(500)], 1: [b"%d" % n for n in range(1_000, 1_300)]}
    sizes: list[int] = []

    @transport.batch_agent(app, source, max_records=64, observe=lambda n, seconds: sizes.append(n))
    async def copy(records: list[Any]) -> None:
        out = [(r.partition, r.key, r.value, r.timestamp, list(r.headers)) for r in records]
        metadata = await transport.produce(app, target, out)
        assert len(metadata) == len({r.partition for r in records}), "one Kafka batch per partition"

    async def scenario() -> None:
        for partition, some in values.items():
            await send(connection, source, some, partition)
        async with running(app):
            await until(lambda: transport.stats(app)["copy"].records == 800, "all copied")
            await until(lambda: transport.lag(app) == {(source, 0): 0, (source, 1): 0}, "no lag")

    asyncio.run(scenario())
    copies = list(read_all(connection, target))
    for partition, some in values.items():
        assert [r.value for r in copies if r.partition == partition] == some
    assert {(r.key, r.timestamp, tuple(r.headers)) for r in copies} == {(b"k", 1_234, (("h", b"1"),))}
    assert sum(sizes) == 800
    assert max(sizes) <= 64


def test_lag_counts_what_is_not_finished_and_a_watchdog_sees_the_age(app: Any, connection: Connection, make_topic: Any) -> None:
    source, go = make_topic(partitions=1), asyncio.Event()

    @transport.batch_agent(app, source, max_records=10)
    async def slow(records: list[Any]) -> None:
        await go.wait()

    async def scenario() -> None:
        await send(connection, source, [b"x"] * 25)
        assert transport.lag(app) == {}, "nothing is known before the start"
        async with running(app):
            await until(lambda: transport.running_s(app)["slow"] > 0, "the first batch runs")
            assert transport.lag(app) == {(source, 0): 25}
            go.set()
            await until(lambda: transport.lag(app) == {(source, 0): 0}, "the rest is done")
            assert transport.running_s(app) == {"slow": 0.0}

    asyncio.run(scenario())


def test_what_was_committed_is_not_delivered_again(app: Any, connection: Connection, tmp_path: Path, make_topic: Any) -> None:
    source, seen = make_topic(partitions=1), []

    def install(some_app: Any) -> None:
        @transport.batch_agent(some_app, source)
        async def note(records: list[Any]) -> None:
            seen.extend(r.value for r in records)

    async def one_life(some_app: Any, expected: int) -> None:
        async with running(some_app):
            await until(lambda: len(seen) >= expected, f"{expected} seen")

    async def scenario() -> None:
        again = faust.App(
            app.conf.id, broker=app.conf.broker, topic_disable_leader=True, topic_allow_declare=False, web_enabled=False,
            datadir=str(tmp_path),
        )  # fmt: skip
        transport.install(again)
        install(app)
        install(again)
        await send(connection, source, [b"a", b"b"])
        await one_life(app, 2)
        await send(connection, source, [b"c"])
        await one_life(again, 3)

    asyncio.run(scenario())
    assert seen == [b"a", b"b", b"c"]


def test_events_of_an_aborted_transaction_are_not_delivered(app: Any, connection: Connection, make_topic: Any) -> None:
    source, seen = make_topic(partitions=1), []

    @transport.batch_agent(app, source)
    async def note(records: list[Any]) -> None:
        seen.extend(r.value for r in records)

    async def scenario() -> None:
        producer = aiokafka.AIOKafkaProducer(**connection.aiokafka(), transactional_id="platform")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(source, b"aborted", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(source, b"committed", partition=0)
        await producer.stop()
        await send(connection, source, [b"plain"])
        async with running(app):
            await until(lambda: b"plain" in seen, "the last event")

    asyncio.run(scenario())
    assert seen == [b"committed", b"plain"]


def test_producing_nothing_and_tombstones(app: Any, connection: Connection, make_topic: Any) -> None:
    target = make_topic(partitions=1)

    async def scenario() -> None:
        async with running(app):
            assert await transport.produce(app, target, []) == []
            await transport.produce(app, target, [(0, b"k", None, None, []), (0, None, b"v", None, [])])
            with pytest.raises(ValueError, match="the limit is"):
                await transport.produce(app, target, [(0, b"k", b"x" * 2_000_000, None, [])])

    @transport.batch_agent(app, make_topic())
    async def unused(records: list[Any]) -> None:
        """A Faust worker needs something to consume."""

    asyncio.run(scenario())
    assert [(r.key, r.value) for r in read_all(connection, target)] == [(b"k", None), (None, b"v")]


def test_more_than_one_batch_of_the_producer_keeps_order(app: Any, connection: Connection, make_topic: Any) -> None:
    target = make_topic(partitions=1)
    values = [b"%06d" % n + b"x" * 1_000 for n in range(200)]

    @transport.batch_agent(app, make_topic())
    async def unused(records: list[Any]) -> None:
        """A Faust worker needs something to consume."""

    async def scenario() -> None:
        async with running(app):
            metadata = await transport.produce(app, target, [(0, b"k", value, None, []) for value in values])
            assert len(metadata) > 1

    asyncio.run(scenario())
    assert [r.value for r in read_all(connection, target)] == values


def test_producing_before_the_start_is_an_error(app: Any) -> None:
    with pytest.raises(RuntimeError, match="has not started"):
        asyncio.run(transport.produce(app, "anywhere", [(0, b"k", b"v", None, [])]))


def test_a_topic_has_one_agent(app: Any) -> None:
    async def handler(records: list[Any]) -> None:
        """Never called."""

    transport.batch_agent(app, "clicks")(handler)
    with pytest.raises(ValueError, match="clicks has a batch agent"):
        transport.batch_agent(app, "clicks")(handler)


@pytest.mark.parametrize("broken", ["poison", "huge"])
def test_an_error_of_ours_ends_the_process_and_loses_nothing(cluster: Cluster, broken: str) -> None:
    values = [b"%d" % n for n in range(300)]
    cluster.send([*values, b"poison", *values])
    cluster.start(BROKEN=broken)
    assert cluster.wait_exit() == 70
    said = cluster.log().read_text()
    assert "the batch handler copy failed" in said
    assert "an error of ours" in said or "the limit is" in said
    cluster.start()
    count = cluster.count()
    assert (count.sent, count.lost) == (601, 0)
    assert cluster.terminate() == 0
