"""Recommend: one list per user who acted, pushed when it changed.

A batch of this worker's partitions of `interactions` -> wait until the replica has folded those offsets -> one list per distinct
user -> produce, acknowledged -> done. Lists go out some at a time, while the next ones are made; the batch is done when all have
been acknowledged. When it falls behind, a batch holds more events per user: it coalesces, it never drops.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, Protocol

import numpy as np
from aiokafka import ConsumerRecord

from models import events
from models.events import POPULAR, CausedBy, Interaction, Reason, RecommendationList, Recommended, Refusal
from models.text_ranking import recent
from streams import clock
from streams.attribute import Attribute
from streams.ingest import Outbox, Produce, partition_of, refuse
from streams.language_stage import Asked, LanguageStage
from streams.learn import Learner, decode_interaction
from streams.metrics import Metrics
from streams.near import Hits
from streams.settings import Settings

log = logging.getLogger(__name__)

BREATHE_S = 0.004
"""Making lists yields to fetching, heartbeats and the replica at least so often."""

Near = Callable[[list[np.ndarray], int], Awaitable[list[Hits] | None]]
"""Items near each taste vector from an outside vector search; None when it does not answer in time."""

LineAt = Callable[[int, int], Awaitable[Interaction | None]]
"""The line of the log at that partition and offset."""
TOGETHER: Final = 20
"""Lists, some 10 ms of work, after which those that are ready go out if none are on their way: the first of a large batch do not
wait for the last, and Kafka acknowledges some while others are made."""
COALESCED: Final = 2
"""Events for each list of a batch, in the mean, from which on people take turns (see `_causes`)."""
REPEATED: Final = 20
"""Lists sent again at once, of those that were overwritten by older ones: each costs a question to Kafka."""


class Reached(Protocol):
    """The part of the replica that is needed here: wait until it has folded that record, and how far it has come."""

    async def reached(self, topic: str, partition: int, offset: int) -> None: ...

    def position(self, topic: str, partition: int) -> int: ...


class Cause(NamedTuple):
    """Why a user gets a list now: their newest interaction in the batch, and its place in the log."""

    line: Interaction
    partition: int
    offset: int


class Made:
    """Lists that wait to be sent, and what caused them (all that has been looked at, also where no list changed)."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.causes: list[Cause] = []
        self.lists: list[RecommendationList] = []


def list_id(user_id: str, event_id: str) -> str:
    """Derived from the cause, so that a replay emits the same id: 128 bits, hexadecimal."""
    return hashlib.blake2b(f"{user_id}\0{event_id}".encode(), digest_size=16).hexdigest()


