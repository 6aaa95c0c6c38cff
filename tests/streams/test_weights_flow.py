"""Two workers on a real Kafka with one fusion: the trainer is killed, freezes, is restarted, and rubbish stands in the topic."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import Click
from streams.embedded_kafka import EmbeddedKafka
from tests.chaos.storm import LISTS, SESSION_S, Process
from tests.models.streams_of import BEGIN, HOUR
from tests.streams.flow import Flow, flow, until

_numbers = itertools.count(1)
_events = itertools.count()


@pytest.fixture
def river(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Flow]:
    options = {"snapshots": "false", "model_embedding_dim": "4", "session_timeout_s": str(SESSION_S)}
    with flow(kafka.bootstrap, tmp_path, f"weights{next(_numbers)}.", **options) as made:
        yield made


@pytest.fixture
def workers(river: Flow) -> Iterator[list[Process]]:
    made = [Process(name, LISTS, river) for name in ("w1", "w2", "w3")]
    yield made
    for one in made:
        one.signal(signal.SIGCONT)
        one.kill()


def clicks(river: Flow, count: int) -> None:
    made = []
    for _ in range(count):
        k = next(_events)
        made.append(
            Click(
                event_id=f"e{k}", user_id=f"u{(7 * k) % 40}", item_id=f"i{(k * k + k // 40) % 25}", timestamp_ms=BEGIN + k * HOUR
            )
        )
    river.send_all([("clicks", click) for click in made])


def steps(one: Process) -> float:
    return one.metric("freshet_weights_steps")


def trainer_of(workers: list[Process]) -> Process:
    """Exactly one says that it trains for all."""

    def ask() -> list[Process]:
        found = [one for one in workers if one.metric("freshet_weights_trainer") == 1.0]
        return found if len(found) == 1 else []

    (found,) = until(ask, "one of them trains")
    return found


def ready(*some: Process) -> None:
    for one in some:
        until(lambda one=one: one.metric("freshet_ready") == 1.0, f"{one.name} is ready")


def trained(river: Flow, workers: list[Process]) -> float:
    """After some events: the steps, which all have alike, and which are more than before. What comes while one trainer takes over
    from another teaches nobody: then some more events."""
    before, sent_s = steps(trainer_of(workers)), -1e9

    def alike() -> float:
        nonlocal sent_s
        found = {steps(one) for one in workers}
        if max(found) == before and time.monotonic() - sent_s > 10:
            clicks(river, 150)
            sent_s = time.monotonic()
        lag = sum(one.metric("freshet_replica_lag_records") + one.metric("freshet_lag_records") for one in workers)
        return max(found) if len(found) == 1 and max(found) > before and lag == 0 else 0.0

    return float(until(alike, "all have the same weights, trained further"))


def said(one: Process) -> str:
    """What a worker says of its weights when it stops."""
    assert one.stop() == 0, one.log()[-3000:]
    return one.log().rsplit("INFO", 1)[1].split("weights ", 1)[1].strip()


def same_to_the_last_bit(workers: list[Process]) -> None:
    """The trainer stops first: what it has learned since it published last is published then, and the other one has it, too."""
    trainer = trainer_of(workers)
    (follower,) = (one for one in workers if one is not trainer)
    words = said(trainer)
    until(lambda: f" after {steps(follower):.0f} steps" in words, "the other one has the last words")
    assert said(follower) == words


def two_trained(river: Flow, first: Process, second: Process) -> tuple[Process, Process]:
    """Both at work, with the same trained weights: who trains, and who does not."""
    first.start()
    second.start()
    ready(first, second)
    trained(river, [first, second])
    trainer = trainer_of([first, second])
    return trainer, second if trainer is first else first


@pytest.mark.timeout(600)
def test_one_trains_for_all_and_any_of_them_may_die(river: Flow, workers: list[Process]) -> None:
    first, second, third = workers
    trainer, other = two_trained(river, first, second)
    published = other.metric("freshet_weights_total", outcome="published")  # it was there first, and alone
    before = trained(river, [first, second])
    assert other.metric("freshet_weights_total", outcome="published") == published
    assert other.metric("freshet_weights_total", outcome="adopted") > 0

    trainer.kill()
    until(lambda: other.metric("freshet_weights_trainer") == 1.0, "the other one trains")
    assert steps(other) >= before, "it goes on from what the dead one has learned"
    assert trained(river, [other]) > before

    for key, value in ((b"0/1", b"rubbish"), (b"1/1", None), (b"junk", b"\x00" * 1000), (b"0/1", b"{}")):
        river.producer.send(river.settings.topic("weights"), key=key, value=value, partition=0, headers=[("part", b"1/1")])
    river.producer.flush()
    until(lambda: other.metric("freshet_weights_total", outcome="damaged") == 4, "it has read the rubbish")
    before = steps(other)
    third.start()
    ready(third)
    assert third.metric("freshet_folded_total") > 0
    # the other one may still publish what it has learned last: they are compared until both show the same
    until(lambda: steps(third) == steps(other) >= before, "a worker that starts with nothing has the trained weights")
    trained(river, [other, third])
    same_to_the_last_bit([other, third])


@pytest.mark.timeout(600)
def test_a_trainer_that_froze_leaves_the_weights_of_its_successor(river: Flow, workers: list[Process]) -> None:
    first, second, _ = workers
    frozen, other = two_trained(river, first, second)
    clicks(river, 20)
    frozen.signal(signal.SIGSTOP)
    until(lambda: other.metric("freshet_weights_trainer") == 1.0, "the other one trains")
    before = trained(river, [other])
    frozen.signal(signal.SIGCONT)
    until(lambda: frozen.metric("freshet_weights_trainer") == 0.0 or trainer_of([first, second]) is frozen, "it has noticed")
    ready(first, second)
    assert trained(river, [first, second]) > before, "nothing of what the other one has learned is lost"
    same_to_the_last_bit([first, second])
