"""Topics on a real broker: created as specified, differences refused with all of them named, altered where that can be done."""

from __future__ import annotations

import itertools
import threading

import msgspec
import pytest
from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError

from streams import topics
from streams.connection import Connection
from streams.replica import read_all

_numbers = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    return f"topics{next(_numbers)}."


def by_name(prefix: str, **options: int) -> dict[str, topics.TopicSpec]:
    return {spec.name.removeprefix(prefix): spec for spec in topics.specs(prefix=prefix, **options)}


def test_the_specifications_are_those_of_the_design() -> None:
    specs = by_name("shop.", partitions=6, input_retention_ms=1_000)
    assert list(specs) == list(topics.ALL)
    assert {spec.partitions for spec in specs.values()} == {6}
    compacted = {name for name, spec in specs.items() if spec.config["cleanup.policy"] == "compact"}
    assert compacted == {"items", "item-vectors", "review-vectors", "recommendations", "weights"}
    assert specs["interactions"].config["retention.ms"] == "-1"
    assert specs["clicks"].config["retention.ms"] == "1000"
    for name in ("clicks", "purchases", "reviews", "impressions", "items", "erasures"):
        assert specs[name].config["message.timestamp.type"] == "LogAppendTime", name


def test_acks_outlive_one_broker_of_three_but_a_single_one_suffices() -> None:
    for replication, in_sync in ((1, "1"), (2, "1"), (3, "2")):
        specs = topics.specs(replication=replication)
        assert {spec.config["min.insync.replicas"] for spec in specs} == {in_sync}


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        topics.specs(partitions=0)


def test_missing_topics_are_created_once(connection: Connection, prefix: str) -> None:
    specs = topics.specs(prefix=prefix, partitions=2)
    assert [spec.name for spec in topics.plan(connection, specs).missing] == [spec.name for spec in specs]
    assert topics.ensure(connection, specs) == [spec.name for spec in specs]
    assert topics.ensure(connection, specs) == []
    assert topics.plan(connection, specs) == topics.Plan(missing=[], differences=[])
    topics.wait_ready(connection, [spec.name for spec in specs])


def test_two_processes_may_create_at_once(connection: Connection, prefix: str) -> None:
    specs, created, failed = topics.specs(prefix=prefix, partitions=1), [], []

    def run() -> None:
        try:
            created.extend(topics.ensure(connection, specs))
        except Exception as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert set(created) == {spec.name for spec in specs}


def test_every_difference_is_listed_with_what_mends_it_and_nothing_is_created(connection: Connection, prefix: str) -> None:
    few = by_name(prefix, partitions=2)
    topics.ensure(connection, [few["clicks"], few["recommendations"]])
    wanted = topics.specs(prefix=prefix, partitions=3, input_retention_ms=5_000)
    with pytest.raises(topics.TopicMismatch) as raised:
        topics.ensure(connection, wanted)
    found = {(d.topic.removeprefix(prefix), d.what, d.wanted, d.found, d.alterable) for d in raised.value.differences}
    week = str(7 * 86_400_000)
    assert found == {
        ("clicks", "partitions", "3", "2", False),
        ("clicks", "retention.ms", "5000", week, True),
        ("recommendations", "partitions", "3", "2", False),
    }
    text = str(raised.value)
    for words in (
        f"{prefix}clicks: retention.ms is {week}, must be 5000",
        "freshet topics --alter",
        "set the partition count to 2",
    ):
        assert words in text
    assert len(topics.plan(connection, wanted).missing) == len(wanted) - 2


def test_properties_are_altered_and_the_rest_stays_refused(connection: Connection, prefix: str) -> None:
    specs = by_name(prefix, partitions=1)
    clicks, lists = specs["clicks"], specs["recommendations"]
    wrong = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
    topics.ensure(connection, [clicks, msgspec.structs.replace(lists, config=wrong)])
    wanted = [msgspec.structs.replace(clicks, config={**clicks.config, "retention.ms": "7000"}), lists]
    with pytest.raises(topics.TopicMismatch):
        topics.ensure(connection, wanted)
    changed = {(d.topic.removeprefix(prefix), d.what) for d in topics.alter(connection, wanted)}
    assert changed >= {("clicks", "retention.ms"), ("recommendations", "cleanup.policy")}
    assert topics.ensure(connection, wanted) == []
    assert topics.alter(connection, wanted) == []
    more = [msgspec.structs.replace(clicks, partitions=4, config={**clicks.config, "retention.ms": "8000"})]
    with pytest.raises(topics.TopicMismatch, match="cannot be changed under existing keys") as raised:
        topics.alter(connection, more)
    assert [d.what for d in raised.value.differences] == ["partitions"]
    assert [d.what for d in topics.plan(connection, more).differences] == ["partitions"], "what could be altered was"


def test_an_operator_may_allow_more_than_we_need(connection: Connection, prefix: str) -> None:
    spec = by_name(prefix, partitions=1)["recommendations"]
    generous = {**spec.config, "max.message.bytes": "5000000", "max.compaction.lag.ms": "60000"}
    topics.ensure(connection, [msgspec.structs.replace(spec, config=generous)])
    assert topics.ensure(connection, [spec]) == []
    meagre = {**spec.config, "max.message.bytes": "6000000"}
    assert [d.what for d in topics.plan(connection, [msgspec.structs.replace(spec, config=meagre)]).differences] == [
        "max.message.bytes"
    ]


def test_inputs_carry_the_brokers_clock_and_refuse_what_is_too_large(connection: Connection, prefix: str) -> None:
    clicks = by_name(prefix, partitions=1, message_bytes=2_000)["clicks"]
    topics.ensure(connection, [clicks])
    producer = KafkaProducer(**connection.kafka_python())
    producer.send(clicks.name, value=b"x", timestamp_ms=1_000).get(30)
    with pytest.raises(MessageSizeTooLargeError):
        producer.send(clicks.name, value=b"x" * 3_000).get(30)
    producer.close()
    (record,) = read_all(connection, clicks.name)
    assert record.timestamp > 1_600_000_000_000, "not 1970, as the producer said"


def test_no_broker_is_an_error_which_names_the_address() -> None:
    nowhere = Connection(bootstrap="127.0.0.1:9")
    with pytest.raises(topics.TopicsError, match=r"127\.0\.0\.1:9"):
        topics.wait_ready(nowhere, ["clicks"], timeout_s=1.0)


def test_waiting_for_a_topic_that_never_comes_ends(connection: Connection) -> None:
    with pytest.raises(topics.TopicsError, match="never-made"):
        topics.wait_ready(connection, ["never-made"], timeout_s=5.0)
