"""Snapshots and those who are forgotten; snapshots in a place that workers share."""

from __future__ import annotations

import time
from pathlib import Path

from models.events import Erasure
from streams.snapshot_store import LocalStore, Name, SharedStore
from tests.models.streams_of import BEGIN, HOUR
from tests.streams.replicated import (
    LOG,
    Replicated,
)


# ------------------------------------------------------------------------------------------------ forgetting
def test_who_is_forgotten_leaves_every_generation(tmp_path: Path) -> None:
    """After two more, which are made although nothing else happens."""
    worker = Replicated(tmp_path, snapshot_interval_s=3600.0).fold(100).take().fold(200).take()
    person = worker.log[0].user_id
    worker.log[200:] = [Erasure(request_id="q", user_id=person, timestamp_ms=BEGIN + 9000 * HOUR)]
    worker.fold()
    for _ in range(2):
        assert not worker.snapshots.due()
        worker.an_interval_later()
        assert worker.snapshots.due()
        worker.take()
    worker.an_interval_later()
    assert not worker.snapshots.due(), "no generation knows them any more"
    for path in worker.files:
        assert person.encode() + b"u" not in path.read_bytes()
        fresh = Replicated(tmp_path, log=worker.log)
        fresh.restore()
        assert person not in fresh.learner.model.history.users._index
    assert len(worker.files) == 2


# ------------------------------------------------------------------------------------------------ a shared place
def test_a_new_worker_starts_from_anothers_snapshot(tmp_path: Path) -> None:
    share = f"file://{tmp_path / 'share'}"
    one = Replicated(tmp_path / "one", snapshot_share=share).fold(200).take()
    assert one.count("shared") == 1
    other = Replicated(tmp_path / "other", snapshot_share=share)
    assert other.restore() == 200
    other.fold()
    assert other.learner.model.digest() == one.fold().learner.model.digest()


def test_own_snapshots_are_preferred_where_they_reach_as_far(tmp_path: Path) -> None:
    share = f"file://{tmp_path / 'share'}"
    Replicated(tmp_path / "one", snapshot_share=share).fold(100).take()
    own = Replicated(tmp_path / "own").fold(150).take()
    again = Replicated(tmp_path / "own", snapshot_share=share)
    assert again.restore() == 150
    assert len(own.files) == 1, "nothing was fetched"


def test_workers_share_the_work_of_sharing(tmp_path: Path) -> None:
    share = f"file://{tmp_path / 'share'}"
    one, other = (Replicated(tmp_path / name, snapshot_share=share, snapshot_interval_s=3600.0) for name in ("one", "other"))
    one.fold(100).take()
    other.fold(110).take()
    assert (one.count("shared"), other.count("shared")) == (1, 0)


def test_a_shared_place_keeps_two_and_a_broken_one_stops_nobody(tmp_path: Path) -> None:
    share = tmp_path / "share"
    worker = Replicated(tmp_path / "one", snapshot_share=f"file://{share}", snapshot_interval_s=1.0)
    for until in (50, 100, 150):
        worker.fold(until).take()
        time.sleep(1.1)
    store = SharedStore(f"file://{share}/{LOG}")
    assert [name.records for name in store.names()] == [150, 100]
    for file in (share / LOG).iterdir():
        file.unlink()
    (share / LOG).rmdir()
    (share / LOG).write_text("in the way")
    worker.fold(200).take()
    assert worker.count("failed") == 1
    assert worker.count("written") == 4
    assert Replicated(tmp_path / "two", snapshot_share=f"file://{share}").restore() == 0


def test_a_damaged_shared_one_is_replaced_by_the_log(tmp_path: Path) -> None:
    share = tmp_path / "share"
    Replicated(tmp_path / "one", snapshot_share=f"file://{share}").fold(100).take()
    (file,) = (share / LOG).iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert Replicated(tmp_path / "two", snapshot_share=f"file://{share}").restore() == 0


def test_a_name_says_what_is_in_it() -> None:
    name = Name.new(7, 2, 1_700_000_000_000, "0123abcd")
    assert Name.parse(str(name)) == name
    for foreign in ("", "x.snapshot", str(name) + ".part", str(name)[1:]):
        assert Name.parse(foreign) is None
    assert sorted([Name(9, 0, 1, "a", "b"), Name(10, 0, 0, "a", "b")])[-1].records == 10


def test_a_store_without_a_directory_is_empty(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "nowhere")
    assert store.names() == []
    store.clear_unfinished()
