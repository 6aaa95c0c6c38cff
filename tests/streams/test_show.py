"""A user's list on the command line: the newest one, found from the end; how it looks; that its reasons are words."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaProducer
from rich.console import Console

from models.events import POPULAR, CausedBy, Evidence, RecommendationList, Recommended, encode
from streams import topics
from streams.embedded_kafka import EmbeddedKafka
from streams.settings import Settings
from streams.show import list_table, show
from streams.tail import Tail, TailError, consumer, newest, partitions

_numbers = itertools.count(1)


@pytest.fixture
def settings(kafka: EmbeddedKafka) -> Settings:
    made = Settings.load({}, bootstrap=kafka.bootstrap, topic_prefix=f"show{next(_numbers)}.", partitions=3)
    topics.ensure(made.connection, made.topic_specs)
    return made


def a_list(user: str, list_id: str, *items: str) -> RecommendationList:
    reason = Evidence(kind="similar_to", weight=0.5, item_id="dune")
    lines = [
        Recommended(item_id=i, rank=k, score=0.5, sources={"item_cf": 0.375, "text": 0.125}, reasons=[reason])
        for k, i in enumerate(items, 1)
    ]
    cause = CausedBy(event_id="e", timestamp_ms=1)
    return RecommendationList(
        user_id=user, list_id=list_id, generated_at_ms=1, log_offset=1, caused_by=cause, arm="default", items=lines
    )


def put(settings: Settings, *values: tuple[str, RecommendationList | bytes | None]) -> None:
    producer = KafkaProducer(**settings.connection.kafka_python())
    for user, value in values:
        raw = encode(value) if isinstance(value, RecommendationList) else value
        producer.send(settings.topic("recommendations"), key=user.encode(), value=raw)
    producer.flush(30)
    producer.close()


# ------------------------------------------------------------------------------------------------ finding
def test_the_newest_record_of_a_key_is_found_wherever_it_lies(settings: Settings) -> None:
    """5,000 users with two lists each on three partitions; the windows that are read back from the end hold 1,000, 4,000, ..."""
    users = [f"u{k}" for k in range(5000)]
    put(settings, *((u, f"old-{u}".encode()) for u in users), *((u, f"new-{u}".encode()) for u in users))
    client = consumer(settings.connection)
    try:
        found = partitions(client, settings.topic("recommendations"))
        for user in ("u0", "u1", "u2500", "u4998", "u4999"):
            values = [r.value for p in found if (r := newest(client, p, user.encode())) is not None]
            assert values == [f"new-{user}".encode()]
        assert all(newest(client, p, b"nobody") is None for p in found)
    finally:
        client.close()


def test_the_partition_is_the_one_every_kafka_client_chooses(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    users = [f"user-{k}" for k in range(9)] + ["Zoë", POPULAR]
    put(settings, *((u, a_list(u, f"list of {u}", "emma")) for u in users))
    for user in users:
        assert show(settings, user, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["list_id"] == f"list of {user}"


def test_nobodys_list_is_no_list(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    put(settings, ("ada", a_list("ada", "l", "emma")), ("ada", None))
    assert show(settings, "ada") == 1  # forgotten
    assert show(settings, "bob") == 1
    assert "There is no list for bob" in capsys.readouterr().err


def test_missing_topics_are_named(kafka: EmbeddedKafka, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Settings.load({}, bootstrap=kafka.bootstrap, topic_prefix="none."), "ada") == 1
    assert "freshet topics" in capsys.readouterr().err


def test_what_is_no_list_is_said_and_no_traceback(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    put(settings, ("ada", b"{nonsense"))
    assert show(settings, "ada") == 1
    assert "is no list" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ looking
def rendered(table: object) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_a_list_shows_items_shares_and_what_is_new() -> None:
    before, now = a_list("ada", "one", "emma"), a_list("ada", "two", "emma", "ulysses")
    text = rendered(list_table(now, {"emma": "Emma by Austen"}, before))
    assert "Emma by Austen" in text
    assert "item_cf 75%, text 25%" in text
    assert "new ulysses" in text
    assert "new Emma" not in text


def test_names_from_outside_are_shown_as_they_are_and_never_as_markup() -> None:
    text = rendered(list_table(a_list("[red]ada[/red]", "[b]x", "[link=http://x]emma"), {}))
    assert "[red]ada[/red]" in text
    assert "[link=http://x]emma" in text


def test_an_empty_list_says_so() -> None:
    assert "nothing to recommend" in rendered(list_table(a_list("ada", "one"), {}))


# ------------------------------------------------------------------------------------------------ following
def test_following_prints_every_change(settings: Settings, tmp_path: Path) -> None:
    put(settings, ("ada", a_list("ada", "first", "emma")))
    environment = {**os.environ, "FRESHET_BOOTSTRAP": settings.bootstrap, "FRESHET_TOPIC_PREFIX": settings.topic_prefix}
    out = tmp_path / "out"
    with out.open("w") as stream:
        command = [sys.executable, "-m", "streams.cli", "recommendations", "--user", "ada", "--follow", "--json"]
        follower = subprocess.Popen(command, env=environment, stdout=stream)

    def printed() -> list[str]:
        whole, _, _ = out.read_text().rpartition("\n")  # the last line may still be written
        return [json.loads(line)["list_id"] for line in whole.splitlines()]

    try:
        _until(lambda: printed() == ["first"])
        put(
            settings,
            ("bob", a_list("bob", "of another", "x")),
            ("ada", a_list("ada", "second", "x")),
            ("ada", a_list("ada", "third", "y")),
        )
        _until(lambda: printed() == ["first", "second", "third"])
    finally:
        follower.terminate()
        follower.wait(180)


def _until(true: Callable[[], bool], patience_s: float = 180.0) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


# ------------------------------------------------------------------------------------------------ reading a whole topic
def test_a_tail_gives_every_record_of_its_topics_once_and_says_when_it_has_them(settings: Settings) -> None:
    topic = settings.topic("recommendations")
    put(settings, *((f"u{k}", str(k).encode()) for k in range(3000)))
    seen: list[bytes] = []
    tail = Tail(settings.connection, {topic: lambda record: seen.append(record.value)})
    tail.start()
    try:
        _until(lambda: tail.caught_up(topic))
        put(settings, ("late", b"late"))
        _until(lambda: len(seen) > 3000)
    finally:
        tail.close()
    assert sorted(seen) == sorted([*(str(k).encode() for k in range(3000)), b"late"])
    assert tail.error is None
    assert tail not in threading.enumerate()


def test_a_tail_ends_with_its_error(settings: Settings) -> None:
    put(settings, ("ada", b"1"))

    def fails(record: object) -> None:
        raise TailError("cannot take it")

    tail = Tail(settings.connection, {settings.topic("recommendations"): fails})
    tail.start()
    tail.join(180)
    assert str(tail.error) == "cannot take it"
