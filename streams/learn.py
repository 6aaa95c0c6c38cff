"""Learn: this process's replica of the model is the fold of the log (all partitions), the catalogue and the item vectors; what
was served is the fold of the output topic."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiokafka import ConsumerRecord

from models import Recommender, events
from models.attribution import RecentIds, ServedLists
from models.events import POPULAR, CausedBy, Interaction, Item, ItemVector, ReviewVector, ServedList
from models.fold import check
from models.kept import Kept, Saved, Value
from models.snapshot import fingerprint
from models.text_ranking import ItemTexts
from streams import clock
from streams.ingest import decode_item
from streams.metrics import Metrics
from streams.settings import Settings
from streams.weights import Weights

if TYPE_CHECKING:
    from streams.live_quality import LiveQuality

log = logging.getLogger(__name__)

OVERTAKEN: Final = 10_000
"""Users noted whose older list was written after the newer one; of more, the first have to wait for their next event."""

_interaction = msgspec.json.Decoder(Interaction).decode
_vector = msgspec.json.Decoder(ItemVector).decode
_words = msgspec.json.Decoder(ReviewVector).decode
_cause = msgspec.json.Decoder(CausedBy).decode
_list = msgspec.json.Decoder(ServedList).decode


def decode_interaction(value: bytes | None) -> Interaction | None:
    """A line of our own log; None where somebody else wrote something there that is none (it changes no state)."""
    try:
        line = _interaction(value or b"")
        check(line)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return line


LATE_MS: Final = 50
"""Where the broker got an event longer ago than this, or one of those whose lists went out last, lists are about to be late (what
is wanted is 100 ms): what is not needed for the next lists gives way now, not when it is too late."""
LATE_SHARE: Final = 0.1
"""Part of the budget for training that there is for late events: nearly all of the time goes to catching up, and what people want
now is learned a little all the same. Of them the embedding does not learn earlier events again either."""


class Budget:
    """So many steps of training per second of wall clock, at most a second's worth saved up: at high rates the fusion learns from
    a share of the events. Every event is in the exact state all the same."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._saved = per_s
        self._looked_ms: int | None = None

    def take(self, now_ms: int) -> bool:
        """Whether this event may be trained on."""
        if self._looked_ms is not None:
            self._saved = min(self.per_s, self._saved + max(0, now_ms - self._looked_ms) / 1000 * self.per_s)
        self._looked_ms = now_ms
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


