"""Lanes: the queue between Kafka's fetch loop and one batch agent, and its bookkeeping. No Faust here, see transport.py.

Bounds: a partition is not fetched while more than `HIGH_WATER_BYTES` of it wait, each record counted with its size plus
`RECORD_BYTES` for its Python object. What one fetch brings may come on top (`consumer_max_fetch_size`, 1 MB by default). So an
agent that falls behind holds at most 33 MB per partition, some 20,000 small records.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn, Protocol

from aiokafka import ConsumerRecord

log = logging.getLogger(__name__)

EXIT_CODE: Final = 70  # EX_SOFTWARE: the process manager restarts us
RECORD_BYTES: Final = 1_600
HIGH_WATER_BYTES: Final = 32 * 1024 * 1024
"""Keep it high: aiokafka backs off from a partition whose fetched records are not taken."""

OutRecord = tuple[int, bytes | None, bytes | None, int | None, list[tuple[str, bytes]]]
"""What `transport.produce` sends: partition, key, value, timestamp in ms (None: now), headers."""
Handler = Callable[[list[ConsumerRecord]], Awaitable[None]]
Observe = Callable[[int, float], None]
"""Called after each batch with its records and the handler's seconds."""


def die(why: str, exc: BaseException | None = None) -> NoReturn:
    """End the process at once, as SIGKILL would: nothing unfinished is committed, the process manager restarts us and Kafka
    delivers it again. The one answer to an error of ours, since Faust itself would acknowledge what failed."""
    log.critical("FATAL, this process ends with code %d: %s", EXIT_CODE, why, exc_info=exc)
    logging.shutdown()
    os._exit(EXIT_CODE)


class Flow(Protocol):
    """The part of a Faust consumer that a lane needs. `tp` is a faust.types.TP."""

    lane_done: dict[Any, int]

    def on_buffer_full(self, tp: Any) -> None: ...

    def on_buffer_drop(self, tp: Any) -> None: ...


class LaneStats:
    """What a lane has done: plain numbers, read by whoever wants to know."""

    __slots__ = ("batches", "largest", "last_records", "last_seconds", "records", "seconds", "started")

    def __init__(self) -> None:
        self.batches = 0
        self.records = 0
        self.seconds = 0.0  # spent in the handler, waiting included
        self.last_records = 0
        self.last_seconds = 0.0
        self.largest = 0  # records of the largest batch
        self.started: float | None = None  # monotonic time at which the running batch began; None: none is running

    @property
    def running_s(self) -> float:
        """Age of the running batch, 0 when there is none: what a watchdog looks at."""
        started = self.started
        return 0.0 if started is None else time.monotonic() - started

    def begin(self, records: int) -> None:
        self.last_records = records
        self.started = time.monotonic()

    def end(self) -> None:
        assert self.started is not None
        self.last_seconds = time.monotonic() - self.started
        self.started = None
        self.batches += 1
        self.records += self.last_records
        self.seconds += self.last_seconds
        self.largest = max(self.largest, self.last_records)


