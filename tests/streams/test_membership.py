"""Workers with stable names on a real Kafka: one comes back within its session and nobody else stops; one freezes beyond it, and
what it still says when it wakes up holds for nobody."""

from __future__ import annotations

import itertools
import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from models import Click
from models.attribution import ServedLists
from models.events import CausedBy, Interaction, RecommendationList, encode
from streams.embedded_kafka import EmbeddedKafka
from tests.chaos.storm import LISTS, SESSION_S, Process
from tests.models.streams_of import BEGIN, HOUR
from tests.streams import flow as flows
from tests.streams.flow import Flow, flow, until

_numbers = itertools.count(1)
USERS = 60


def river_of(kafka: EmbeddedKafka, directory: Path, session_s: float) -> Any:
    options = {"snapshots": "false", "model_embedding_dim": "4", "model_repeats": "never", "session_timeout_s": str(session_s)}
    return flow(kafka.bootstrap, directory, f"members{next(_numbers)}.", **options)


@pytest.fixture
def patient(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Flow]:
    """A session is longer than a start takes, and than a request usually may."""
    with river_of(kafka, tmp_path, 240) as made:
        yield made


@pytest.fixture
def brisk(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Flow]:
    with river_of(kafka, tmp_path, SESSION_S) as made:
        yield made


def two(river: Flow) -> list[Process]:
    """Both ready, the partitions shared between them."""
    made = [Process(name, LISTS, river) for name in ("w1", "w2")]
    for one in made:
        one.start()
    until(lambda: all(ready(one) and 0 < owned(one) < river.settings.partitions for one in made), "both are at work")
    return made


def end(*some: Process) -> None:
    for one in some:
        one.signal(signal.SIGCONT)
        one.kill()


def ready(one: Process) -> bool:
    return one.metric("freshet_ready") == 1.0


def owned(one: Process) -> float:
    return one.metric("freshet_owned_partitions", topic=one.river.settings.topic("interactions"))


def rebalances(one: Process) -> float:
    return one.metric("freshet_rebalance_seconds_count")


def round_of_clicks(river: Flow, number: int) -> list[Click]:
    """Everybody takes one item that they have not taken before."""
    clicks = [
        Click(
            event_id=f"{number}-{u}", user_id=f"u{u}", item_id=f"i{(u + 7 * number) % 97}", timestamp_ms=BEGIN + number * HOUR + u
        )
        for u in range(USERS)
    ]
    river.send_all([("clicks", click) for click in clicks])
    return clicks


def settle(*workers: Process) -> None:
    flows.settle(workers[0].river.settings, *(one.port for one in workers))


def said(river: Flow) -> dict[str, list[RecommendationList]]:
    """What stands on the output topic about each user, in its order."""
    found: dict[str, list[RecommendationList]] = defaultdict(list)
    for record in river.read("recommendations"):
        if not record.key.startswith(b"@"):
            found[record.key.decode()].append(msgspec.json.decode(record.value, type=RecommendationList))
    return found


def holds(lists: list[RecommendationList]) -> RecommendationList:
    """Which of them holds, for a reader that goes by `log_offset`: the highest, and of equal ones the last."""
    return max(reversed(lists), key=lambda one: one.log_offset)


def no_conflicts(river: Flow, clicks: list[Click]) -> None:
    """Everybody has one last word: made after all they did, or equal to what would be made, and nothing in it that they had."""
    had: dict[str, set[str]] = defaultdict(set)
    for click in clicks:
        had[click.user_id].add(click.item_id)
    newest: dict[str, int] = {}
    for record in river.read("interactions"):
        newest[msgspec.json.decode(record.value, type=Interaction).user_id] = record.offset
    found = said(river)
    assert found.keys() == had.keys()
    for user, lists in found.items():
        last = holds(lists)
        assert last.log_offset <= newest[user]
        assert not had[user] & {item.item_id for item in last.items}, f"{user}: the list that holds does not know all they did"
        events = {one.caused_by.event_id for one in lists if one.log_offset == last.log_offset}
        assert len(events) == 1, f"{user}: lists for two events claim to be the last word"