class Learner(Kept):
    """The model and the served lists of this process, and how each topic's records change them.

    Attributes:
        weights: which of the model's weights hold, and whether this process may train them.
        newest: the last event that changed the model: the cause of the strangers' list.
        erasures: how many people were forgotten, ever.
    """

    kept = ("model", "weights", "served", "_repeated", "texts", "newest", "erasures")

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.model = Recommender(settings.model)
        self.weights = Weights(settings, metrics, self.model)
        self.served = ServedLists(settings.served_users, settings.served_lists_per_user)
        self.newest: CausedBy | None = None
        self.erasures = 0
        self._budget, self._late = Budget(settings.training_per_s), Budget(LATE_SHARE * settings.training_per_s)
        self._again = Budget(settings.training_per_s)  # of events after which the embedding learns earlier ones again
        self._repeated = RecentIds()  # places in the log that changed nothing
        self.texts = ItemTexts(settings.model.max_vectors) if settings.ranker else None  # what the language stage reads
        self.quality: LiveQuality | None = None  # tests the model before it learns
        self.caught_up: Callable[[], bool] = lambda: False  # whether what comes is new: an old log is trained on like any
        self.behind_ms = 0  # how long ago the broker got the oldest of the events whose lists went out last
        self.overtaken: dict[str, int] = {}  # user -> log offset of the list that holds, where an older one was written after it
        self.foreign_vectors = 0  # vectors that do not fit the model's: another encoder is at work

    def applies(self) -> dict[str, Callable[[int, Sequence[ConsumerRecord]], None]]:
        """Topic -> fold, for the replica."""
        by_name: dict[str, Callable[[int, Sequence[ConsumerRecord]], None]] = {
            "items": self.items,
            "item-vectors": self.vectors,
            "review-vectors": self.words,
            "interactions": self.interactions,
            "recommendations": self.recommendations,
            "weights": self.weights.fold,
        }
        return {self.settings.topic(name): fold for name, fold in by_name.items()}

    def interactions(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        now = clock.now_ms()
        for record in records:
            line = decode_interaction(record.value)
            if line is None:
                continue  # the recommend agent, which owns the partition, puts it into dead-letters
            tests = self.quality.test(partition, record.offset, line, now) if self.quality is not None else None
            if line.kind == "erasure":
                self.served.forget_unread(line.user_id)
                self.weights.trusts.forgotten(line.user_id)
            new = self.caught_up()
            late = new and max(now - record.timestamp, self.behind_ms) > LATE_MS
            hurry = late or (new and not self._again.take(now))
            if self.model.learn(line, train=self.weights.trains and self._trains(now, late=late), hurry=hurry):
                self.metrics.folded[line.kind].inc()
                self.newest = CausedBy(event_id=line.event_id, timestamp_ms=line.timestamp_ms)
                self.erasures += line.kind == "erasure"
                if self.quality is not None and tests is not None:
                    self.quality.count(tests)
            else:
                self.metrics.duplicates.inc()
                self._repeated.add(f"{partition}/{record.offset}")
        if self.newest is not None:
            self.metrics.last_event.set(self.newest.timestamp_ms / 1000)

    def _trains(self, now_ms: int, *, late: bool) -> bool:
        """Whether there is time to train the fusion on an event."""
        return (self._late if late else self._budget).take(now_ms)

    def items(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            entry = decode_item(record.key, record.value, clock.now_ms(), self.settings.limits)
            if entry is None:
                self.model.remove_item(record.key.decode())
                if self.texts is not None:
                    self.texts.remove(record.key.decode())
            elif isinstance(entry, Item):
                self.model.learn(entry)
                if self.texts is not None:
                    self.texts.entry(entry)

    def vectors(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                vector = _vector(record.value or b"")
                self.model.learn(vector)
                if self.texts is not None:
                    self.texts.vector(vector)
            except (msgspec.MsgspecError, RecursionError, ValueError) as problem:
                self._foreign(problem)

    def words(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """What reviews say; a tombstone takes it back."""
        for record in records:
            try:
                if record.value is None:
                    self.model.remove_review((record.key or b"").decode(errors="replace"))
                else:
                    self.model.learn(_words(record.value))
            except (msgspec.MsgspecError, RecursionError, ValueError) as problem:
                self._foreign(problem)

    def _foreign(self, problem: Exception) -> None:
        """A vector that does not fit: counted, and said once."""
        self.foreign_vectors += 1
        self.metrics.foreign_vectors.inc()
        if self.foreign_vectors == 1:
            log.error("vectors are left out, text cannot contribute: %s", problem)

    def recommendations(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            if record.value is None:
                self.served.forget((record.key or b"").decode(errors="replace"))
                self.overtaken.pop((record.key or b"").decode(errors="replace"), None)
                continue
            try:
                served = _list(record.value)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                continue  # not one of ours
            self._last_word(served)
            self.served.put(served)

    def _last_word(self, served: ServedList) -> None:
        """Note whose last record on the topic is not the list that holds: compaction would keep it in its place."""
        last = self.served.last_read(served.user_id)
        self.overtaken.pop(served.user_id, None)
        if last is not None and served.log_offset < last.log_offset and served.user_id != POPULAR:
            self.overtaken[served.user_id] = last.log_offset
            if len(self.overtaken) > OVERTAKEN:
                del self.overtaken[next(iter(self.overtaken))]

    def is_repeated(self, partition: int, offset: int) -> bool:
        """Whether this line of the log changed nothing, because its event was known (of the last 200,000 such lines)."""
        return f"{partition}/{offset}" in self._repeated

    # -- snapshots ------------------------------------------------------------------------------------------------
    def shaping(self) -> dict[str, Any]:
        """The settings that the state depends on: a snapshot made under others is of no use."""
        return {**fingerprint(self.settings.model), "ranker": bool(self.settings.ranker)}

    def save(self) -> Saved:
        return {**super().save(), "newest": events.encode(self.newest).decode() if self.newest is not None else None}

    def restore(self, saved: Mapping[str, Value]) -> None:
        super().restore(saved)
        self.newest = _cause(self.newest) if isinstance(self.newest, str) else None

    def become(self, saved: Mapping[str, Value]) -> None:
        """Take a snapshot over, all of it or, raising `Misfit`, nothing."""
        saved = {"weights.epoch": 0, "weights.number": 0, "weights.trusts.unsaid": {}, **saved}  # it may be older than these
        self.check(saved)
        self.restore(saved)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """What is held, beside its bounds."""
        texts = self.texts.sizes() if self.texts is not None else {}
        live = self.quality.sizes() if self.quality is not None else {}
        return {
            **self.model.sizes(),
            **self.weights.trusts.sizes(),
            **texts,
            **live,
            "served_users": (len(self.served), self.served.max_users),
        }
