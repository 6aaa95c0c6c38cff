"""Weights over their topic: who trains, what is taken over, and what is not. Here the topic is a list in the order of offsets;
`test_weights_flow.py` has the same with processes on a real Kafka."""

from __future__ import annotations

import asyncio
import io
import random
import zlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from models import Click, Recommender, snapshot
from models.snapshot import Meta
from streams import weights
from streams.learn import Learner
from streams.metrics import Metrics
from streams.settings import Settings, SettingsError
from streams.transport import OutRecord
from streams.trusts import PREFIX
from streams.weights import TOPIC, Version, Weights, encoded
from tests.models.streams_of import shop

ENVIRONMENT = {
    "FRESHET_WEIGHTS_INTERVAL_S": "0.1", "FRESHET_COMMIT_INTERVAL_S": "0.5", "FRESHET_SESSION_TIMEOUT_S": "1",
    "FRESHET_MODEL_EMBEDDING_DIM": "4",
}  # fmt: skip


class Topic:
    """The partition: what was produced, in its order."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    async def produce(self, topic: str, records: Sequence[OutRecord]) -> None:
        assert topic == TOPIC
        for partition, key, value, _, headers in records:
            assert partition == 0
            self.put(key, value, headers)

    def put(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        self.records.append(SimpleNamespace(key=key, value=value, headers=tuple(headers), offset=len(self.records)))

    @property
    def versions(self) -> list[Any]:
        """Without what is said of single people."""
        return [record for record in self.records if not (record.key or b"").startswith(PREFIX)]

    def compacted(self) -> list[Any]:
        newest = {record.key: record.offset for record in self.records}
        return [record for record in self.records if newest[record.key] == record.offset]


class Member:
    """One process: it folds the log, and the topic when it is told to."""

    def __init__(self, topic: Topic, **settings: str) -> None:
        self.metrics = Metrics()
        self.learner = Learner(
            Settings.load({**ENVIRONMENT, **{f"FRESHET_{k.upper()}": v for k, v in settings.items()}}), self.metrics
        )
        self.topic, self.at = topic, 0

    @property
    def weights(self) -> Weights:
        return self.learner.weights

    @property
    def common(self) -> str:
        return snapshot.checksum(self.learner.model.common())

    def learn(self, seed: int, events: int = 40) -> None:
        for event in shop(seed, users=10, items=20, events=events):
            event = msgspec.structs.replace(event, event_id=f"{seed}-{event.event_id}")
            self.learner.model.learn(event, train=self.weights.trains)

    async def read(self) -> None:
        self.weights.fold(0, self.topic.records[self.at :])
        self.at = len(self.topic.records)

    async def turn(self) -> None:
        self.weights._spoke_s = -1.0  # its interval has passed
        await self.weights.turn(self.topic.produce, self.read)

    async def lead(self) -> None:
        """Become the trainer, as the owner of partition 0 does."""
        self.weights.assigned()
        await self.turn()
        await self.read()
        assert self.weights.is_trainer

    def count(self, outcome: str) -> float:
        return float(self.metrics.weights[outcome]._value.get())


def run(test: Callable[[], Any]) -> Callable[[], None]:
    def runs() -> None:
        asyncio.run(test())

    runs.__name__, runs.__doc__ = test.__name__, test.__doc__
    return runs


@run
async def test_before_there_are_weights_everybody_trains_then_one_for_all() -> None:
    topic = Topic()
    one, other = Member(topic), Member(topic)
    one.learn(1)
    other.learn(2)
    assert one.weights.steps() > 0
    assert other.weights.steps() > 0, "nobody else does it"
    await one.lead()
    await other.read()
    assert other.common == one.common
    assert not other.weights.trains
    taken = other.common
    other.learn(3)
    assert other.weights.steps() == one.weights.steps()
    assert snapshot.checksum(
        {k: v for k, v in other.learner.model.common().items() if k.startswith("fusion")}
    ) == snapshot.checksum({k: v for k, v in one.learner.model.common().items() if k.startswith("fusion")}), (
        "who does not train has the weights that it was given"
    )
    one.learn(3)
    await one.turn()
    await other.read()
    assert other.common == one.common != taken
    assert one.metrics.weights_trainer._value.get() == 1
    assert other.metrics.weights_trainer._value.get() == 0
    assert other.metrics.weights_steps._value.get() == one.weights.steps()


@run
async def test_only_what_changed_is_published_and_the_interval_is_kept() -> None:
    topic = Topic()
    one = Member(topic, weights_interval_s="60")
    await one.lead()
    assert len(topic.versions) == 1
    await one.turn()
    assert len(topic.versions) == 1, "nothing was learned"
    one.learn(1)
    await one.weights.turn(topic.produce, one.read)
    assert len(topic.versions) == 2
    one.learn(2)
    await one.weights.turn(topic.produce, one.read)
    assert len(topic.versions) == 2, "the last time was a moment ago"
    await one.weights.publish(topic.produce)
    assert len(topic.versions) == 3, "but whoever gives away says everything"


@run
async def test_the_next_trainer_goes_on_from_the_last_words_of_the_one_before() -> None:
    topic = Topic()
    one, other = Member(topic), Member(topic)
    await one.lead()
    one.learn(1)
    await one.turn()  # other has not read this yet when it becomes the owner
    await other.lead()
    assert other.common == one.common
    before = other.weights.steps()
    other.learn(2)
    assert other.weights.steps() > before
    await other.turn()
    await one.read()
    assert not one.weights.trains
    assert one.common == other.common
    late = Member(topic)
    await late.read()
    assert late.common == other.common, "a worker without a snapshot has the trained weights at once"
    assert late.weights.steps() == other.weights.steps() > 0


@run
async def test_who_froze_overwrites_nothing_and_notices() -> None:
    topic = Topic()
    one, other, third = Member(topic), Member(topic), Member(topic)
    await one.lead()
    one.learn(1)
    await one.turn()
    await other.lead()  # one sleeps meanwhile, and believes that it trains when it wakes up
    other.learn(2)
    await other.turn()
    one.learn(3)
    await one.turn()
    assert one.weights.is_trainer
    stale = topic.records[-1]
    for member in (other, third):
        await member.read()
    assert third.common == other.common
    assert third.count("stale") == other.count("stale") == 1
    assert topic.compacted()[-1] is stale
    await other.turn()
    fresh = Member(topic)
    fresh.weights.fold(0, topic.compacted())
    assert fresh.common == other.common, "the trainer said again what was overwritten"
    await one.read()
    assert not one.weights.is_trainer
    assert one.common == other.common
    said = len(topic.records)
    await one.turn()
    assert len(topic.records) == said, "it still thinks that it owns the partition, and does not fight"
    one.weights._yielded_s = -1e9
    await one.turn()
    assert len(topic.records) == said + 1, "but who owns it for longer than a session trains in the end"


@run
async def test_of_two_who_begin_the_same_epoch_the_first_has_it() -> None:
    topic = Topic()
    one, other, third = Member(topic), Member(topic), Member(topic)
    one.learn(1)
    other.learn(2)
    await one.turn()
    claim, topic.records = topic.records, []
    await other.turn()
    topic.records = claim + topic.records
    one.at = other.at = 0
    for member in (one, other, third):
        await member.read()
    assert (one.weights.is_trainer, other.weights.is_trainer) == (True, False)
    assert one.common == other.common == third.common
    await one.turn()
    fresh = Member(topic)
    fresh.weights.fold(0, topic.compacted())
    assert fresh.common == one.common


@run
async def test_the_newer_of_snapshot_and_topic_holds() -> None:
    topic = Topic()
    one = Member(topic)
    await one.lead()
    one.learn(1)
    await one.turn()
    saved = {path: value.copy() if hasattr(value, "copy") else value for path, value in one.learner.save().items()}
    raw = b"".join(snapshot.frames(Meta(settings={}), saved))
    one.learn(2)
    await one.turn()
    newest = one.common

    def restored() -> Member:
        member = Member(topic)
        member.learner.become(snapshot.read(io.BytesIO(raw).readinto, len(raw))[1])
        return member

    behind = restored()
    assert (behind.weights.epoch, behind.weights.number) == (1, 2)
    assert not behind.weights.trains, "somebody has trained, perhaps further than this"
    await behind.read()
    assert behind.common == newest
    ahead = restored()
    before = ahead.common
    ahead.weights.fold(0, topic.versions[:-1])
    assert ahead.common == before
    old = {path: value for path, value in saved.items() if not path.startswith("weights.")}
    older = Member(topic)
    older.learner.become(old)
    assert older.weights.trains, "a snapshot from before weights were shared"


@run
async def test_large_weights_go_in_parts_and_count_when_all_are_there() -> None:
    topic = Topic()
    many = {"model_context_values": "4000"}
    one, other = Member(topic, **many), Member(topic, **many)
    rng = random.Random(1)
    for side in (one.learner.model.fusion.new, one.learner.model.fusion.again):  # type: ignore[attr-defined]
        side.weights += [[rng.random() for _ in range(side.weights.shape[1])] for _ in range(len(side.weights))]
    await one.lead()
    assert len(topic.versions) > 3
    assert max(len(record.value) for record in topic.versions) <= weights.PART_BYTES
    first = other.common
    other.weights.fold(0, topic.versions[:-1])
    assert other.common == first
    other.weights.fold(0, topic.versions[-1:])
    assert other.common == one.common
    whole = list(topic.versions)
    one.learn(1)
    await one.turn()
    unfinished = Topic()
    for record in [*whole, *topic.versions[len(whole) : -1]]:  # the trainer died before the last part
        unfinished.put(record.key, record.value, record.headers)
    fresh = Member(unfinished, **many)
    fresh.weights.fold(0, unfinished.compacted())
    assert fresh.common == other.common, "the version before is still there, whole"


def poison(topic: Topic, good: Any, other_layout: list[OutRecord], forged: list[OutRecord]) -> int:
    """Rubbish of every kind; how many records."""
    before = len(topic.records)
    headers = dict(good.headers)
    for value in (None, b"", b"\x00" * 100, good.value[:-10], good.value[:50], good.value + b"x" * weights.PART_BYTES):
        topic.put(good.key, value, headers.items())
    flipped = bytearray(good.value)
    flipped[len(flipped) // 2] ^= 1
    topic.put(good.key, bytes(flipped), headers.items())
    topic.put(good.key, zlib.compress(b"\x00" * 10_000_000), headers.items())
    for part in (b"", b"1", b"0/1", b"2/1", b"1/99999999", b"-1/-1", b"a/b", b"1/1/1", b"\xff", b"9" * 6000 + b"/1"):
        topic.put(good.key, good.value, {**headers, "part": part}.items())
    topic.put(good.key, good.value, [])
    topic.put(None, good.value, [("version", None), ("writer", None), ("part", None)])  # type: ignore[list-item]
    for k in range(20):
        topic.put(b"x", good.value, {**headers, "version": b"%d" % k, "part": b"1/64"}.items())
    for records in (other_layout, forged):
        for _, key, value, _, given in records:
            assert key is not None
            topic.put(key, value, given)
    return len(topic.records) - before


@run
async def test_a_poisoned_topic_harms_nobody() -> None:
    topic = Topic()
    one, other = Member(topic), Member(topic)
    await one.lead()
    one.learn(1)
    await one.turn()
    for member in (one, other):
        await member.read()
    version = Version(epoch=10**6, number=1, writer="mallory", steps=1, at_ms=1)
    model = Recommender(one.learner.settings.model)
    layout, spoilt = model.layout(), {**model.common(), "fusion.new.weights": model.fusion.new.weights * float("nan")}  # type: ignore[attr-defined]
    good = topic.versions[-1]
    poison(topic, good, encoded({**layout, "sources": ["another"]}, version, model.common()), encoded(layout, version, spoilt))
    before = one.common
    for member in (one, other):
        await member.read()
        assert member.common == before
        assert member.weights.epoch == 1
        assert member.count("damaged") > 15
        assert member.count("foreign") == 1
        assert len(member.weights._parts) <= 4
    await one.turn()
    fresh = Member(topic)
    fresh.weights.fold(0, topic.compacted())
    assert fresh.common == one.common, "the good ones stand in the topic again"


def test_any_bytes_change_nothing() -> None:
    topic, rng = Topic(), random.Random(1)
    member = Member(topic)
    version = Version(epoch=1, number=1, writer="w", steps=0, at_ms=0)
    ((_, _, good, _, headers),) = encoded(member.learner.model.layout(), version, member.learner.model.common())
    assert good is not None
    before = member.common
    raw = zlib.decompress(good)
    for _ in range(300):
        broken = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken) if rng.random() < 0.5 else 400)] = rng.randrange(256)
        if bytes(broken) == raw:
            continue
        topic.put(b"1/1", zlib.compress(bytes(broken), 1), headers)
    member.weights.fold(0, topic.records)
    assert member.common == before
    assert member.weights.epoch == 0
    assert member.weights.trains


def test_the_interval_is_checked_at_the_start() -> None:
    assert Settings.load({}).weights_interval_s == 1.0
    for wrong in ("0", "-1", "1e9", "often"):
        with pytest.raises(SettingsError, match="FRESHET_WEIGHTS_INTERVAL_S"):
            Settings.load({"FRESHET_WEIGHTS_INTERVAL_S": wrong})


def test_a_version_has_some_hundred_kilobytes() -> None:
    """What docs say of its size."""
    model = Recommender()
    for k in range(400):
        model.learn(Click(event_id=f"e{k}", user_id=f"u{k % 20}", item_id=f"i{k % 37}", timestamp_ms=10**12 + k * 60_000))
    records = encoded(model.layout(), Version(epoch=1, number=1, writer="w", steps=0, at_ms=0), model.common())
    assert len(records) == 1
    assert 20_000 < len(records[0][2] or b"") < 200_000
