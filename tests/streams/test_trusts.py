"""What the trainer learned of single people, over the topic of the weights: here a list in the order of offsets, as in
`test_weights.py`; `test_forget.py` has the tombstones on a real Kafka."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from models import Erasure, events, snapshot
from models.events import Interaction, Recommended
from models.interning import key64
from models.personal import Personal
from models.snapshot import Meta
from streams import trusts
from streams.transport import OutRecord
from streams.trusts import MAX_BYTES, PREFIX, Trust, key_of
from tests.models.streams_of import BEGIN, HOUR
from tests.streams.test_weights import Member, Topic, run

USERS = 10
LATER = BEGIN + 10_000 * HOUR


def people(member: Member) -> tuple[Personal, Personal]:
    """What it holds of them."""
    found: tuple[Personal, Personal] = member.learner.model.fusion.trusts  # type: ignore[attr-defined]
    return found


def known(member: Member) -> dict[str, tuple[bytes | None, ...]]:
    """Whom it knows something of, exactly."""
    found = {}
    for user in (f"u{k}" for k in range(USERS)):
        one = tuple(None if (row := trust.read(key64(user))) is None else row.tobytes() for trust in people(member))
        if any(one):
            found[user] = one
    return found


def lists(member: Member) -> list[list[Recommended]]:
    return [member.learner.model.recommend(f"u{k}", 10) for k in range(USERS)]


def said(topic: Topic) -> list[Any]:
    return [record for record in topic.records if (record.key or b"").startswith(PREFIX)]


def erase(member: Member, user: str) -> None:
    """A request to be forgotten comes from the log."""
    line = Interaction.of(Erasure(request_id=f"forget-{user}", user_id=user, timestamp_ms=LATER))
    member.learner.interactions(0, [SimpleNamespace(value=events.encode(line), offset=0, timestamp=0)])  # type: ignore[list-item]


async def trained(topic: Topic, *followers: Member) -> Member:
    """A trainer that has learned and said so; the others have folded the same log, and read."""
    one = Member(topic)
    await one.lead()
    for follower in followers:
        await follower.read()
    for member in (one, *followers):
        member.learn(1, 200)
    await one.turn()
    for follower in followers:
        await follower.read()
    return one


@run
async def test_everybody_makes_the_lists_of_the_trainer() -> None:
    topic = Topic()
    other = Member(topic)
    one = await trained(topic, other)
    assert len(known(one)) > USERS / 2
    assert known(other) == known(one)
    assert lists(other) == lists(one)
    late = Member(topic)
    late.weights.fold(0, topic.compacted())
    assert known(late) == known(one), "nobody need know a person to know whom they trust"
    late.learn(1, 200)
    assert lists(late) == lists(one)
    assert one.metrics.trusts._value.get() == len(said(topic))


@run
async def test_only_those_are_said_of_whom_something_else_is_known() -> None:
    topic = Topic()
    one = await trained(topic)
    before = len(said(topic))
    await one.turn()
    assert len(said(topic)) == before
    people(one)[0].learn(key64("u3"), np.ones(len(people(one)[0].of(0))))
    await one.turn()
    assert [record.key for record in said(topic)[before:]] == [key_of(key64("u3"))]


@run
async def test_who_is_forgotten_is_taken_back_and_an_older_record_brings_nobody_back() -> None:
    topic = Topic()
    other = Member(topic)
    one = await trained(topic, other)
    assert {"u1", "u2"} <= known(one).keys()
    (older,) = (record for record in topic.compacted() if record.key == key_of(key64("u1")))
    erase(other, "u1")
    assert "u1" not in known(other)
    other.weights.fold(0, [older])  # it was on its way
    assert "u1" not in known(other)
    erase(one, "u1")
    await one.turn()
    last = [record for record in topic.compacted() if record.key == key_of(key64("u1"))]
    assert [record.value for record in last] == [None]
    await other.read()
    assert known(other) == known(one)
    assert not other.weights.trusts.unsaid
    for member in (one, other):
        member.learner.model.learn(
            Interaction(event_id="back", kind="click", user_id="u1", item_id="i1", timestamp_ms=LATER + HOUR),
            train=member.weights.trains,
        )
    people(one)[0].learn(key64("u1"), np.ones(len(people(one)[0].of(0))))
    await one.turn()
    await other.read()
    assert "u1" in known(other), "who comes back is known anew"
    assert known(other) == known(one)


@run
async def test_the_next_trainer_takes_back_what_the_last_one_did_not_live_to() -> None:
    topic = Topic()
    other = Member(topic)
    await trained(topic, other)
    erase(other, "u1")
    erase(other, "never there")
    raw = b"".join(snapshot.frames(Meta(settings={}), other.learner.save()))
    again = Member(topic)  # and it is started anew meanwhile
    again.learner.become(snapshot.read(io.BytesIO(raw).readinto, len(raw))[1])
    assert known(again) == known(other)
    await again.lead()
    await again.turn()
    newest = {record.key: record.value for record in topic.compacted()}
    assert newest[key_of(key64("u1"))] is newest[key_of(key64("never there"))] is None
    assert newest[key_of(key64("u2"))] is not None


@run
async def test_before_there_are_weights_what_is_read_is_put_aside() -> None:
    topic = Topic()
    one = await trained(topic)
    await one.turn()
    other = Member(topic)
    other.learn(9, 200)
    own = known(other)
    assert own
    assert own != known(one)
    versions, of_people = topic.versions, [record for record in topic.compacted() if record.key.startswith(PREFIX)]
    broken = SimpleNamespace(key=key_of(5), value=b"\xc1", headers=(), offset=0)
    other.weights.fold(0, [broken, *of_people, *of_people])
    assert known(other) == own, "while it trains by itself"
    other.weights.fold(0, versions)
    assert known(other) == known(one)
    assert not other.weights.trusts.unsaid


@run
async def test_who_begins_to_train_says_anew_what_it_had_put_aside() -> None:
    topic, lost = Topic(), Topic()
    await trained(lost)
    other = Member(topic)
    topic.records = said(lost)  # the weights themselves are gone
    await other.lead()
    await other.turn()
    newest = {record.key: record.value for record in topic.compacted() if record.key.startswith(PREFIX)}
    assert newest
    assert set(newest.values()) == {None}, "for it holds nothing of anybody"


@run
async def test_where_the_topic_was_lost_the_next_trainer_says_all_that_it_holds() -> None:
    one = await trained(Topic())
    raw = b"".join(snapshot.frames(Meta(settings={}), one.learner.save()))
    empty = Topic()
    again, other = Member(empty), Member(empty)
    again.learner.become(snapshot.read(io.BytesIO(raw).readinto, len(raw))[1])
    assert not again.weights.trusts.unsaid
    await again.lead()
    await again.turn()
    await other.read()
    assert known(other) == known(one)


@run
async def test_who_froze_while_it_trained_gives_up_what_it_has_not_said() -> None:
    topic = Topic()
    other = Member(topic)
    one = await trained(topic, other)
    await other.lead()
    other.learn(2)
    await other.turn()
    one.learn(3)
    stale = next(iter(one.weights.trusts.unsaid))
    at, one.at = one.at, len(topic.records)
    await one.weights.trusts.publish(topic.produce)  # it does not know yet
    people(one)[0].learn(77, np.ones(len(people(one)[0].of(0))))
    await other.read()
    assert stale in other.weights.trusts.unsaid
    await other.turn()
    one.at = at
    await one.read()
    assert not one.weights.is_trainer
    assert known(one) == known(other)
    assert people(one)[0].read(77) is None


@run
async def test_who_froze_and_learned_of_the_forgotten_does_not_bring_back_what_was_known() -> None:
    topic = Topic()
    other = Member(topic)
    one = await trained(topic, other)
    await other.lead()
    width = len(people(one)[0].of(0))
    for user in ("u1", "u2"):
        people(one)[0].learn(key64(user), np.ones(width))  # it does not know yet that another trains
    erase(one, "u1")
    people(one)[0].learn(key64("u1"), np.ones(width))
    await one.read()
    assert "u1" not in known(one)
    assert known(one)["u2"] == known(other)["u2"], "as the topic says"
    assert known(one) == {user: what for user, what in known(other).items() if user != "u1"}


@run
async def test_what_could_not_be_written_is_written_later() -> None:
    topic = Topic()
    one = Member(topic)
    await one.lead()
    one.learn(1, 200)
    wanted = set(one.weights.trusts.unsaid)

    async def broken(topic: str, records: Sequence[OutRecord]) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await one.weights.trusts.publish(broken)
    assert set(one.weights.trusts.unsaid) == wanted
    one.weights.trusts.give_up()
    assert not known(one), "as the topic says"
    one.learn(2, 200)
    wanted |= set(one.weights.trusts.unsaid)
    with pytest.raises(ConnectionError):
        await one.weights.trusts.publish(broken)
    await one.turn()
    assert {record.key for record in said(topic)} == {key_of(key) for key in wanted}
    held = known(one)
    people(one)[0].learn(key64("u2"), np.ones(len(people(one)[0].of(0))))
    with pytest.raises(ConnectionError):
        await one.weights.trusts.publish(broken)
    one.weights.trusts.give_up()
    assert known(one) == held, "as the topic says"


@run
async def test_in_a_turn_so_many_are_said_and_at_the_end_all() -> None:
    topic = Topic()
    one = Member(topic)
    await one.lead()
    one.learn(1, 200)
    count, trusts_at_once = len(one.weights.trusts.unsaid), trusts.AT_ONCE
    assert count > 3
    try:
        trusts.AT_ONCE = 2  # type: ignore[misc]
        await one.turn()
        assert len(said(topic)) == 2
        await one.weights.publish(topic.produce)
    finally:
        trusts.AT_ONCE = trusts_at_once  # type: ignore[misc]
    assert len(said(topic)) == count


@run
async def test_there_is_room_for_so_many_and_who_leaves_is_taken_back() -> None:
    topic = Topic()
    few = {"model_personal_users": "3"}
    one, other = Member(topic, **few), Member(topic, **few)
    await one.lead()
    await other.read()
    width = len(people(one)[0].of(0))
    for key in range(1, 6):
        people(one)[0].learn(key, np.ones(width))
        assert len(one.weights.trusts.unsaid) <= 3
        assert one.learner.sizes()["personal_users_unsaid"] == (len(one.weights.trusts.unsaid), 3)
        await one.turn()
    newest = {record.key: record.value is not None for record in topic.compacted() if record.key.startswith(PREFIX)}
    assert newest == {key_of(key): key > 2 for key in range(1, 6)}
    await other.read()
    assert [people(other)[0].read(key) is not None for key in range(1, 6)] == [key > 2 for key in range(1, 6)]
    for key in range(6, 11):
        people(one)[0].learn(key, np.ones(width))
    assert len(one.weights.trusts.unsaid) == len(one.weights.trusts._before) == 3
    aside = Member(topic, **few)
    first = {record.key: record for record in reversed(said(topic))}
    aside.weights.fold(0, [first[key_of(key)] for key in (1, 2, 3, 1, 4)])
    assert list(aside.weights.trusts._aside) == [3, 1, 4], "those that were said last"


@run
async def test_switched_off_nothing_is_said_and_nothing_taken() -> None:
    topic = Topic()
    await trained(topic)
    off = Member(topic, model_personal_users="0")
    await off.read()
    assert off.count("foreign") >= len(said(topic))
    before = len(said(topic))
    await off.lead()
    off.learn(2, 100)
    erase(off, "u1")
    await off.turn()
    assert len(said(topic)) == before
    assert "personal_users_unsaid" not in off.learner.sizes()


def forged(**changes: Any) -> Callable[[Trust], bytes]:
    return lambda good: msgspec.msgpack.encode(msgspec.structs.replace(good, **changes))


POISON: list[Callable[[Trust], bytes]] = [
    lambda good: b"",
    lambda good: b"\xff" * 20,
    lambda good: msgspec.msgpack.encode(good)[:-3],
    lambda good: b"\x91" * 100_000,
    lambda good: msgspec.msgpack.encode(msgspec.structs.replace(good, new=b"\0" * MAX_BYTES)),
    forged(new=b"123"),
    forged(new=b""),
    forged(new=np.full(65, np.nan, "<f4").tobytes()),
    forged(new=np.full(1000, 1, "<f4").tobytes()),
    forged(layout="another"),
]


@run
async def test_no_bytes_that_stand_there_harm_anybody() -> None:
    topic = Topic()
    other = Member(topic)
    one = await trained(topic, other)
    key, good = next((r.key, trusts._trust(r.value)) for r in said(topic) if r.value is not None)
    before = known(other)
    for poison in POISON:
        topic.put(key, poison(good), [])
    for broken in (b"trust/", b"trust/xyz", b"trust/-1", b"trust/" + b"f" * 17, b"trust/\xff", b"trust/" + b"9" * 6000):
        topic.put(broken, msgspec.msgpack.encode(good), [])
    await other.read()
    assert known(other) == before
    assert other.count("damaged") == len(POISON) - 1 + 6
    assert other.count("foreign") == 1
    assert not other.weights._overwritten, "it is nothing to the weights"
    await one.read()
    await one.turn()
    assert trusts._trust(topic.compacted()[-1].value) == good, "the trainer says again what holds"
    await other.read()
    assert known(other) == known(one)
