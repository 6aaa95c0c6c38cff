"""The replica on a real broker: folds everything once and in order, says when it has, and ends loudly when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import pytest
from aiokafka import ConsumerRecord

from streams import replica as module
from streams.connection import Connection
from streams.replica import Replica, read_all, read_from

Place = tuple[str, int, int]


class Fold:
    """Remembers what it was given; the state of these tests."""

    def __init__(self) -> None:
        self.values: dict[int, list[bytes]] = {}
        self.slices: list[int] = []

    def __call__(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        self.values.setdefault(partition, []).extend(record.value for record in records)
        self.slices.append(len(records))


@asynccontextmanager
async def running(replica: Replica) -> AsyncIterator[Replica]:
    await replica.start()
    try:
        yield replica
    finally:
        await replica.stop()


async def produce(connection: Connection, topic: str, partition: int, values: list[bytes]) -> int:
    """The last offset."""
    producer = aiokafka.AIOKafkaProducer(**connection.aiokafka())
    await producer.start()
    futures = [await producer.send(topic, value, partition=partition) for value in values]
    last = [await future for future in futures][-1]
    await producer.stop()
    return int(last.offset)


def numbers(begin: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(begin, end)]


async def soon(what: Awaitable[Any]) -> None:
    async with asyncio.timeout(180):
        await what


def test_it_is_ready_when_everything_there_has_been_folded(connection: Connection, make_topic: Callable[..., str]) -> None:
    events, items = make_topic(partitions=3), make_topic(partitions=1)
    of_events, of_items = Fold(), Fold()

    async def scenario() -> None:
        await produce(connection, events, 0, numbers(0, 2_000))
        await produce(connection, events, 2, numbers(0, 300))
        await produce(connection, items, 0, numbers(0, 10))
        replica = Replica(connection, {events: of_events, items: of_items})
        assert replica.folded(events) == 0
        async with running(replica):
            await soon(replica.wait_ready())
            assert of_events.values == {0: numbers(0, 2_000), 2: numbers(0, 300)}
            assert of_items.values == {0: numbers(0, 10)}
            assert max(of_events.slices) <= 50
            assert replica.positions == {(events, 0): 2_000, (events, 1): 0, (events, 2): 300, (items, 0): 10}
            assert (replica.folded(events), replica.folded(items)) == (2_300, 10)
            assert replica.lag() == {events: 0, items: 0}

    asyncio.run(scenario())


def test_what_is_unhurried_is_folded_all_the_same(connection: Connection, make_topic: Callable[..., str]) -> None:
    """From a client of its own: positions, waiting, resuming and the lag are of all topics."""
    events, lists, empty = make_topic(partitions=2), make_topic(partitions=1), make_topic(partitions=1)
    of_events, of_lists = Fold(), Fold()

    async def scenario() -> None:
        await produce(connection, events, 1, numbers(0, 700))
        await produce(connection, lists, 0, numbers(0, 900))
        topics = {events: of_events, lists: of_lists, empty: Fold()}
        replica = Replica(connection, topics, unhurried=[lists, empty], resume={(lists, 0): 100})
        async with running(replica):
            await soon(replica.wait_ready())
            assert of_lists.values == {0: numbers(100, 900)}
            assert replica.positions == {(events, 0): 0, (events, 1): 700, (lists, 0): 900, (empty, 0): 0}
            for turn in range(5):
                last = await produce(connection, lists, 0, numbers(900 + turn, 901 + turn))
                await soon(replica.reached(lists, 0, last))
                last = await produce(connection, events, 0, numbers(turn, turn + 1))
                await soon(replica.reached(events, 0, last))
            await soon(replica.caught_up(lists, 0))
            assert (of_lists.values, of_events.values) == (
                {0: numbers(100, 905)}, {0: numbers(0, 5), 1: numbers(0, 700)}
            )  # fmt: skip
            assert replica.lag() == {events: 0, lists: 0, empty: 0}
            assert replica.places() == {place: (at, at) for place, at in replica.positions.items()}

    asyncio.run(scenario())


@pytest.mark.parametrize("unhurried", [False, True])
def test_a_fold_that_fails_fails_the_replica_whichever_client_brought_it(
    connection: Connection, make_topic: Callable[..., str], unhurried: bool
) -> None:
    good, bad = make_topic(partitions=1), make_topic(partitions=1)

    def fail(partition: int, records: Sequence[ConsumerRecord]) -> None:
        raise ArithmeticError("cannot be folded")

    async def scenario() -> None:
        failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        replica = Replica(
            connection, {good: Fold(), bad: fail}, unhurried=[bad] if unhurried else [good],
            fail=lambda why, problem: failed.set_result(problem),
        )  # fmt: skip
        async with running(replica):
            await produce(connection, bad, 0, numbers(0, 1))
            async with asyncio.timeout(180):
                assert isinstance(await failed, ArithmeticError)

    asyncio.run(scenario())


def test_empty_topics_are_ready_at_once(connection: Connection, make_topic: Callable[..., str]) -> None:
    async def scenario() -> None:
        async with running(Replica(connection, {make_topic(): Fold()})) as replica:
            await soon(replica.wait_ready())

    asyncio.run(scenario())


def test_reached_returns_when_that_record_has_been_folded(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic, fold = make_topic(partitions=2), Fold()

    async def scenario() -> None:
        async with running(Replica(connection, {topic: fold})) as replica:
            await soon(replica.wait_ready())
            waiting = [asyncio.create_task(replica.reached(topic, 1, offset)) for offset in (2, 0, 2)]
            gone = asyncio.create_task(replica.reached(topic, 1, 1))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            gone.cancel()
            last = await produce(connection, topic, 1, numbers(0, 3))
            assert last == 2
            await soon(asyncio.gather(*waiting))
            assert fold.values == {1: numbers(0, 3)}
            await soon(replica.reached(topic, 1, 2))
            with pytest.raises(KeyError):
                await replica.reached(topic, 7, 0)

    asyncio.run(scenario())


def test_reached_may_be_asked_before_the_start(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=1)

    async def scenario() -> None:
        await produce(connection, topic, 0, numbers(0, 3))
        replica = Replica(connection, {topic: Fold()})
        asked = asyncio.create_task(replica.reached(topic, 0, 2))
        await asyncio.sleep(0)
        async with running(replica):
            await soon(asked)

    asyncio.run(scenario())


def test_it_resumes_where_a_snapshot_ends(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic, fold = make_topic(partitions=2), Fold()

    async def scenario() -> None:
        await produce(connection, topic, 0, numbers(0, 10))
        await produce(connection, topic, 1, numbers(0, 4))
        async with running(Replica(connection, {topic: fold}, resume={(topic, 0): 7})) as replica:
            await soon(replica.wait_ready())
        assert fold.values == {0: numbers(7, 10), 1: numbers(0, 4)}
        assert replica.positions == {(topic, 0): 10, (topic, 1): 4}
        with pytest.raises(ValueError, match=r"has offsets 0\.\.10, not 11 to resume from"):
            await Replica(connection, {topic: fold}, resume={(topic, 0): 11}).start()

    asyncio.run(scenario())


async def no_lag(replica: Replica) -> None:
    while any(replica.lag().values()):  # noqa: ASYNC110  the replica announces no such event, metrics read it when they are asked
        await asyncio.sleep(0.05)


def test_an_aborted_transaction_at_the_end_is_no_obstacle(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic, fold = make_topic(partitions=1), Fold()

    async def scenario() -> None:
        await produce(connection, topic, 0, numbers(0, 2))
        producer = aiokafka.AIOKafkaProducer(**connection.aiokafka(), transactional_id="shop")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        await producer.stop()
        async with running(Replica(connection, {topic: fold})) as replica:
            await soon(replica.wait_ready())
            await soon(no_lag(replica))  # the marker of the abort may be written after the start: it brings no record either
        assert fold.values == {0: numbers(0, 2)}

    asyncio.run(scenario())
    assert [record.value for record in read_all(connection, topic)] == numbers(0, 2)


async def filled(some: list[Any]) -> None:
    while not some:  # noqa: ASYNC110  it is filled by a callback
        await asyncio.sleep(0.01)


def test_a_fold_that_raises_is_fatal_and_moves_no_position(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=1)
    failures: list[tuple[str, BaseException]] = []

    def fold(partition: int, records: Sequence[ConsumerRecord]) -> None:
        raise RuntimeError("an error of ours")

    async def scenario() -> None:
        await produce(connection, topic, 0, numbers(0, 3))
        replica = Replica(connection, {topic: fold}, fail=lambda why, exc: failures.append((why, exc)))
        async with running(replica):
            await soon(filled(failures))
            assert replica.positions == {(topic, 0): 0}
            assert not replica.ready.is_set()

    asyncio.run(scenario())
    ((why, exc),) = failures
    assert "the replica cannot go on" in why
    assert str(exc) == "an error of ours"


def test_folding_lets_the_event_loop_breathe(
    connection: Connection, make_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE_S", 0.0)
    topic, turns, folded = make_topic(partitions=1), 0, []

    def fold(partition: int, records: Sequence[ConsumerRecord]) -> None:
        folded.append(turns)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> None:
        await produce(connection, topic, 0, numbers(0, 1_000))
        task = asyncio.create_task(other())
        async with running(Replica(connection, {topic: fold}, slice_records=10)) as replica:
            await soon(replica.wait_ready())
        task.cancel()

    asyncio.run(scenario())
    assert len(folded) == 100
    assert len(set(folded)) == 100, "somebody else had a turn between any two slices"


def test_a_missing_topic_is_named(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        replica = Replica(connection, {"never-made": Fold()}, patience_s=5)
        with pytest.raises(LookupError, match="no topic never-made"):
            await replica.start()

    asyncio.run(scenario())
    with pytest.raises(LookupError, match="no topic never-made"):
        next(read_all(connection, "never-made"))


def test_two_replicas_fold_the_same(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic, folds = make_topic(partitions=2), (Fold(), Fold())

    async def scenario() -> None:
        async with running(Replica(connection, {topic: folds[0]})) as early:
            await produce(connection, topic, 0, numbers(0, 500))
            last = await produce(connection, topic, 1, numbers(0, 200))
            async with running(Replica(connection, {topic: folds[1]})) as late:
                await soon(late.wait_ready())
            await soon(early.reached(topic, 0, 499))
            await soon(early.reached(topic, 1, last))

    asyncio.run(scenario())
    assert folds[0].values == folds[1].values == {0: numbers(0, 500), 1: numbers(0, 200)}


def test_read_from_gives_the_last_of_each_partition(connection: Connection, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=2)

    async def scenario() -> None:
        await produce(connection, topic, 0, numbers(0, 5))
        await produce(connection, topic, 1, numbers(0, 1))

    asyncio.run(scenario())
    found = [(record.partition, record.value) for record in read_from(connection, topic, 2)]
    assert sorted(found) == [(0, b"3"), (0, b"4"), (1, b"0")]


def test_nonsense_is_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="at least one topic"):
        Replica(connection, {})
    with pytest.raises(ValueError, match="that are not read"):
        Replica(connection, {"log": Fold()}, unhurried=["lists"])
