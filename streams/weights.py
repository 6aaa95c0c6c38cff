"""Weights: one worker learns how to weigh sources, for all of them; what it has learned goes over the compacted topic `weights`.

Training costs as much as a list per event, and two workers that train by themselves give the same person different lists. So the
worker that owns partition 0 of `interactions` is the trainer, of which Kafka's group makes exactly one. What it learns (see
`Kept.shared`) is published every `FRESHET_WEIGHTS_INTERVAL_S` in which it changed, when partitions are taken away, and at a stop.
Everybody else takes it over between two turns of the event loop, whole or not at all, and does not train.

*Which weights hold* is decided by the topic alone, by everybody alike: those of the highest (epoch, number). Whoever gets
partition 0 reads the topic to its end, goes on from there, and claims the next epoch by publishing under it; it is the trainer
once it has read its own claim as the first of that epoch. So a worker that froze and still thinks it trains writes under an epoch
that is over: nobody takes that, and it reads of its successor. As its record stands last under its key all the same, where
compaction would keep it instead of the newer one, the trainer begins another epoch whenever something of somebody else stands
after its own.

*Before there are any weights* each worker trains by itself, also while it folds an old log. What comes between the last words of
a trainer that died and the claim of the next (a rebalance), or while a claim is on its way to both, is learned by nobody, like
what exceeds the training budget.

*A record* is a snapshot (`models.snapshot`: no pickle, checksummed), deflated, in parts of at most `PART_BYTES` with the headers
`version`, `writer` and `part` ("2/3"). Odd and even versions have keys of their own: a version that was not finished does not
take the place of the one before. All are in partition 0, and so is what was learned of single people (see `streams.trusts`).
"""

from __future__ import annotations

import io
import logging
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from aiokafka import ConsumerRecord
from msgspec import Struct

from models import Recommender, snapshot
from models.kept import Kept, Misfit, Saved
from models.snapshot import Damaged, Meta
from streams import clock
from streams.ingest import Produce
from streams.metrics import Metrics
from streams.presence import worker_name
from streams.settings import Settings
from streams.transport import OutRecord
from streams.trusts import PREFIX, Trusts

log = logging.getLogger(__name__)

TOPIC: Final = "weights"
PARTITION: Final = 0
"""Of `interactions`, whose owner trains; and of `weights`."""
LOOK_S: Final = 0.5
"""How often at least somebody looks whether this worker has become the trainer."""
PART_BYTES: Final = 900_000
MAX_PARTS: Final = 64
"""A version of the weights has some 100 kB, and a kilobyte more for each context with a row of its own (10,000 at most)."""
UNPACKED_BYTES: Final = 4 * MAX_PARTS * PART_BYTES
_UNFINISHED: Final = 4
"""Versions whose parts are kept until all are there."""


class Version(Struct, frozen=True, kw_only=True):
    """What published weights say of themselves, in `Meta.about`."""

    epoch: int
    """How often somebody has begun to train."""
    number: int
    """Publications of that epoch."""
    writer: str
    """The process, by a name that no other has had."""
    steps: int
    at_ms: int

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.number


class Headers(Struct, frozen=True, kw_only=True):
    """Of each record. Which weights hold is not decided by them, but by what stands in the checksummed value."""

    version: str
    writer: str
    part: str


