"""Lanes by themselves: batches in order and within bounds, acknowledged only when done, never after the partitions were taken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams import lanes
from streams.lanes import Lane

P0, P1 = TP("t", 0), TP("t", 1)


def record(tp: TP, offset: int, value: bytes = b"v") -> ConsumerRecord:
    return ConsumerRecord(tp.topic, tp.partition, offset, 0, 0, b"k", value, None, 1, len(value), ())


def records(tp: TP, *offsets: int) -> list[ConsumerRecord]:
    return [record(tp, offset) for offset in offsets]


class Flow:
    """What a lane sees of a consumer."""

    def __init__(self) -> None:
        self.lane_done: dict[Any, int] = {}
        self.full: set[Any] = set()

    def on_buffer_full(self, tp: Any) -> None:
        self.full.add(tp)

    def on_buffer_drop(self, tp: Any) -> None:
        self.full.discard(tp)


async def nothing(batch: list[ConsumerRecord]) -> None:
    """A handler."""


def places(batch: list[ConsumerRecord]) -> list[tuple[int, int]]:
    return [(r.partition, r.offset) for r in batch]


async def until(true: Any) -> None:
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0.001)
    pytest.fail("not within 10 s")


def test_a_batch_is_cut_at_max_records_and_the_rest_stays() -> None:
    lane, flow = Lane(nothing, max_records=3), Flow()
    lane.put(flow, P0, records(P0, 5, 6))
    lane.put(flow, P1, records(P1, 0, 1, 2))
    batch, done = lane.take(flow)
    assert places(batch) == [(0, 5), (0, 6), (1, 0)]
    assert done == {P0: 7, P1: 1}
    batch, done = lane.take(flow)
    assert places(batch) == [(1, 1), (1, 2)]
    assert done == {P1: 3}
    assert lane.take(flow) == ([], {})
    assert lane.queued_bytes == 0


@given(
    st.lists(st.tuples(st.sampled_from([P0, P1]), st.integers(1, 7)), max_size=12),
    st.integers(1, 9),
)
def test_batches_together_are_the_input_in_order_per_partition(fetches: list[tuple[TP, int]], max_records: int) -> None:
    lane, flow, ends = Lane(nothing, max_records=max_records), Flow(), {P0: 0, P1: 0}
    for tp, n in fetches:
        lane.put(flow, tp, records(tp, *range(ends[tp], ends[tp] + n)))
        ends[tp] += n
    taken: dict[int, list[int]] = {0: [], 1: []}
    last: dict[Any, int] = {}
    while True:
        batch, done = lane.take(flow)
        if not batch:
            break
        assert len(batch) <= max_records
        for partition, offset in places(batch):
            taken[partition].append(offset)
        assert done == {tp: taken[tp.partition][-1] + 1 for tp in done}
        last.update(done)
    assert taken == {0: list(range(ends[P0])), 1: list(range(ends[P1]))}
    assert last == {tp: end for tp, end in ends.items() if end}


def test_a_full_partition_is_not_fetched_until_half_of_it_is_done() -> None:
    lane, flow = Lane(nothing, max_records=1), Flow()
    large = lanes.HIGH_WATER_BYTES // 4
    for offset in range(3):
        lane.put(flow, P0, [record(P0, offset, b"x" * large)])
        assert flow.full == set()
    lane.put(flow, P0, [record(P0, 3, b"x" * large)])
    lane.put(flow, P1, records(P1, 0))
    assert flow.full == {P0}
    lane.take(flow)
    lane.take(flow)
    assert flow.full == {P0}, "two large records are a little more than half"
    lane.take(flow)
    assert flow.full == set()


def test_small_records_count_with_the_size_of_their_objects() -> None:
    lane, flow = Lane(nothing), Flow()
    fit = lanes.HIGH_WATER_BYTES // (lanes.RECORD_BYTES + 2)
    lane.put(flow, P0, records(P0, *range(fit)))
    assert flow.full == set()
    lane.put(flow, P0, records(P0, fit))
    assert flow.full == {P0}


def test_done_only_after_the_handler_returned_and_counted() -> None:
    async def scenario() -> None:
        flow, go, seen = Flow(), asyncio.Event(), []

        async def handler(batch: list[ConsumerRecord]) -> None:
            await go.wait()

        lane = Lane(handler, max_records=2, observe=lambda n, seconds: seen.append((n, seconds)))
        task = asyncio.create_task(lane.run(lambda: flow))
        lane.put(flow, P0, records(P0, 7, 8, 9))
        await until(lambda: not lane.idle.is_set())
        assert flow.lane_done == {}
        await until(lambda: lane.stats.running_s > 0)
        go.set()
        await until(lambda: flow.lane_done == {P0: 10})
        await lane.idle.wait()
        stats = lane.stats
        assert (stats.batches, stats.records, stats.largest, stats.last_records, stats.running_s) == (2, 3, 2, 1, 0.0)
        assert [n for n, _ in seen] == [2, 1]
        assert stats.seconds == pytest.approx(sum(seconds for _, seconds in seen))
        task.cancel()

    asyncio.run(scenario())


def test_a_batch_whose_partitions_were_taken_meanwhile_is_not_done() -> None:
    async def scenario() -> None:
        flow, go = Flow(), asyncio.Event()

        async def handler(batch: list[ConsumerRecord]) -> None:
            await go.wait()

        lane = Lane(handler)
        task = asyncio.create_task(lane.run(lambda: flow))
        lane.put(flow, P0, records(P0, 0, 1))
        await until(lambda: not lane.idle.is_set())
        lane.put(flow, P0, records(P0, 2))
        lane.clear()
        go.set()
        await lane.idle.wait()
        assert flow.lane_done == {}
        assert lane.queued_bytes == 0
        lane.put(flow, P0, records(P0, 0, 1, 2))  # as the next owner, perhaps us again
        await until(lambda: flow.lane_done == {P0: 3})
        task.cancel()

    asyncio.run(scenario())


def test_a_cancelled_batch_is_not_done_and_leaves_the_lane_unfit() -> None:
    async def scenario() -> None:
        flow, begun = Flow(), asyncio.Event()

        async def handler(batch: list[ConsumerRecord]) -> None:
            begun.set()
            await asyncio.sleep(60)

        lane = Lane(handler)
        task = asyncio.create_task(lane.run(lambda: flow))
        lane.put(flow, P0, records(P0, 0))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert flow.lane_done == {}
        assert not lane.idle.is_set()

    asyncio.run(scenario())


def test_nothing_is_taken_before_the_lane_is_ready() -> None:
    async def scenario() -> None:
        flow, open_, seen = Flow(), asyncio.Event(), []

        async def when_ready() -> None:
            await open_.wait()

        async def handler(batch: list[ConsumerRecord]) -> None:
            seen.extend(places(batch))

        lane = Lane(handler, when_ready=when_ready, linger_s=0.001)
        task = asyncio.create_task(lane.run(lambda: flow))
        lane.put(flow, P0, records(P0, 0))
        for _ in range(20):
            await asyncio.sleep(0)
        assert seen == []
        assert lane.idle.is_set(), "waiting to be ready must not hold up a rebalance"
        open_.set()
        await until(lambda: seen == [(0, 0)])
        task.cancel()

    asyncio.run(scenario())


def test_what_comes_soon_after_a_batch_is_gathered() -> None:
    async def scenario() -> None:
        flow, batches = Flow(), []

        async def handler(batch: list[ConsumerRecord]) -> None:
            batches.append(places(batch))

        lane = Lane(handler, linger_s=0.2)
        task = asyncio.create_task(lane.run(lambda: flow))
        for offset in range(3):
            lane.put(flow, P0, records(P0, offset))
            await asyncio.sleep(0.01)
        await until(lambda: len(batches) == 2)
        assert batches == [[(0, 0)], [(0, 1), (0, 2)]]
        task.cancel()

    asyncio.run(scenario())


def test_neither_the_first_after_a_while_nor_enough_for_a_full_batch_is_kept_waiting() -> None:
    async def scenario() -> None:
        flow, batches = Flow(), []

        async def handler(batch: list[ConsumerRecord]) -> None:
            batches.append(places(batch))

        lane = Lane(handler, linger_s=3600.0, max_records=2)
        task = asyncio.create_task(lane.run(lambda: flow))
        lane.put(flow, P0, records(P0, 0))
        await until(lambda: batches == [[(0, 0)]])
        lane.put(flow, P0, records(P0, 1, 2, 3, 4))
        await until(lambda: batches[1:] == [[(0, 1), (0, 2)], [(0, 3), (0, 4)]])
        lane.put(flow, P0, records(P0, 5))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(batches) == 3, "one alone waits for others"
        assert lane.idle.is_set(), "and holds up no rebalance"
        task.cancel()

    asyncio.run(scenario())


def test_a_handler_that_raises_ends_the_process_and_says_where() -> None:
    program = """
import asyncio, logging, sys
from faust.types import TP
from streams.lanes import Lane
from tests.streams.test_lanes import Flow, records
logging.basicConfig(level="INFO")
async def broken(batch):
    raise RuntimeError("an error of ours")
async def scenario():
    lane, flow = Lane(broken), Flow()
    lane.put(flow, TP("t", 3), records(TP("t", 3), 41))
    try:
        await lane.run(lambda: flow)
    finally:
        print("not reached")
asyncio.run(scenario())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 70
    assert "broken failed" in done.stderr
    assert "t/3/42" in done.stderr
    assert "RuntimeError: an error of ours" in done.stderr
    assert done.stdout == "", "the process ends at once, nothing is cleaned up or acknowledged"


def test_a_batch_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room for a record"):
        Lane(nothing, max_records=0)
