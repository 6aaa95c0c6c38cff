"""Roles in processes of their own on a real Kafka: from one worker for everything to one for the events and one for the lists,
while events come, and on when one of them is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from models import Click
from models.events import Interaction
from streams.embedded_kafka import EmbeddedKafka
from tests.chaos.storm import LISTS, Process
from tests.streams import flow as flows
from tests.streams.flow import Flow, flow, until
from tests.streams.test_membership import USERS, round_of_clicks


@pytest.fixture
def river(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Flow]:
    with flow(kafka.bootstrap, tmp_path, "roles.", snapshots="false", model_embedding_dim="4", model_repeats="never") as made:
        yield made


def owned(one: Process, topic: str) -> float:
    return one.metric("freshet_owned_partitions", topic=one.river.settings.topic(topic))


def has_all(one: Process, topic: str) -> bool:
    return one.metric("freshet_ready") == 1.0 and owned(one, topic) == one.river.settings.partitions


def test_roles_move_to_processes_of_their_own_while_events_come(river: Flow) -> None:
    everything, door = Process("everything", LISTS, river), Process("door", "ingest", river)
    lists = Process("lists", "recommend,attribute", river)
    sent: list[Click] = []

    def clicks() -> None:
        sent.extend(round_of_clicks(river, len(sent) // USERS))

    try:
        everything.start()
        until(lambda: has_all(everything, "clicks") and has_all(everything, "interactions"), "one has it all")
        clicks()
        door.start()
        lists.start()
        clicks()  # while the group is made anew
        until(lambda: owned(door, "clicks") > 0 and owned(lists, "interactions") > 0, "both have joined")
        clicks()
        everything.kill()
        clicks()  # what it had in hand is delivered to the others
        until(lambda: has_all(door, "clicks") and has_all(lists, "interactions"), "the others have it all")
        assert owned(door, "interactions") == owned(lists, "clicks") == 0
        clicks()
        door.kill()
        clicks()  # nobody takes these
        door.start()
        until(lambda: has_all(door, "clicks"), "the door is open again")
        flows.settle(river.settings, door.port, lists.port)
        assert lists.metric("freshet_folded_total") == len(sent), "each event counts once, however often it was delivered"
    finally:
        for one in (everything, door, lists):
            one.kill()
    log = [msgspec.json.decode(record.value, type=Interaction) for record in river.read("interactions")]
    assert {line.event_id for line in log} == {click.event_id for click in sent}
    served = river.lists()
    newest = {click.user_id: click.event_id for click in sent}
    assert {user: served[user].caused_by.event_id for user in newest} == newest
    assert not river.read("dead-letters")