@pytest.mark.timeout(600)
def test_a_restart_within_the_session_moves_nothing(patient: Flow) -> None:
    river = patient
    workers = two(river)
    gone, stays = workers
    try:
        clicks = round_of_clicks(river, 0)
        settle(*workers)
        before, share = rebalances(stays), owned(stays)
        assert gone.stop() == 0, gone.log()[-3000:]
        clicks += round_of_clicks(river, 1)  # half of it waits for the one that is away
        until(
            lambda: any(holds(lists).caused_by.event_id.startswith("1-") for lists in said(river).values()),
            "the other one goes on",
        )
        gone.start()
        clicks += round_of_clicks(river, 2)
        until(lambda: ready(gone), "it is back")
        settle(*workers)
        assert rebalances(stays) == before, "nobody else stopped"
        assert owned(stays) == share
        assert owned(gone) == river.settings.partitions - share
        no_conflicts(river, clicks)
    finally:
        end(*workers)


@pytest.mark.timeout(600)
def test_the_older_list_of_a_worker_that_froze_is_nobodys_last_word(brisk: Flow) -> None:
    river = brisk
    workers = two(river)
    frozen, other = workers
    try:
        clicks = round_of_clicks(river, 0)
        settle(*workers)
        clicks += round_of_clicks(river, 1)
        frozen.signal(signal.SIGSTOP)  # in the middle of its batch, or shortly after
        until(lambda: owned(other) == river.settings.partitions and ready(other), "the other one has its partitions")
        clicks += round_of_clicks(river, 2)
        settle(other)
        clicks += round_of_clicks(river, 3)
        settle(other)
        frozen.signal(signal.SIGCONT)
        # what it believes to own when it wakes up proves nothing: the other one must have given something back
        until(lambda: all(ready(one) and 0 < owned(one) < river.settings.partitions for one in workers), "it is back")
        settle(*workers)
        no_conflicts(river, clicks)

        user, lists = next((user, lists) for user, lists in said(river).items() if len({one.log_offset for one in lists}) > 1)
        newest, older = holds(lists), min(lists, key=lambda one: one.log_offset)
        late = msgspec.structs.replace(older, list_id="late", caused_by=CausedBy(event_id="late", timestamp_ms=1))
        river.producer.send(river.settings.topic("recommendations"), key=user.encode(), value=encode(late)).get(flows.PATIENCE_S)
        until(lambda: said(river)[user][-1].log_offset == newest.log_offset, "the list that holds is the last record again")
        assert holds(said(river)[user]).list_id == newest.list_id
        until(
            lambda: sum(one.metric("freshet_lists_overtaken_total", outcome="sent_again") for one in workers) >= 1,
            "it is counted, once the broker has acknowledged it",
        )
        served = ServedLists(100, 5)
        for one in said(river)[user]:
            served.put(one)
        last = served.last(user)
        assert last is not None
        assert last.list_id == newest.list_id, "so do our own readers, attribution for one"
    finally:
        end(*workers)


@pytest.mark.timeout(600)
def test_a_batch_that_comes_again_overwrites_no_later_list(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """All is delivered again, as after a crash before the commit, in batches so small that most are older than what is out."""
    options = {"model_embedding_dim": "4", "batch_events": "7"}
    with flow(kafka.bootstrap, tmp_path, f"members{next(_numbers)}.", **options) as river:
        worker = river.start("--roles", LISTS)
        for number in range(4):
            round_of_clicks(river, number)
        river.settle()
        river.stop(worker)
        before = said(river)
        rewind(river)
        worker = river.start("--roles", LISTS)
        until(lambda: river.metric("freshet_batch_records_sum", agent="recommend") >= 4 * USERS, "all of it came again")
        river.settle()
        assert river.metric("freshet_lists_overtaken_total", outcome="not_sent") > USERS
        for user, lists in said(river).items():
            newest = lists[-1].log_offset
            assert newest == holds(lists).log_offset, "the last record is that of the last event"
            assert newest >= holds(before[user]).log_offset, "later, where that event changed no list the first time"
        river.stop(worker)


def rewind(river: Flow) -> None:
    """The group has committed nothing of the log."""
    topic = river.settings.topic("interactions")
    consumer = KafkaConsumer(
        **river.settings.connection.kafka_python(), group_id=river.settings.app_id, enable_auto_commit=False
    )  # fmt: skip
    try:
        places = [TopicPartition(topic, number) for number in range(river.settings.partitions)]
        consumer.assign(places)
        consumer.commit({place: OffsetAndMetadata(0, "", -1) for place in places})
    finally:
        consumer.close()
