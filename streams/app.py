"""The composition root: one process, its roles, everything built here and handed on; no globals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import faust
from aiokafka.errors import KafkaError
from prometheus_client.core import Metric
from threadpoolctl import threadpool_limits

from models import events
from models.events import Interaction, ItemVector, Reason, Refusal, ReviewVector
from models.snapshot import checksum
from models.warm import warm_up
from streams import clock, logs, transport, weights
from streams.attribute import Attribute
from streams.embed import Embedder, MalformedLine, Published, decode
from streams.health import Health, serve
from streams.ingest import Ingest, Outbox, refuse
from streams.language_stage import LanguageStage
from streams.learn import Learner, decode_interaction
from streams.live_quality import LiveQuality
from streams.memory import give_back_large
from streams.metrics import Metrics, lag_family, owned_family, replica_family, size_families
from streams.near import Near
from streams.parts import MetricsObserver, faust_app, language_stage, vector_store
from streams.presence import EVERY_S, Speaker
from streams.recommend import Recommend
from streams.replica import Positions, Replica, extent, record_at
from streams.settings import ROLES, Settings
from streams.snapshots import Snapshots
from streams.status import Snapshot, render
from streams.text_encoder import create_encoder
from streams.text_words import Withdrawn
from streams.transport import OutRecord
from streams.vector_store import VectorStore, VectorStoreUnavailable
from streams.vitals import Vitals

log = logging.getLogger(__name__)

GOODBYE_S: Final = 5.0
WATCH_S: Final = 1.0
"""How often the strangers' list and the number of points are looked at."""
SWITCH_S: Final = 0.0005
"""How long a thread may keep the interpreter from one that waits for it, a tenth of what is usual: the loop lets go of it with
every message it sends and many an array it makes, and would wait 5 ms each time that the encoder or a client is at work."""
REFRESH_S: Final = 5.0
"""How often the gauges of live quality are brought up to date."""


