"""Workers that start from snapshots, on a real Kafka."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kafka import TopicPartition
from prometheus_client import CollectorRegistry

from models import Click, Recommender, snapshot
from streams import topics
from streams.embedded_kafka import EmbeddedKafka
from streams.learn import Learner
from streams.metrics import Metrics
from streams.snapshot_store import LocalStore
from streams.snapshots import directory
from tests.models.streams_of import BEGIN, HOUR
from tests.streams.flow import PATIENCE_S, Flow, digest_in, flow, places, until

LISTS = ("--roles", "ingest,recommend,attribute")
_numbers = itertools.count(1)


@pytest.fixture
def river(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Flow]:
    with flow(kafka.bootstrap, tmp_path, f"snap{next(_numbers)}.", snapshot_interval_s="1", model_embedding_dim="4") as made:
        yield made


def clicks(begin: int, end: int) -> list[tuple[str, Click]]:
    made = []
    for k in range(begin, end):
        user, item = f"u{(7 * k) % 40}", f"i{(k * k + k // 40) % 25}"
        made.append(("clicks", Click(event_id=f"e{k}", user_id=user, item_id=item, timestamp_ms=BEGIN + k * HOUR)))
    return made


def clean_digest(river: Flow, *messages: tuple[str, Click]) -> str:
    model = Recommender(river.settings.model)
    for _, event in messages:
        model.learn(event)
    return model.digest()


def saved(river: Flow) -> int:
    """How many records the furthest snapshot on disk holds."""
    return max((name.records for name in LocalStore(directory(river.settings)).names()), default=0)


def test_a_worker_goes_on_where_its_snapshot_ends_after_a_stop_and_after_a_kill(river: Flow) -> None:
    worker = river.start(*LISTS)
    river.send_all(clicks(0, 500))
    river.settle()
    assert digest_in(river.stop(worker)) == clean_digest(river, *clicks(0, 500))
    worker = river.start(*LISTS)
    assert river.metric("freshet_snapshots_total", outcome="restored") == 1
    assert river.metric("freshet_folded_total") == 0, "nothing was read again"
    river.send_all(clicks(450, 700))
    river.settle()
    assert river.metric("freshet_folded_total") == 200
    assert river.metric("freshet_duplicates_total") == 50
    found = places(river.metrics_port)
    assert found is not None
    all_of_it = sum(at for (topic, _), at in found.folded.items() if topic != river.settings.topic("weights"))
    until(lambda: saved(river) >= all_of_it, "a snapshot of all that was sent")
    river.send_all(clicks(700, 800))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker = river.start(*LISTS)
    river.settle()
    assert river.metric("freshet_folded_total") <= 100
    assert digest_in(river.stop(worker)) == clean_digest(river, *clicks(0, 800))

    code, said = freshet(river, "digest", "--check", "--json")
    mine, logs, verdict = said.splitlines()
    assert (code, verdict) == (0, "equal")
    assert msgspec.json.decode(mine)["digest"] == msgspec.json.decode(logs)["digest"] == clean_digest(river, *clicks(0, 800))
    assert msgspec.json.decode(mine)["events"] == 800
    falsify(river)
    code, said = freshet(river, "digest", "--check")
    assert code == 1
    assert "DIFFERENT" in said
    code, said = freshet(river, "digest", "--log")
    assert (code, clean_digest(river, *clicks(0, 800)) in said) == (0, True)


def freshet(river: Flow, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    ended = subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        env={**os.environ, **river.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
    )
    return ended.returncode, ended.stdout


def falsify(river: Flow) -> None:
    """A snapshot at the same place that holds one event more."""
    store = LocalStore(directory(river.settings))
    newest = store.names()[0]
    with store.open(newest) as (file, size):
        meta, saved = snapshot.read(file.readinto, size)
    learner = Learner(river.settings, Metrics(CollectorRegistry()))
    learner.become(saved)
    learner.model.learn(Click(event_id="forged", user_id="u1", item_id="i1", timestamp_ms=BEGIN))
    store.write(newest._replace(taken_ms=newest.taken_ms + 1), snapshot.frames(meta, learner.save()))


def refused(river: Flow, **environment: str) -> str:
    """What a worker says that does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "streams.cli", "worker", *LISTS],
        env={**os.environ, **river.environment, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 1, ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_what_does_not_fit_is_refused_and_a_snapshot_bridges_what_the_log_has_lost(river: Flow) -> None:
    worker = river.start(*LISTS)
    river.send_all(clicks(0, 300))
    river.settle()
    river.stop(worker)
    said = refused(river, FRESHET_MODEL_WINDOW_EVENTS="64")
    assert "window_events was 512 and is 64" in said
    assert "--rebuild" in said
    with topics.admin(river.settings.connection) as admin:
        log = river.settings.topic("interactions")
        admin.delete_records({TopicPartition(log, p): 20 for p in range(river.settings.partitions)})
    said = refused(river, FRESHET_STATE_DIR=f"{river.directory}/elsewhere")
    assert f"{log}/0 begins at 20" in said
    worker = river.start(*LISTS)
    river.send_all(clicks(300, 350))
    river.settle()
    assert digest_in(river.stop(worker)) == clean_digest(river, *clicks(0, 350))
