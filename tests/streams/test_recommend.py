"""A large batch on its way out: lists go out while others are made, one send at a time; the batch ends with the last answer.

The agent is the real one on a real model; Kafka is left out, because what is looked at is when its answers come.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from models.events import Interaction, encode
from streams import clock
from streams.attribute import Attribute
from streams.lanes import OutRecord
from streams.learn import Learner
from streams.metrics import Metrics
from streams.recommend import TOGETHER, Recommend
from streams.settings import Settings

PEOPLE = 5 * TOGETHER


class Broker:
    """Acknowledges when `answers` lets it; `fails`: the number of the send that does not get through."""

    def __init__(self, answers: Callable[[], Awaitable[object]], fails: int = -1) -> None:
        self.answers, self.fails = answers, fails
        self.sends: list[list[bytes | None]] = []
        self.acknowledged = self.under_way = self.most_under_way = 0

    async def produce(self, topic: str, records: Sequence[OutRecord]) -> None:
        assert topic == "recommendations"
        number = len(self.sends)
        self.sends.append([key for _, key, *_ in records])
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.answers()
        self.under_way -= 1
        if number == self.fails:
            raise ConnectionError("no answer")
        self.acknowledged += len(records)

    async def reached(self, topic: str, partition: int, offset: int) -> None:
        """The log is folded."""

    def position(self, topic: str, partition: int) -> int:
        return PEOPLE


def batch_of(broker: Broker) -> tuple[Recommend, list[ConsumerRecord], Metrics]:
    """An agent, and a click of each of many people that its model has learned."""
    settings, metrics = Settings.load({}), Metrics()
    learner = Learner(settings, metrics)
    records = []
    for k in range(PEOPLE):
        line = Interaction(kind="click", event_id=f"e{k}", user_id=f"u{k}", item_id=f"i{k % 7}", timestamp_ms=1 + k)
        value = encode(line)
        records.append(
            ConsumerRecord("interactions", 0, k, clock.now_ms(), 0, b"u", value, None, 1, len(value), ())
        )  # fmt: skip
    learner.interactions(0, records)
    recommend = learner.model.recommend

    def at_leisure(*arguments: Any, **more: Any) -> Any:
        time.sleep(0.001)  # as long as a list takes in a shop of some size
        return recommend(*arguments, **more)

    learner.model.recommend = at_leisure  # type: ignore[method-assign]
    attribute = Attribute(settings, metrics, learner, broker.produce)
    return Recommend(settings, metrics, learner, attribute, broker, broker.produce), records, metrics


@pytest.mark.parametrize("answers_after_s", [0.0, 0.02])
def test_lists_go_out_while_others_are_made(answers_after_s: float) -> None:
    broker = Broker(lambda: asyncio.sleep(answers_after_s))
    agent, records, metrics = batch_of(broker)
    asyncio.run(agent.handle(records))
    keys = [key for send in broker.sends for key in send]
    assert sorted(keys, key=str) == sorted((f"u{k}".encode() for k in range(PEOPLE)), key=str), "each once"
    assert broker.acknowledged == PEOPLE, "and the batch ended after the last answer"
    assert len(broker.sends) > 2
    assert len(broker.sends[0]) <= TOGETHER, "the first did not wait for the last"
    assert broker.most_under_way == 1
    assert agent.learner.behind_ms >= 1000 * answers_after_s
    assert sum(sample.value for sample in metrics.freshness.collect()[0].samples if sample.name.endswith("_count")) == PEOPLE


def test_nobody_waits_for_an_answer_to_make_a_list() -> None:
    """The first send is only answered when all lists are made; what was made meanwhile goes out together."""

    async def play() -> list[int]:
        all_made = asyncio.Event()
        broker = Broker(all_made.wait)
        agent, records, _ = batch_of(broker)
        made, recommend = itertools.count(1), agent.learner.model.recommend

        def counted(*arguments: Any, **more: Any) -> Any:
            if next(made) == PEOPLE:
                all_made.set()
            return recommend(*arguments, **more)

        agent.learner.model.recommend = counted  # type: ignore[method-assign]
        await asyncio.wait_for(agent.handle(records), 60)
        return [len(send) for send in broker.sends]

    assert asyncio.run(play()) == [TOGETHER, PEOPLE - TOGETHER]


@pytest.mark.parametrize("fails", [0, 1])
def test_a_send_that_fails_fails_the_batch_and_nothing_goes_out_after_it(fails: int) -> None:
    broker = Broker(lambda: asyncio.sleep(0), fails)
    agent, records, _ = batch_of(broker)

    async def play() -> int:
        with pytest.raises(ConnectionError):
            await agent.handle(records)
        sent = len(broker.sends)
        await asyncio.sleep(0.2)
        assert broker.under_way == 0
        return sent

    assert asyncio.run(play()) == len(broker.sends) == fails + 1


def test_the_list_that_was_sent_last_is_the_one_to_compare_with() -> None:
    """A, then B, then A again: B has not been read back, and is out all the same."""
    broker = Broker(lambda: asyncio.sleep(0))
    agent, records, metrics = batch_of(broker)
    learner, model = agent.learner, agent.learner.model
    lists = iter(["A", "B", "A", "A"])
    usual = {name: model.popular(n) for name, n in (("A", 3), ("B", 2))}
    model.recommend = lambda *arguments, **more: usual[next(lists)]  # type: ignore[method-assign]

    async def play() -> None:
        for k, record in enumerate(records[:4]):
            line = Interaction(kind="click", event_id=f"x{k}", user_id="ada", item_id="i1", timestamp_ms=1_000 + k)
            await agent.handle([dataclasses.replace(record, value=encode(line))])

    asyncio.run(play())
    assert [len(send) for send in broker.sends] == [1, 1, 1], "the fourth is as the third"
    last = learner.served.last("ada")
    assert last is not None
    assert (last.items, last.read) == (tuple(line.item_id for line in usual["A"]), False)
    assert metrics.unchanged._value.get() == 1


@pytest.mark.parametrize("events", [1, 3])
def test_people_take_turns_where_all_of_them_come_again_and_again(events: int) -> None:
    """However their events are mixed in the log; first come, first served where they do not."""
    broker = Broker(lambda: asyncio.sleep(0))
    agent, records, _ = batch_of(broker)
    template = records[0]

    async def play(people: Sequence[int], batch: int) -> list[bytes | None]:
        begin, found = len(broker.sends), agent.learner.model.popular(batch)
        agent.learner.model.recommend = lambda *arguments, **more: found  # type: ignore[method-assign]
        lines = [
            Interaction(kind="click", event_id=f"{batch}-{k}", user_id=f"u{k}", item_id=f"i{k % 7}", timestamp_ms=1_000)
            for k in people
            for _ in range(events)
        ]
        begin_offset = 10 * PEOPLE * batch
        await agent.handle(
            [dataclasses.replace(template, value=encode(line), offset=begin_offset + k) for k, line in enumerate(lines)]
        )
        return [key for send in broker.sends[begin:] for key in send]

    one, other = range(PEOPLE), [*reversed(range(PEOPLE))]
    first, second = asyncio.run(play(one, 1)), asyncio.run(play(other, 2))
    assert sorted(first, key=str) == sorted(second, key=str)
    assert len(first) == PEOPLE
    assert (first == second) == (events > 1)
    if events == 1:
        assert (first, second) == ([f"u{k}".encode() for k in one], [f"u{k}".encode() for k in other])


@pytest.mark.parametrize("folded", ["before the answer", "after it"])
def test_of_somebody_who_is_forgotten_no_list_is_remembered(folded: str) -> None:
    """The tombstone may have been read by then, from another worker that has the partition now."""
    held = asyncio.Event()
    agent, records, _ = batch_of(Broker(held.wait))
    learner, time_ms = agent.learner, 10**6
    erasure = encode(Interaction(kind="erasure", event_id="forget", user_id="u0", item_id="", timestamp_ms=time_ms))
    fold = [dataclasses.replace(records[0], value=erasure, offset=PEOPLE)]

    async def play() -> None:
        batch = asyncio.create_task(agent.handle(records[:2]))
        await asyncio.sleep(0.05)
        if folded == "before the answer":
            learner.interactions(0, fold)
        held.set()
        await batch
        if folded == "after it":
            assert learner.served.last("u0") is not None
            learner.interactions(0, fold)

    asyncio.run(play())
    assert learner.served.last("u0") is None
    assert learner.served.last("u1") is not None