class Worker:
    """One process of the flow: the Faust app with the agents of its roles, the replica, the embedder.

    Attributes:
        app: the Faust app; `run` starts it and returns when it has stopped.
        learner: the replica's state, None in a process that makes no lists.
    """

    def __init__(self, settings: Settings, roles: Sequence[str] = ROLES, metrics: Metrics | None = None) -> None:
        self.settings, self.roles = settings, tuple(roles)
        self.metrics = metrics if metrics is not None else Metrics(arm=settings.arm)
        self.app = faust_app(settings, self.roles)
        transport.install(self.app, pace_s=settings.pace_ms / 1000)
        self.learner: Learner | None = None
        self.replica: Replica | None = None
        self.recommend: Recommend | None = None
        self.embedder: Embedder | None = None
        self.store: VectorStore | None = None
        self.language: LanguageStage | None = None
        self.snapshots: Snapshots | None = None
        self.speaker: Speaker | None = None
        self._embedder_ready = asyncio.Event()
        self._started_ms = clock.now_ms()
        self._add_agents()
        self.vitals = Vitals(self.app, self.metrics, self.replica, self._embedder_ready if "embed" in self.roles else None)
        self.app.task(self._start_parts)
        self.app.task(self._save_now_and_then)
        self.app.timer(WATCH_S)(self._watch)
        self.app.timer(EVERY_S)(self._speak)
        self.app.timer(min(weights.LOOK_S, settings.weights_interval_s))(self._share_weights)
        self.app.on_partitions_revoked.connect(self._give_away)
        self.app.on_before_shutdown.connect(self._say_goodbye)
        self.metrics.watch(self._collect)

    # -- agents ---------------------------------------------------------------------------------------------------
    def _add_agents(self) -> None:
        topic = self.settings.topic
        if "ingest" in self.roles:
            ingest = Ingest(self.settings, self.metrics, self.produce)
            self._agent("ingest", ingest.handle, *ingest.topics)
        if "recommend" in self.roles:
            self.learner = learner = Learner(self.settings, self.metrics)
            applies = learner.applies()
            self.replica = Replica(
                self.settings.connection, applies, unhurried=applies.keys() - {topic("interactions")},
                pace_s=self.settings.pace_ms / 1000,
            )  # fmt: skip
            learner.caught_up = self.replica.ready.is_set
            learner.quality = LiveQuality(self.settings, self.metrics, learner, self.replica.ready.is_set)
            self.app.on_partitions_assigned.connect(self._take_over)
            self.app.timer(REFRESH_S)(self._refresh)
            attribute = Attribute(self.settings, self.metrics, learner, self.produce)
            near = Near(self.settings, self.metrics, lambda: self.store) if self.settings.qdrant_url else None
            self.recommend = Recommend(self.settings, self.metrics, learner, attribute, self.replica, self.produce, near)
            self._agent("recommend", self.recommend.handle, topic("interactions"), when_ready=self.replica.ready.wait)
            self._agent("attribute", attribute.handle, topic("impressions"))
        if "embed" in self.roles:
            self._agent("embed", self._embed, topic("item-texts"), max_records=64, linger=self.settings.text_interval_s,
                        when_ready=self._embedder_ready.wait)  # fmt: skip

    def _agent(
        self,
        name: str,
        handle: Callable[[list[Any]], Awaitable[None]],
        *topics: str,
        max_records: int | None = None,
        linger: float = 0.0,
        when_ready: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        async def run(records: list[Any]) -> None:
            await handle(records)

        run.__name__ = run.__qualname__ = name
        sizes = self.metrics.batch[name]
        transport.batch_agent(
            self.app,
            *topics,
            max_records=max_records or self.settings.batch_events,
            linger=linger,
            when_ready=when_ready,
            observe=lambda records, seconds: sizes.observe(records),
        )(run)

    async def produce(self, topic: str, records: Sequence[OutRecord]) -> None:
        """To a topic of the design; returns when the broker has acknowledged everything."""
        await transport.produce(self.app, self.settings.topic(topic), records)

    # -- text -----------------------------------------------------------------------------------------------------
    async def _embed(self, records: list[Any]) -> None:
        """One batch of `item-texts`; what somebody else wrote there goes aside."""
        assert self.embedder is not None
        outbox, lines = Outbox(self.settings.partitions), []
        for record in records:
            try:
                decode(record)
            except MalformedLine as problem:
                refusal = Refusal(Reason.INVALID_FIELD, f"only ingest may write to item-texts: {problem}")
                refuse(self.metrics, outbox, "item-texts", record, refusal, clock.now_ms())
            else:
                lines.append(record)
        await self.embedder.handle(lines)
        now = clock.now_ms()
        for record in lines:
            self.metrics.text_delay.observe(max(0, now - record.timestamp) / 1000)
        await outbox.send(self.produce)

    async def _publish(self, vectors: list[Published]) -> None:
        outbox = Outbox(self.settings.partitions)
        for vector in vectors:
            match vector:
                case ItemVector():
                    outbox.put("item-vectors", vector.item_id, events.encode(vector))
                case ReviewVector():
                    outbox.put("review-vectors", vector.event_id, events.encode(vector))
                case Withdrawn():
                    outbox.put("review-vectors", vector.event_id, None)
        await outbox.send(self.produce)

    # -- life -----------------------------------------------------------------------------------------------------
    async def _start_parts(self) -> None:
        """Started by the app before any partition is assigned; the agents wait for what they need."""
        try:
            if self.replica is not None:
                await self.app.add_runtime_dependency(self.replica)
            if self.recommend is not None and self.learner is not None and self.learner.texts is not None:
                self.language = language_stage(self.settings, self.learner.texts, self.metrics)
                await self.language.start()
                self.recommend.language = self.language
            if "embed" in self.roles or (self.settings.qdrant_url and "recommend" in self.roles):
                self.store = vector_store(self.settings)
            if "embed" in self.roles:
                assert self.store is not None
                self.embedder = Embedder(
                    create_encoder(**self.settings.encoder), self.store, self._publish, MetricsObserver(self.metrics)
                )
                await self.embedder.start()
                self._embedder_ready.set()
            if self.language is not None or self.embedder is not None:
                gc.freeze()  # their library is never garbage: looking through it would hold up lists for a third of a second
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # mode would log it and go on without the part
            transport.die(f"cannot start: {problem}", problem)

    async def _watch(self) -> None:
        try:
            if self.recommend is not None and self.replica is not None and self.ready:
                await self.recommend.popular(self._owns, self.replica.folded(self.settings.topic("interactions")))
                await self._repeat(self.recommend)
            if self.embedder is not None and self._embedder_ready.is_set():
                for collection, count in (await self.embedder.counts()).items():
                    self.metrics.points[collection].set(count)
        except asyncio.CancelledError:
            raise
        except VectorStoreUnavailable:
            self.metrics.qdrant_failures.inc()
        except Exception as problem:
            transport.die(f"the watch failed: {problem}", problem)

    async def _repeat(self, recommend: Recommend) -> None:
        try:
            await recommend.repeat(self._owns, self._line_at)
        except (KafkaError, TimeoutError) as problem:  # the agents wait for Kafka and decide what that means; this can wait
            log.warning("a list that was overwritten by an older one is sent again later: %s", problem)

    async def _line_at(self, partition: int, offset: int) -> Interaction | None:
        record = await record_at(self.settings.connection, self.settings.topic("interactions"), partition, offset)
        return decode_interaction(record.value) if record is not None else None

    async def _speak(self) -> None:
        try:
            if self.speaker is not None and self.replica is not None and self.replica.positions:
                await self.speaker.speak()
        except asyncio.CancelledError:
            raise
        except KafkaError as problem:  # the agents wait for Kafka and decide what that means; this is only news
            log.warning("nobody could be told that this worker is there: %s", problem)
        except Exception as problem:
            transport.die(f"cannot say that this worker is there: {problem}", problem)

    async def _share_weights(self) -> None:
        """Train for all, if it is for this worker to do so, and let the others have what was learned."""
        try:
            settled = self.replica is not None and self.replica.ready.is_set() and not self.app.rebalancing
            if self.learner is not None and settled and transport.owned(self.app) and self._owns(weights.PARTITION):
                await self.learner.weights.turn(self.produce, self._weights_read)
        except asyncio.CancelledError:
            raise
        except KafkaError as problem:
            log.warning("what was learned could not be shared, it will be tried again: %s", problem)
        except Exception as problem:
            transport.die(f"the weights cannot be shared: {problem}", problem)

    async def _weights_read(self) -> None:
        assert self.replica is not None
        await self.replica.caught_up(self.settings.topic(weights.TOPIC), weights.PARTITION)

    async def _give_away(self, *_: Any, **__: Any) -> None:
        """Partitions are taken away: whoever trains next goes on from what this worker has learned."""
        if self.learner is not None:
            with contextlib.suppress(Exception):  # it is tried once, the group waits
                await asyncio.wait_for(self.learner.weights.publish(self.produce), GOODBYE_S)

    async def _say_goodbye(self, *_: Any, **__: Any) -> None:
        await self._give_away()
        if self.speaker is not None:
            speaker, self.speaker = self.speaker, None
            with contextlib.suppress(Exception):  # whoever stops need not wait for Kafka
                await asyncio.wait_for(speaker.speak(stopped=True), GOODBYE_S)

    async def _save_now_and_then(self) -> None:
        try:
            if self.snapshots is not None:
                await self.snapshots.run()
        except asyncio.CancelledError:
            raise
        except Exception as problem:
            transport.die(f"the snapshots failed: {problem}", problem)

    @property
    def ready(self) -> bool:
        """Whether this process can do its work now (see `vitals`)."""
        return self.vitals.ready

    def _status(self) -> str:
        return render(
            Snapshot(
                settings=self.settings,
                roles=self.roles,
                started_ms=self._started_ms,
                conditions=self.vitals.conditions(),
                done=transport.places(self.app),
                folded=self.replica.places() if self.replica is not None else {},
                agents=transport.stats(self.app),
                sizes=self.learner.sizes() if self.learner is not None else {},
                left_out=self.learner.model.ignored() if self.learner is not None else {},
                weights=self.learner.weights.said() if self.learner is not None else {},
                remembered=logs.recent().lines(),
            )
        )

    async def _take_over(self, _: Any, assigned: Iterable[Any], **__: Any) -> None:
        if self.learner is not None and self.learner.quality is not None:
            topic = self.settings.topic("interactions")
            self.learner.weights.assigned()
            self.learner.quality.own(tp.partition for tp in assigned if tp.topic == topic)

    async def _refresh(self) -> None:
        if self.learner is not None and self.learner.quality is not None:
            self.learner.quality.refresh()

    def _owns(self, partition: int) -> bool:
        topic = self.settings.topic("interactions")
        return any(tp.topic == topic and tp.partition == partition for tp in self.app.consumer.assignment())

    def _collect(self) -> Iterable[Metric]:
        """Read when somebody scrapes."""
        yield lag_family(transport.lag(self.app))
        yield from owned_family(transport.owned(self.app), self.settings.partitions)
        if self.replica is not None and self.learner is not None:
            yield replica_family(self.replica.lag())
            yield from size_families(self.learner.sizes())

    def _warm_up(self) -> None:
        """Before Kafka counts on us: compiling holds up everything else."""
        if self.learner is not None:
            give_back_large()
            threadpool_limits(1, user_api="blas")  # on a busy machine threads that wait for each other take ten times as long
            started = time.perf_counter()
            warm_up(self.settings.model)
            gc.collect()
            gc.freeze()  # what was imported and compiled is never garbage: looking through it would cost lists their time
            log.info("the model's kernels were ready after %.1f s", time.perf_counter() - started)

    def _restore(self, *, rebuild: bool) -> None:
        """Before Kafka counts on us as well: reading a snapshot takes seconds."""
        if self.learner is None or self.replica is None:
            return
        replica = self.replica
        shared = self.settings.topic(
            weights.TOPIC
        )  # read from its beginning by everybody: the newer of it and the snapshot holds
        there = extent(self.settings.connection, [topic for topic in replica.topics if topic != shared])

        def positions() -> Positions:
            return {place: at for place, at in replica.positions.items() if place[0] != shared}

        self.snapshots = Snapshots(self.settings, self.metrics, self.learner, there, positions)
        replica.resume = self.snapshots.restore(rebuild=rebuild)
        self.speaker = Speaker(self.settings, self.produce, lambda: replica.positions, self.snapshots.reach)

    def run(self, *, rebuild: bool = False) -> int:
        """Until a signal or a failure; returns the exit code. `rebuild`: fold the log from its beginning if no snapshot fits.

        Raises:
            SnapshotRefused: there is no state to start from, and the settings do not say to do without.
        """
        Path(self.settings.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)  # Faust's data folder goes into it
        logs.recent().count = lambda level: self.metrics.log_lines[level].inc() if level in self.metrics.log_lines else None
        health = Health(self.vitals.alive, self.vitals.conditions, self._status)
        port = serve(self.metrics.registry, health, self.settings.metrics_host, self.settings.metrics_port)
        log.info("metrics and health on http://%s:%d, roles %s", self.settings.metrics_host, port, ", ".join(self.roles))
        sys.setswitchinterval(SWITCH_S)
        self._warm_up()
        self._restore(rebuild=rebuild or self.settings.snapshot_misfit == "rebuild")
        worker = faust.Worker(
            self.app, loglevel=self.settings.log_level, quiet=True, redirect_stdouts=False, override_logging=False
        )
        worker.spinner = None
        try:
            worker.execute_from_commandline()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            if self.store is not None:
                self.store.close_now()
            if self.language is not None:
                self.language.close()
        if self.snapshots is not None and code == 0:
            self.snapshots.finish()
        if self.learner is not None:
            log.info("state digest %s", self.learner.model.digest())
            shared = self.learner.weights
            log.info(
                "weights %s after %d steps, trust %s", checksum(shared.model.common()), shared.steps(), shared.trusts.checksum()
            )
        return code
