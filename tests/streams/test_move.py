"""A log moved into other topics: the same state comes of it, by the steps of the runbook; nothing is overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from models.events import Click, Item, Review
from streams.clock import now_ms
from streams.embedded_kafka import EmbeddedKafka
from streams.ingest import partition_of
from streams.settings import Settings
from tests.streams.flow import Flow, flow, until


@pytest.fixture
def river(kafka: EmbeddedKafka, tmp_path: Path) -> Any:
    with flow(kafka.bootstrap, tmp_path, "old.", model_repeats="never") as made:
        yield made


def command(river: Flow, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **river.environment, **settings, "COLUMNS": "300"}
    program = [sys.executable, "-m", "streams.cli", *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True)


def shopping(river: Flow) -> None:
    messages: list[tuple[str, Any]] = [
        ("clicks", Click(event_id=f"{user}-{k}", user_id=f"u{user}", item_id=f"i{(user + k) % 7}", timestamp_ms=now_ms() + k))
        for user in range(12)
        for k in range(5)
    ]
    messages += [
        ("reviews", Review(event_id=f"r{k}", user_id=f"u{k}", item_id=f"i{k}", timestamp_ms=now_ms(), rating=5, text=f"fine {k}"))
        for k in range(4)
    ]
    river.send_all(messages)
    for title in ("first", "second"):
        river.send("items", Item(item_id="i1", title=title, categories=["c"]))


def digest(river: Flow, **settings: str) -> Any:
    done = command(river, "digest", "--log", "--json", **settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["digest"]


def test_other_partitions_the_same_state(river: Flow, tmp_path: Path) -> None:
    worker = river.start()
    shopping(river)
    river.settle()
    river.stop(worker)
    before = digest(river)

    done = command(river, "move", "--to", "new.", "--partitions", "7")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[:3] == ["new.items: 2 records", "new.item-texts: 6 records", "new.interactions: 64 records"]
    assert "FRESHET_TOPIC_PREFIX=new. FRESHET_PARTITIONS=7" in said[3]
    beside = {"FRESHET_TOPIC_PREFIX": "new.", "FRESHET_PARTITIONS": "7"}
    assert digest(river, **beside) == before
    assert digest(river) == before, "the old topics stay as they are"

    again = command(river, "move", "--to", "new.", "--partitions", "7")
    assert again.returncode == 1
    assert "there is something in" in again.stderr

    # the runbook's last step, and another encoder with it
    river.environment |= beside | {
        "FRESHET_APP_ID": "newapp", "FRESHET_QDRANT_PREFIX": "new-", "FRESHET_STATE_DIR": str(tmp_path / "fresh"),
        "FRESHET_EMBEDDING_MODEL": "bundled",
    }  # fmt: skip
    river.settings = Settings.load(river.environment)
    river.start()
    river.settle()
    until(lambda: len(river.lists()) >= 12, "everybody has a list from the new log")
    until(lambda: river.metric("freshet_qdrant_points", collection="reviews") == 4, "the reviews are points again")
    assert river.metric("freshet_vectors_foreign_total") == 0, "nothing of the former encoder is left"
    orders: dict[str, list[str]] = defaultdict(list)
    for record in river.read("interactions"):
        assert record.partition == partition_of(record.key, 7)
        orders[record.key.decode()].append(json.loads(record.value)["event_id"])
    assert all([one for one in order if "-" in one] == sorted(one for one in order if "-" in one) for order in orders.values())


def test_mistakes_get_a_sentence(river: Flow) -> None:
    for arguments, code, said in (
        (("--to", "old."), 2, "the prefix of the topics there are"),
        (("--to", "bad prefix!"), 2, "FRESHET_TOPIC_PREFIX"),
        (("--to", "x.", "--bootstrap", "127.0.0.1:9"), 1, "no Kafka"),
    ):
        done = command(river, "move", *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert said in done.stderr
