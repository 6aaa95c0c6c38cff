"""Forgetting, end to end: a person leaves the state, the texts, the lists and the snapshots, and whoever asked is told when."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models import Click, Erasure, Recommender, Review, snapshot
from models.events import Interaction, ItemVector
from models.interning import key64
from models.kept import under
from streams.clock import now_ms
from streams.embedded_kafka import EmbeddedKafka
from streams.forget import SAID, STEPS
from streams.presence import everybody
from streams.snapshot_store import LocalStore
from streams.snapshots import directory
from streams.text_encoder import create_encoder
from streams.text_points import ReviewPoint, item_point_id
from streams.trusts import key_of
from streams.vector_store import VectorStore
from tests.streams.flow import PATIENCE_S, Flow, digest_in, flow, until

_numbers = itertools.count(1)


@pytest.fixture
def river(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Flow]:
    with flow(kafka.bootstrap, tmp_path, f"forget{next(_numbers)}.", snapshot_interval_s="2", model_repeats="never") as made:
        yield made


def click(user: str, item: str, k: int) -> Click:
    return Click(event_id=f"{user}-{item}-{k}", user_id=user, item_id=item, timestamp_ms=now_ms())


def said(user: str, item: str, text: str) -> Review:
    return Review(event_id=f"{user}-on-{item}", user_id=user, item_id=item, timestamp_ms=now_ms(), rating=5, text=text)


def forget(river: Flow, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    ended = subprocess.run(
        [sys.executable, "-m", "streams.cli", "forget", *arguments],
        env={**os.environ, **river.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S + 60,
    )
    return ended.returncode, ended.stdout


def stored(river: Flow, user: str, *items: str) -> tuple[list[ReviewPoint], dict[str, Any]]:
    """What Qdrant holds of a person and of items; the worker has stopped."""

    async def ask() -> tuple[list[ReviewPoint], dict[str, Any]]:
        store = VectorStore(path=f"{river.directory}/qdrant")
        try:
            return await store.reviews_of_user(user), await store.read_items([item_point_id(item) for item in items])
        finally:
            await store.close()

    return asyncio.run(ask())


def vectors(river: Flow) -> dict[str, ItemVector]:
    return {r.key.decode(): msgspec.json.decode(r.value, type=ItemVector) for r in river.read("item-vectors")}


def test_a_person_is_forgotten_everywhere_and_the_command_says_when(river: Flow) -> None:
    worker = river.start()
    for k, item in enumerate("abcabcxyzxyz"):
        river.send("clicks", click(f"{item}{k % 4}", item, k))
    river.send("clicks", click("ada", "a", 1))
    river.send("clicks", click("ada", "secret", 2))
    river.send("reviews", said("ada", "a", "nobody but ada would say this"))
    river.send("reviews", said("ada", "secret", "not for others"))
    river.send("reviews", said("bob", "a", "a warm tone"))
    river.list_of("ada")
    until(lambda: {"a", "secret"} <= set(vectors(river)) and vectors(river)["a"].texts == 2, "what was said is embedded")

    code, out = forget(river, "ada", "--wait", f"{PATIENCE_S:.0f}")
    assert code == 0, out
    assert [line[line.index(" s ") + 4 :] for line in out.splitlines() if " s  " in line] == [SAID[step] for step in STEPS]

    assert "ada" not in river.lists(), "the tombstone of her list"
    river.send("clicks", msgspec.structs.replace(click("ada", "b", 3), timestamp_ms=now_ms() - 3_600_000))
    river.send("reviews", msgspec.structs.replace(said("ada", "b", "this comes late"), timestamp_ms=now_ms() - 3_600_000))
    river.send("clicks", click("bob", "x", 4))
    assert all(item.item_id != "secret" for item in river.list_of("bob").items), "nobody else has ever touched it"
    river.settle()
    assert "ada" not in river.lists(), "what comes late about her causes no list"
    digest = digest_in(river.stop(worker))
    trusts = {record.key: record.value for record in river.read("weights")}
    assert trusts[key_of(key64("ada"))] is None, "the last word of what was learned about her"

    clean = Recommender(river.settings.model)
    for record in river.read("interactions"):
        line = msgspec.json.decode(record.value, type=Interaction)
        if line.user_id != "ada":
            clean.learn(line)
    assert digest == clean.digest(), "as if she had never been there"

    reviews, items = stored(river, "ada", "a", "secret", "b")
    assert reviews == []
    encoder = create_encoder("hashing")
    encoder.load()
    np.testing.assert_allclose(items["a"].total(), encoder.encode(["a warm tone"])[0], atol=1e-5)
    assert set(items) == {"a"}
    assert vectors(river)["a"].snippet == "a warm tone"
    assert vectors(river)["secret"].vector == b""

    store = LocalStore(directory(river.settings))
    assert len(store.names()) == 2
    for name in store.names():
        with store.open(name) as (file, size):
            _, saved = snapshot.read(file.readinto, size)
        model = Recommender(river.settings.model)
        model.restore(under(saved, "model"))
        assert model.history.users.get("ada") < 0
        assert all(trust.read(key64("ada")) is None for trust in model.fusion.trusts)  # type: ignore[attr-defined]
        assert b"nobody but ada" not in store.path(name).read_bytes()
        assert not re.search(rb"(?<![a-z])ada(?![a-z])", store.path(name).read_bytes())


def test_whoever_asks_in_vain_is_told_why(river: Flow) -> None:
    code, out = forget(river, "@popular", "--wait", "1")
    assert code == 1
    assert "reserved" in out
    code, out = forget(river, "x" * 300, "--wait", "1")
    assert code == 1
    assert "256 bytes" in out
    code, out = forget(river, "nobody", "--wait", "0")
    assert code == 0
    assert "is published" in out
    code, out = forget(river, "nobody", "--wait", "2")
    assert code == 1
    assert "not yet: the request is in the log" in out, "there is no worker"
    requests = [msgspec.json.decode(record.value, type=Erasure) for record in river.read("erasures")]
    assert [request.user_id for request in requests] == ["nobody", "nobody"]


def test_workers_say_what_they_have_folded_and_when_they_stop(river: Flow) -> None:
    river.environment["FRESHET_INSTANCE_ID"] = "w1"
    worker = river.start("--roles", "ingest,recommend,attribute")
    for k in range(20):
        river.send("clicks", click(f"u{k}", "a", k))
    until(lambda: [sum(one.folded) for one in everybody(river.settings)] == [20], "the worker has told what it has folded")
    (one,) = everybody(river.settings)
    assert (one.name, one.stopped) == ("w1", False)
    assert not one.is_silent(now_ms())
    until(lambda: (everybody(river.settings)[0].saved or [0]) == one.folded, "and what it has saved")
    river.stop(worker)
    (one,) = everybody(river.settings)
    assert one.stopped
    assert one.is_silent(now_ms())