class Weights(Kept):
    """See the module. One per process that makes lists; `epoch` and `number` say whose weights the model holds.

    `read_to_end` returns when everything that is in the topic has been given to `fold`.
    Bounds: `_UNFINISHED` versions of `MAX_PARTS` parts each.
    """

    kept = ("epoch", "number", "trusts")

    def __init__(self, settings: Settings, metrics: Metrics, model: Recommender) -> None:
        self.settings, self.metrics, self.model = settings, metrics, model
        self.token = f"{worker_name(settings)}-{secrets.token_hex(4)}"
        self.trusts = Trusts(TOPIC, self.token, metrics, model)
        self.epoch, self.number = 0, 0
        self.holder: str | None = None  # who has begun the newest epoch, as far as this process has read
        self._parts: dict[tuple[str, str], dict[int, bytes]] = {}
        self._published = ""  # checksum of what was published last
        self._spoke_s = -settings.weights_interval_s
        self._overwritten = False  # whether something stands in the topic after what this process wrote last
        self._yielded_s: float | None = None  # when another process took over, though partition 0 has been ours ever since

    # -- for those who learn ------------------------------------------------------------------------------------------
    @property
    def is_trainer(self) -> bool:
        """Whether this process learns for all."""
        return self.holder == self.token

    @property
    def trains(self) -> bool:
        """Whether this process may train its model: nobody else does it."""
        return self.is_trainer or self.epoch == 0

    def steps(self) -> int:
        """Steps of training in the weights that the model holds."""
        return sum(value for path, value in self.model.common().items() if path.endswith("steps") and isinstance(value, int))

    def said(self) -> dict[str, object]:
        """For whoever looks at the process. Any thread may ask."""
        return {
            "trainer": "this process" if self.is_trainer else self.holder or "nobody in particular",
            "epoch, publication": f"{self.epoch}, {self.number}",
            "steps of training": f"{self.steps():,}",
        }

    # -- reading ------------------------------------------------------------------------------------------------------
    def fold(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Records of the topic; no byte that stands there stops anybody."""
        for record in records:
            try:
                if (record.key or b"").startswith(PREFIX):
                    self._fold_trust(record)
                    continue
                whole = self._assembled(record)
                if whole is not None:
                    self._read(whole)
            except (Damaged, zlib.error, msgspec.MsgspecError, ValueError, TypeError, RecursionError) as problem:
                self._ignored("damaged", problem)

    def _fold_trust(self, record: ConsumerRecord) -> None:
        """What was learned of one person: one that is no use is left out, and harms nobody else."""
        try:
            outcome = self.trusts.fold(record, by_itself=self.epoch == 0, is_trainer=self.is_trainer)
        except (msgspec.MsgspecError, ValueError) as problem:
            outcome = "damaged"
            log.warning("what is said of a person is ignored: %s", problem)
        if outcome in ("damaged", "foreign"):
            self.metrics.weights[outcome].inc()

    def _assembled(self, record: ConsumerRecord) -> bytes | None:
        """The whole version, if this was the last part of it that was missing. Raises where a header is broken."""
        headers = msgspec.convert({name: (raw or b"").decode() for name, raw in record.headers}, Headers)
        part, count = (int(number) for number in headers.part.split("/"))
        if not (1 <= part <= count <= MAX_PARTS) or record.value is None or len(record.value) > PART_BYTES:
            raise ValueError(f"part {headers.part} of {len(record.value or b'')} bytes")
        key = headers.version, headers.writer
        parts = self._parts.pop(key, {})
        parts[part] = record.value
        if len(parts) == count:
            return b"".join(parts[number] for number in range(1, count + 1))
        self._parts[key] = parts  # the newest last
        while len(self._parts) > _UNFINISHED:
            del self._parts[next(iter(self._parts))]
        return None

    def _read(self, packed: bytes) -> None:
        inflating = zlib.decompressobj()
        raw = inflating.decompress(packed, UNPACKED_BYTES)
        if not inflating.eof:
            raise Damaged("it ends too early, or never")
        meta = snapshot.read_meta(io.BytesIO(raw).readinto)
        version = msgspec.convert(meta.about, Version)
        if meta.settings != self.model.layout():
            self._ignored("foreign", f"of another layout, by {version.writer}")
        elif version.writer == self.token and version.epoch == self.epoch and self.is_trainer:
            self.metrics.weights["own"].inc()
        elif version.place <= (self.epoch, self.number) or (
            version.epoch == self.epoch and self.holder not in (None, version.writer)
        ):
            self._ignored("stale", f"epoch {version.epoch} of {version.writer}, while {self.epoch} of {self.holder} holds")
        else:
            _, saved = snapshot.read(io.BytesIO(raw).readinto, len(raw))
            if version.writer == self.token:  # our claim: what we hold is this, or what we have read since
                self.metrics.weights["own"].inc()
                self.trusts.take_charge()
            else:
                self._adopt(version, saved)
            self._follow(version)

    def _is_news(self, version: Version) -> bool:
        """Whether it is newer than what the model holds; of those who begin the same epoch the first has it."""
        if version.epoch == self.epoch and self.holder not in (None, version.writer):
            return False
        return version.place > (self.epoch, self.number)

    def _adopt(self, version: Version, saved: Saved) -> None:
        try:
            self.model.adopt(saved)
        except Misfit as problem:
            raise Damaged(str(problem)) from problem
        if self.trains:
            self.trusts.give_up()
        self.metrics.weights["adopted"].inc()
        self._observe(version)

    def _follow(self, version: Version) -> None:
        """From here on the weights are those of this version, and who wrote them is the trainer."""
        if version.writer != self.holder:
            if self.is_trainer:
                self._yielded_s = time.monotonic()
            log.info("%s trains for all from step %d on, epoch %d", version.writer, version.steps, version.epoch)
        self.epoch, self.number, self.holder = version.epoch, version.number, version.writer
        self._overwritten = False
        self.metrics.weights_trainer.set(float(self.is_trainer))

    def _ignored(self, outcome: str, why: object) -> None:
        """The model stays as it is; but it stands in the topic now."""
        self.metrics.weights[outcome].inc()
        self._overwritten = True
        log.warning("weights are ignored (%s): %s", outcome, why)

    # -- writing ------------------------------------------------------------------------------------------------------
    def assigned(self) -> None:
        """Partitions have been dealt out anew: whoever has partition 0 now has it by right."""
        self._yielded_s = None

    async def turn(self, produce: Produce, read_to_end: Callable[[], Awaitable[None]]) -> None:
        """The owner of partition 0, having folded what there is, calls this every now and then."""
        now = time.monotonic()
        if self.is_trainer:
            if now - self._spoke_s >= self.settings.weights_interval_s:
                if self.trusts.unsaid:
                    self._spoke_s = now
                    await self.trusts.publish(produce)
                await self._say(produce)
        elif self._yielded_s is None or now - self._yielded_s > self.settings.session_timeout_s:
            await read_to_end()
            if not self.is_trainer:
                await self._claim(produce)

    async def publish(self, produce: Produce) -> None:
        """All that has been learned, if this process is the trainer and it is not there yet. Returns when the broker has it."""
        while self.is_trainer and self.trusts.unsaid:
            await self.trusts.publish(produce)
        if self.is_trainer:
            await self._say(produce)

    async def _say(self, produce: Produce) -> None:
        """The weights, where they have changed or something else stands in their place."""
        if self._overwritten:
            self._overwritten = False
            await self._claim(produce)
        elif snapshot.checksum(self.model.common()) != self._published:
            self.number += 1
            await self._send(produce, self.epoch, self.number)

    async def _claim(self, produce: Produce) -> None:
        """Begin an epoch, under other keys than those of the version that holds."""
        await self._send(produce, self.epoch + 1, 1 + self.number % 2)

    async def _send(self, produce: Produce, epoch: int, number: int) -> None:
        self._spoke_s = time.monotonic()
        version = Version(epoch=epoch, number=number, writer=self.token, steps=self.steps(), at_ms=clock.now_ms())
        common = self.model.common()
        self._published = snapshot.checksum(common)
        records = encoded(self.model.layout(), version, common)
        await produce(TOPIC, records)
        self.metrics.weights["published"].inc()
        self.metrics.weights_bytes.set(sum(len(value or b"") for _, _, value, _, _ in records))
        self._observe(version)

    def _observe(self, version: Version) -> None:
        self.metrics.weights_steps.set(version.steps)
        self.metrics.weights_time.set(version.at_ms / 1000)


def encoded(layout: Mapping[str, Any], version: Version, common: Saved) -> list[OutRecord]:
    """The records of one version of the weights.

    Raises:
        ValueError: it is too large to be published at all.
    """
    meta = Meta(settings=dict(layout), about=msgspec.to_builtins(version))
    packed = zlib.compress(b"".join(snapshot.frames(meta, common)), 1)
    parts = [packed[begin : begin + PART_BYTES] for begin in range(0, len(packed), PART_BYTES)]
    if len(parts) > MAX_PARTS:
        raise ValueError(f"weights of {len(packed)} bytes are more than {MAX_PARTS} records can hold")
    headers = {"version": f"{version.epoch}.{version.number}", "writer": version.writer}
    return [
        (
            PARTITION,
            f"{version.number % 2}/{place}".encode(),
            part,
            None,
            [(name, text.encode()) for name, text in {**headers, "part": f"{place}/{len(parts)}"}.items()],
        )
        for place, part in enumerate(parts, 1)
    ]
