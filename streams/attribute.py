"""Attribute: clicks and impressions against what was served. Counts only; the ratio is made where it is read."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import ConsumerRecord

from models import events
from models.attribution import Attributed, RecentIds, Unattributed
from models.events import Impression, Interaction, Refusal
from models.live import Shown
from streams import clock
from streams.ingest import Outbox, Produce, partition_of, refuse
from streams.learn import Learner
from streams.metrics import Metrics
from streams.settings import Settings


class Attribute:
    """Counts attributed clicks (called with the interactions this worker owns) and shown items (topic impressions)."""

    def __init__(self, settings: Settings, metrics: Metrics, learner: Learner, produce: Produce) -> None:
        self.settings, self.metrics, self.learner, self.produce = settings, metrics, learner, produce
        self.window_ms = settings.attribution_window_s * 1000
        self.seen = RecentIds()

    def clicks(self, lines: Iterable[tuple[Interaction, ConsumerRecord]]) -> None:
        """Count each click once: the fold has said which lines of the log were repeated."""
        quality = self.learner.quality
        for line, record in lines:
            if quality is not None:
                quality.passed(record.partition, line.received_ms)
            if line.kind != "click" or self.learner.is_repeated(record.partition, record.offset):
                continue
            found = self.learner.served.attribute(line, self.window_ms)
            if isinstance(found, Attributed):
                self.metrics.click(found.arm, found.position)
                if quality is not None:
                    to = Shown(line.user_id, found.list_id, found.arm)
                    quality.clicked(record.partition, to, found.position, line.received_ms)
            else:
                self.metrics.unattributed[found.value].inc()
            named = line.list_id
            if named is not None and found is not Unattributed.NO_LIST and self.learner.served.find(line.user_id, named) is None:
                self.metrics.of_unknown_list.inc()

    async def handle(self, records: list[ConsumerRecord]) -> None:
        """One batch of `impressions`; returning acknowledges it."""
        now = clock.now_ms()
        outbox = Outbox(self.settings.partitions)
        for record in records:
            event = events.decode("impressions", record.value, now_ms=now, limits=self.settings.limits)
            if isinstance(event, Refusal):
                refuse(self.metrics, outbox, "impressions", record, event, now)
            elif isinstance(event, Impression):
                self.metrics.events["impressions"].inc()
                self._shown(event, record.timestamp)
        await outbox.send(self.produce)

    def _shown(self, impression: Impression, at_ms: int) -> None:
        if not self.seen.add(impression.event_id):
            return
        known = self.learner.served.positions(impression)
        if known is None:
            self.metrics.impressions_unknown.inc()
            return
        arm, positions = known
        self.metrics.shown(arm, positions, "platform")
        if self.learner.quality is not None:
            partition = partition_of(impression.user_id.encode(), self.settings.partitions)  # in the log, however it came here
            self.learner.quality.shown(partition, Shown(impression.user_id, impression.list_id, arm), positions, at_ms)
