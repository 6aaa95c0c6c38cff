"""The promise under a storm, on a real Kafka: every acknowledged event is in the state once, every review in Qdrant once,
everybody who acted has a list that holds nothing they had, and nothing valid is in dead-letters."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

import msgspec
import pytest

from models import Click, Recommender, Review
from models.events import Event, Interaction, RecommendationList
from streams.convert import EventFile
from streams.embedded_kafka import EmbeddedKafka
from streams.text_points import item_point_id, review_id
from streams.vector_store import VectorStore
from tests.chaos.storm import Storm, same
from tests.models.streams_of import shop
from tests.public_data import DATA
from tests.streams.flow import Flow, flow

SEED = int(os.environ.get("SEED", "1"))
FAULTS = ("restart", "freeze", "lose broker", "pause broker", "fill disk", "lock qdrant")
SETTINGS = {
    "snapshot_interval_s": "5", "session_timeout_s": "6", "model_window_events": "4096", "model_repeats": "never",
    "model_embedding_dim": "8", "partitions": "4",
}  # fmt: skip
"""No window overflows: which events a full window keeps depends on the order of arrival, which a storm changes."""


def made_up(count: int) -> list[Event]:
    """A shop whose reviews have words."""
    words = ("warm", "tone", "leaks", "sturdy", "cheap", "lovely")
    events: list[Event] = []
    for k, event in enumerate(shop(SEED, users=count // 20, items=200, events=count)):
        said = f"{words[k % 6]} {words[k // 6 % 6]}"
        events.append(msgspec.structs.replace(event, text=said) if isinstance(event, Review) and k % 2 else event)
    return events


def real(count: int) -> list[Event]:
    """Clicks of one shop and reviews of another, with as many of the latter as an embedded Qdrant bears; by time."""
    reviews = [e for e in EventFile(DATA / "amazon-gift-cards" / "reviews.jsonl.gz", lenient=True) if isinstance(e, Review)]
    clicks = (e for e in EventFile(DATA / "yoochoose-100k" / "train.tsv.gz", lenient=True) if isinstance(e, Click))
    chosen = [*reviews, *islice(clicks, count - len(reviews))]
    others = chosen[len(reviews) :]
    every = max(1, len(others) // max(1, len(reviews)))
    mixed: list[Event] = []
    for k, click in enumerate(others):
        mixed.append(click)
        if k % every == 0 and k // every < len(reviews):
            mixed.append(reviews[k // every])
    return [*mixed, *reviews[-(-len(others) // every) :]]


def distinct(events: Sequence[Event]) -> list[Event]:
    return list({event.event_id: event for event in events}.values())


# ------------------------------------------------------------------------------------------------ what must hold afterwards
def the_state_is_that_of_one_pass(storm: Storm, events: Sequence[Event]) -> None:
    clean = Recommender(storm.river.settings.model)
    for event in events:
        clean.learn(event, train=False)
    assert storm.digests() == [clean.digest()] * 2, "every acknowledged event is in the state of every worker exactly once"


def every_review_is_in_qdrant_once(storm: Storm, events: Sequence[Event]) -> None:
    said = [event for event in events if isinstance(event, Review) and (event.text.strip() or event.title.strip())]
    authors: dict[str, set[str]] = defaultdict(set)
    for event in said:
        authors[event.item_id].add(event.user_id)

    async def look() -> None:
        store = VectorStore(path=f"{storm.embedder.directory}/qdrant")
        try:
            ids = {review_id(event.item_id, event.event_id) for event in said}
            same(ids, await store.read_reviews(ids), "reviews in Qdrant")
            assert (await store.counts())["reviews"] == len(ids), "and no other"
            items = await store.read_items([item_point_id(item) for item in authors])
            texts = {item: point.texts for item, point in items.items()}
            assert texts == {item: len(users) for item, users in authors.items()}, "each account is in the mean of its item once"
        finally:
            await store.close()

    asyncio.run(look())


def everybody_has_a_list_of_what_they_had_not(river: Flow, events: Sequence[Event]) -> None:
    had: dict[str, set[str]] = defaultdict(set)
    for event in events:
        had[event.user_id].add(event.item_id)
    last_line: dict[str, int] = {}
    for record in river.read("interactions"):
        last_line[msgspec.json.decode(record.value, type=Interaction).user_id] = record.offset
    newest: dict[str, RecommendationList] = {}
    for record in river.read("recommendations"):
        if record.value is not None and not record.key.startswith(b"@"):
            served = msgspec.json.decode(record.value, type=RecommendationList)
            if served.user_id not in newest or served.log_offset >= newest[served.user_id].log_offset:
                newest[served.user_id] = served
    same(had, newest, "users with a list")
    for user, served in newest.items():
        assert not had[user] & {item.item_id for item in served.items}, f"{user} is offered what they had"
        assert served.log_offset <= last_line[user]


def nothing_valid_is_refused(storm: Storm) -> None:
    letters = storm.river.read("dead-letters")
    assert all(record.key == b"rubbish" for record in letters), "no valid event is in dead-letters"
    origins = {(headers["source-topic"], headers["source-partition"], headers["source-offset"])
               for headers in (dict(record.headers) for record in letters)}  # fmt: skip
    assert len(origins) == storm.poisoned, "and every bad one is, however often its batch was repeated"


def weather(broker: EmbeddedKafka, directory: Path, events: list[Event], *, seconds: float, kills: int, others: Sequence[str],
            pause_s: tuple[float, float], patience_s: float) -> None:  # fmt: skip
    with flow(broker.bootstrap, directory, "storm.", **SETTINGS) as river:
        storm = Storm(broker, river, SEED)
        try:
            storm.begin()
            publishing = storm.publish(events, seconds)
            storm.rage(kills, others, pause_s)
            publishing.join(900)
            assert not publishing.is_alive(), "the platform hangs"
            storm.settle(patience_s)
            once = distinct(events)
            nothing_valid_is_refused(storm)
            everybody_has_a_list_of_what_they_had_not(river, once)
            the_state_is_that_of_one_pass(storm, once)
            every_review_is_in_qdrant_once(storm, once)
            assert min(process.kills for process in storm.processes) >= kills
            restored = sum(worker.log().count("restored in") for worker in storm.workers)
            print(dict(storm.happened), f"{restored} starts from a snapshot")
            assert restored >= kills // 2, "workers go on from snapshots, they do not read everything again"
        finally:
            storm.end()


@pytest.mark.timeout(500)
def test_a_short_storm(tmp_path: Path) -> None:
    """Seeded, one of each kind; the long one is `make chaos`."""
    with EmbeddedKafka(data=tmp_path / "kafka") as broker:
        weather(broker, tmp_path, made_up(2_000), seconds=60, kills=1, others=("freeze", "lock qdrant", "lose broker"),
                pause_s=(1, 3), patience_s=240)  # fmt: skip


@pytest.mark.chaos
@pytest.mark.timeout(3_600)
def test_a_long_storm(tmp_path: Path) -> None:
    """50,000 events, real ones where they are at hand; every process is killed ten times."""
    events = real(50_000) if DATA.is_dir() else made_up(50_000)
    with EmbeddedKafka(data=tmp_path / "kafka") as broker:
        weather(
            broker, tmp_path, events, seconds=900, kills=10, others=list(chain(*[FAULTS] * 4)), pause_s=(4, 12), patience_s=900
        )