class Recommend:
    """Topic interactions -> recommendations; clicks in it are attributed first, to the lists that were out before."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        learner: Learner,
        attribute: Attribute,
        replica: Reached,
        produce: Produce,
        near: Near | None = None,
    ) -> None:
        self.settings, self.metrics, self.learner, self.attribute = settings, metrics, learner, attribute
        self.replica, self.produce, self.near = replica, produce, near
        self.topic = settings.topic("interactions")
        self.language: LanguageStage | None = None  # set once it has started
        self._popular: tuple[str, ...] = ()

    async def handle(self, records: list[ConsumerRecord]) -> None:
        """One batch; returning acknowledges it."""
        started = time.perf_counter()
        for partition, offset in {r.partition: r.offset for r in records}.items():
            await self.replica.reached(self.topic, partition, offset)
        waited = time.perf_counter()
        outbox = Outbox(self.settings.partitions)
        lines = self._decode(records, outbox)
        self.attribute.clicks(lines)
        await outbox.send(self.produce)
        made = await self._serve(self._causes(lines), _times(lines))
        for stage, spent in (("wait", waited - started), ("recommend", made - waited), ("emit", time.perf_counter() - made)):
            self.metrics.stage[stage].observe(spent)

    async def _serve(self, causes: list[Cause], times: dict[str, list[int]]) -> float:
        """A list for each cause; returns when all have been acknowledged: the time (s) at which the last was made. `times`: of a
        user's events, when the broker got them (ms).

        What is made while some lists are on their way goes out together when they have arrived: Kafka takes one batch of a
        partition at a time."""
        hits = await self._near(causes)
        together = len(causes) if self.language is not None else TOGETHER  # the language stage has one budget for a batch
        made, sending = Made(Outbox(self.settings.partitions)), None
        try:
            for begin in range(0, len(causes), max(1, together)):
                part = causes[begin : begin + together]
                made.lists += await self._lists(part, hits[begin : begin + together], made.outbox)
                made.causes += part
                if sending is None or sending.done():
                    if sending is not None:
                        await sending  # it has ended; well, or with an error
                    sending = asyncio.create_task(self._send(made, times))
                    made = Made(Outbox(self.settings.partitions))
            done = time.perf_counter()
        finally:
            if sending is not None:
                await sending  # whatever happens, nothing of a batch goes out after it
        await self._send(made, times)
        self._fresh(time_ms for rest in times.values() for time_ms in rest)
        return done

    async def _send(self, made: Made, times: dict[str, list[int]]) -> None:
        """Some lists go out, and are accounted for once they have been acknowledged."""
        await made.outbox.send(self.produce)
        for served in made.lists:  # the next list of the same user may come before this one is read back
            if not self.learner.model.is_forgotten(served.user_id, served.caused_by.timestamp_ms):
                self.learner.served.put(served, read=False)
        if log.isEnabledFor(logging.DEBUG):
            for served in made.lists:
                log.debug("list out", extra={"list_id": served.list_id, "event_id": served.caused_by.event_id})
        self._live(made.causes, made.lists)
        self.metrics.lists["user"].inc(len(made.lists))
        for served in made.lists:
            self.metrics.shown(served.arm, range(1, len(served.items) + 1), "served")
        self._fresh(time_ms for cause in made.causes for time_ms in times.pop(cause.line.user_id, ()))

    def _decode(self, records: list[ConsumerRecord], outbox: Outbox) -> list[tuple[Interaction, ConsumerRecord]]:
        lines = []
        for record in records:
            line = decode_interaction(record.value)
            if line is None:
                foreign = Refusal(Reason.INVALID_FIELD, "not a line of the interactions log: only ingest may write there")
                refuse(self.metrics, outbox, "interactions", record, foreign, clock.now_ms())
            else:
                lines.append((line, record))
        return lines

    def _causes(self, lines: list[tuple[Interaction, ConsumerRecord]]) -> list[Cause]:
        """The newest line of each user. What comes late about the forgotten causes nothing.

        First come, first served; but where everybody has come again since the last batch, all take turns, always the same: else
        somebody would be among the first in one batch and among the last in the next, and wait nearly twice as long."""
        newest: dict[str, Cause] = {}
        for line, record in lines:
            if line.kind != "erasure" and self.learner.model.is_forgotten(line.user_id, line.timestamp_ms):
                continue
            newest.pop(line.user_id, None)
            newest[line.user_id] = Cause(line, record.partition, record.offset)
        causes = list(newest.values())
        if len(lines) >= COALESCED * len(causes):
            causes.sort(key=lambda cause: hash(cause.line.user_id))
        return causes

    async def _lists(
        self, causes: list[Cause], hits: list[Hits | None], outbox: Outbox, *, again: bool = False
    ) -> list[RecommendationList]:  # fmt: skip
        """A changed list for each cause goes into the outbox (a tombstone for a forgotten user); `again`: though it is out."""
        size = self.settings.list_size
        depth = size if self.language is None else max(size, self.settings.ranker_candidates)
        made: list[tuple[Cause, list[Recommended]]] = []
        breath = time.perf_counter()
        for cause, near in zip(causes, hits, strict=True):
            if cause.line.kind == "erasure":
                outbox.put("recommendations", cause.line.user_id, None)
                continue
            made.append((cause, self.learner.model.recommend(cause.line.user_id, depth, context=cause.line.context, near=near)))
            if time.perf_counter() - breath > BREATHE_S:
                await asyncio.sleep(0)
                breath = time.perf_counter()
        if self.language is not None:
            made = await self._reordered(self.language, made)
        lists: list[RecommendationList] = []
        for cause, items in made:
            user = cause.line.user_id
            last = self.learner.served.last(user)
            if last is not None and self._is_out(cause, last.log_offset, again=again):
                self.metrics.overtaken["not_sent"].inc()
            elif not again and last is not None and last.items == tuple(item.item_id for item in items):
                self.metrics.unchanged.inc()
            else:
                served = self._list(user, cause.line, cause.offset, items)
                lists.append(served)
                outbox.put("recommendations", user, events.encode(served))
        return lists

    def _is_out(self, cause: Cause, newest: int, *, again: bool) -> bool:
        """Whether a list for this event, or for a later one of the user, is out: this batch was somebody's before. A list for an
        event that is not in the log yet comes from another log and does not count."""
        return cause.offset + again <= newest < self.replica.position(self.topic, cause.partition)

    async def _reordered(
        self, language: LanguageStage, made: list[tuple[Cause, list[Recommended]]]
    ) -> list[tuple[Cause, list[Recommended]]]:
        """The lists as the language stage orders and shortens them."""
        history, count = self.learner.model.history, self.settings.ranker_history
        asked = [Asked(recent(history, cause.line.user_id, count), items) for cause, items in made]
        ordered = await language.reorder(asked, self.settings.list_size)
        return [(cause, items) for (cause, _), items in zip(made, ordered, strict=True)]

    def _list(
        self, user_id: str, cause: Interaction | CausedBy, offset: int, items: list[Recommended]
    ) -> RecommendationList:  # fmt: skip
        return RecommendationList(
            user_id=user_id,
            list_id=list_id(user_id, cause.event_id),
            generated_at_ms=clock.now_ms(),
            log_offset=offset,
            caused_by=CausedBy(event_id=cause.event_id, timestamp_ms=cause.timestamp_ms),
            arm=self.settings.arm,
            items=items,
        )

    async def _near(self, causes: list[Cause]) -> list[Hits | None]:
        """One batched question per micro-batch to a Qdrant server; without one, or when the deadline passes, the model's
        exact scan of its replicated vectors answers."""
        nobody: list[Hits | None] = [None] * len(causes)
        if self.near is None:
            self.metrics.near["scan"].inc(len(causes))
            return nobody
        tastes = [self.learner.model.taste(cause.line.user_id) for cause in causes]
        asking = [k for k, taste in enumerate(tastes) if taste is not None]
        answers = (
            await self.near([taste for taste in tastes if taste is not None], 3 * self.settings.list_size + 50) if asking else []
        )
        if answers is None:
            self.metrics.near["scan"].inc(len(causes))
            return nobody
        self.metrics.near["qdrant"].inc(len(answers))
        for k, answer in zip(asking, answers, strict=True):
            nobody[k] = answer
        return nobody

    async def popular(self, owns: Callable[[int], bool], log_offset: int) -> None:
        """The list for strangers, where this worker owns its partition and it changed. Called now and then."""
        cause = self.learner.newest
        if cause is None or not owns(partition_of(POPULAR.encode(), self.settings.partitions)):
            return
        items = self.learner.model.popular(self.settings.list_size)
        names = tuple(item.item_id for item in items)
        last = self.learner.served.last(POPULAR)
        if names in (self._popular, last.items if last else ()):
            return
        served = self._list(POPULAR, cause, log_offset, items)
        outbox = Outbox(self.settings.partitions)
        outbox.put("recommendations", POPULAR, events.encode(served))
        await outbox.send(self.produce)
        self._popular = names
        self.metrics.lists["strangers"].inc()

    async def repeat(self, owns: Callable[[int], bool], line_at: LineAt) -> None:
        """Where a worker that froze has written an older list after the one that holds: send that again, made anew for the same
        event. Called now and then."""
        for user, offset in list(self.learner.overtaken.items())[:REPEATED]:
            partition = partition_of(user.encode(), self.settings.partitions)
            if not owns(partition):
                continue
            line = await line_at(partition, offset)
            if self.learner.overtaken.get(user) != offset:
                continue  # somebody has written since
            del self.learner.overtaken[user]
            mine = line is not None and line.user_id == user and line.kind != "erasure"
            if line is None or not mine or self.learner.model.is_forgotten(user, line.timestamp_ms):
                continue
            outbox = Outbox(self.settings.partitions)
            cause = [Cause(line, partition, offset)]
            lists = await self._lists(cause, await self._near(cause), outbox, again=True)
            await outbox.send(self.produce)
            self.metrics.overtaken["sent_again"].inc(len(lists))

    def _live(self, causes: list[Cause], lists: list[RecommendationList]) -> None:
        quality, now = self.learner.quality, clock.now_ms()
        if quality is not None:
            of = {cause.line.user_id: cause for cause in causes}
            for served in lists:
                cause = of[served.user_id]
                quality.list_out(cause.partition, served, cause.line.received_ms, now)

    def _fresh(self, times_ms: Iterable[int]) -> None:
        """The lists of events that the broker got then have been acknowledged now."""
        now, oldest = clock.now_ms(), None
        for time_ms in times_ms:
            if time_ms > now:
                self.metrics.skew.inc()
            self.metrics.freshness.observe(max(0, now - time_ms) / 1000)
            oldest = time_ms if oldest is None else min(oldest, time_ms)
        if oldest is not None:
            self.learner.behind_ms = now - oldest


def _times(lines: list[tuple[Interaction, ConsumerRecord]]) -> dict[str, list[int]]:
    """User -> when the broker got each of their events (ms)."""
    times: dict[str, list[int]] = {}
    for line, record in lines:
        times.setdefault(line.user_id, []).append(record.timestamp)
    return times