class Lane:
    """The way of some topics' records to one handler: in offset order per partition, one batch of `max_records` at a time.

    linger_s    from one batch to the next at least so long, unless enough for a full one waits: larger batches, less CPU; what
                comes after a while of quiet does not wait
    when_ready  awaited before the first batch is taken. A handler that waits inside a batch would hold up every rebalance
                meanwhile, one that waits here holds up nobody
    observe     called after each batch
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_records: int = 500,
        linger_s: float = 0.0,
        when_ready: Callable[[], Awaitable[Any]] | None = None,
        observe: Observe | None = None,
    ) -> None:
        if max_records < 1:
            raise ValueError(f"a batch needs room for a record, max_records is {max_records}")
        self.handler, self.max_records, self.linger_s = handler, max_records, linger_s
        self.when_ready, self.observe = when_ready, observe
        self.name: str = getattr(handler, "__name__", type(handler).__name__)
        self.stats = LaneStats()
        self.first: dict[Any, int] = {}  # tp -> the first offset delivered since the last clear(), for the lag
        self.ready, self.idle = asyncio.Event(), asyncio.Event()
        self._taken = -math.inf  # when the last batch was
        self.epoch = 0  # changes when partitions are taken away or sought: a batch of an older epoch is not acknowledged
        self._queue: deque[tuple[Any, Sequence[ConsumerRecord]]] = deque()
        self._queued_bytes: dict[Any, int] = defaultdict(int)
        self.idle.set()

    @property
    def queued_bytes(self) -> int:
        """What waits, over all partitions."""
        return sum(list(self._queued_bytes.values()))

    def put(self, flow: Flow, tp: Any, records: Sequence[ConsumerRecord]) -> None:
        """Called by the fetch loop."""
        self.first.setdefault(tp, records[0].offset)
        self._queue.append((tp, records))
        self._queued_bytes[tp] += _bytes(records)
        if self._queued_bytes[tp] > HIGH_WATER_BYTES:
            flow.on_buffer_full(tp)
        self.ready.set()

    def take(self, flow: Flow) -> tuple[list[ConsumerRecord], dict[Any, int]]:
        """The next batch and, per partition, the offset after its last record."""
        batch: list[ConsumerRecord] = []
        done: dict[Any, int] = {}
        while self._queue and (room := self.max_records - len(batch)) > 0:
            tp, records = self._queue.popleft()
            if len(records) > room:
                self._queue.appendleft((tp, records[room:]))
                records = records[:room]
            batch += records
            done[tp] = records[-1].offset + 1
            self._queued_bytes[tp] -= _bytes(records)
            if self._queued_bytes[tp] <= HIGH_WATER_BYTES // 2:
                flow.on_buffer_drop(tp)
        return batch, done

    def drop(self) -> None:
        """Forget what waits: it will be fetched again."""
        self._queue.clear()
        self._queued_bytes.clear()
        self.ready.clear()

    def clear(self) -> None:
        """As `drop`, and from here on the running batch cannot be acknowledged any more."""
        self.epoch += 1
        self.first.clear()
        self.drop()

    async def run(self, flow: Callable[[], Flow]) -> None:
        """The agent's body; ends only by being cancelled. `flow` is asked anew for each batch."""
        if self.when_ready is not None:
            await self.when_ready()
        while True:
            await self.ready.wait()
            if not self._queue:
                self.ready.clear()
                continue
            await self._linger()
            await self._one(flow())

    async def _linger(self) -> None:
        """Until the next batch may be taken."""
        if self.linger_s and sum(len(records) for _, records in self._queue) < self.max_records:
            await asyncio.sleep(self._taken + self.linger_s - time.monotonic())  # at once where that is in the past
        self._taken = time.monotonic()

    async def _one(self, flow: Flow) -> None:
        epoch = self.epoch
        batch, done = self.take(flow)
        if not batch:  # dropped while we lingered
            return
        self.idle.clear()
        self.stats.begin(len(batch))
        try:
            await self.handler(batch)
        except asyncio.CancelledError:
            raise  # shutdown: the batch stays unacknowledged
        except BaseException as exc:
            die(f"the batch handler {self.name} failed, the batch up to {_readable(done)} will be delivered again", exc)
        self.stats.end()
        if epoch == self.epoch:  # else the partitions were taken away meanwhile: whoever has them now does this batch again
            flow.lane_done.update(done)
        self.idle.set()
        if self.observe is not None:
            self.observe(self.stats.last_records, self.stats.last_seconds)


def _bytes(records: Sequence[ConsumerRecord]) -> int:
    """What records are counted with; a null key or value has size -1, which does not matter beside RECORD_BYTES."""
    return len(records) * RECORD_BYTES + sum(int(r.serialized_value_size + r.serialized_key_size) for r in records)


def _readable(done: dict[Any, int]) -> str:
    return ", ".join(f"{tp.topic}/{tp.partition}/{offset}" for tp, offset in sorted(done.items()))
