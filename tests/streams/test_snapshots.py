"""Snapshots of a replica on a real disk: whole or not there, the furthest that fits, refused where state would be missing."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import ConsumerRecord
from prometheus_client import CollectorRegistry

from models import Config
from models.events import Erasure, Interaction, encode
from streams import clock
from streams.learn import Learner
from streams.metrics import Metrics
from streams.replica import Extent, Positions
from streams.settings import Settings
from streams.snapshot_store import LocalStore, Name, SharedStore
from streams.snapshots import SnapshotRefused, Snapshots
from tests.models.streams_of import BEGIN, HOUR, shop

LOG = "interactions"
TOPICS = (LOG, "items", "item-vectors", "review-vectors", "recommendations")
MODEL = Config(max_users=1000, max_items=1000, embedding_dim=4, embedding_scan=64, embedding_items=64)


class Replicated:
    """A worker's state without Kafka: what it has folded, and its snapshots."""

    def __init__(self, directory: Path, *, log: list[Any] | None = None, begin: int = 0, ids: str = "1", **settings: Any) -> None:
        model = settings.pop("model", MODEL)
        self.settings = msgspec.structs.replace(
            Settings.load({}, state_dir=str(directory), training_per_s=100_000.0, **settings), model=model
        )
        self.metrics = Metrics(CollectorRegistry())
        self.learner = Learner(self.settings, self.metrics)
        self.log = log if log is not None else shop(1, users=30, items=20, events=300)
        self.positions: Positions = {(topic, 0): 0 for topic in TOPICS}
        ends = {**self.positions, (LOG, 0): len(self.log)}
        there = Extent(dict.fromkeys(TOPICS, ids), {**self.positions, (LOG, 0): begin}, ends)
        self.snapshots = Snapshots(self.settings, self.metrics, self.learner, there, lambda: self.positions)

    def fold(self, until: int | None = None) -> Replicated:
        for event in self.log[self.positions[LOG, 0] : until]:
            offset = self.positions[LOG, 0]
            self.learner.interactions(0, [record(offset, encode(Interaction.of(event)))])
            self.positions[LOG, 0] = offset + 1
        return self

    def restore(self, *, rebuild: bool = False) -> int:
        """Where in the log it goes on."""
        positions = self.snapshots.restore(rebuild=rebuild)
        self.positions |= positions
        return self.positions[LOG, 0]

    def take(self) -> Replicated:
        asyncio.run(self.snapshots.take())
        return self

    def an_interval_later(self) -> None:
        self.snapshots._taken_s -= self.settings.snapshot_interval_s + 1

    def count(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("freshet_snapshots_total", {"outcome": outcome}) or 0.0

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.snapshots.local.directory.iterdir() if path.suffix == ".snapshot")


def record(offset: int, value: bytes) -> Any:
    return ConsumerRecord(
        topic=LOG, partition=0, offset=offset, timestamp=0, timestamp_type=0, key=b"k", value=value, checksum=None,
        serialized_key_size=1, serialized_value_size=len(value), headers=(),
    )  # fmt: skip


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files of this process, and of its children, may not grow past 20 kB: writing fails half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ------------------------------------------------------------------------------------------------ writing and starting
def test_a_start_goes_on_where_the_snapshot_was_made_and_ends_in_the_same_state(tmp_path: Path) -> None:
    before = Replicated(tmp_path).fold(200).take().fold()
    after = Replicated(tmp_path)
    assert after.restore() == 200
    after.fold()
    assert after.learner.model.digest() == before.learner.model.digest()
    assert after.learner.model.checksum() == before.learner.model.checksum()
    assert after.learner.newest == before.learner.newest
    assert after.count("restored") == 1


def test_a_snapshot_holds_what_was_at_that_moment_whatever_comes_while_it_is_written(tmp_path: Path) -> None:
    """The child works on a copy: the stream goes on."""
    worker, other = Replicated(tmp_path).fold(150), Replicated(tmp_path).fold(150)

    async def meanwhile() -> None:
        writing = asyncio.create_task(worker.snapshots.take())
        await asyncio.sleep(0)
        worker.fold()
        await writing

    asyncio.run(meanwhile())
    assert worker.positions[LOG, 0] == 300
    after = Replicated(tmp_path)
    assert after.restore() == 150
    assert after.learner.model.digest() == other.learner.model.digest()


def test_two_generations_are_kept(tmp_path: Path) -> None:
    worker = Replicated(tmp_path)
    for until in (50, 100, 150, 200):
        worker.fold(until).take()
    assert [Name.parse(path.name).records for path in worker.files] == [150, 200]  # type: ignore[union-attr]
    assert worker.count("written") == 4


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    worker = Replicated(tmp_path).fold(10).take()
    assert worker.snapshots.local.directory.stat().st_mode & 0o077 == 0


def test_a_clean_stop_saves_what_is_new_and_only_that(tmp_path: Path) -> None:
    worker = Replicated(tmp_path).fold(120)
    worker.snapshots.finish()
    assert len(worker.files) == 1
    worker.snapshots.finish()
    assert len(worker.files) == 1
    assert Replicated(tmp_path).restore() == 120


def test_without_snapshots_nothing_is_read_or_written(tmp_path: Path) -> None:
    Replicated(tmp_path).fold(120).take()
    worker = Replicated(tmp_path, snapshots=False)
    assert worker.restore() == 0
    worker.fold().snapshots.finish()
    asyncio.run(worker.snapshots.run())
    assert len(worker.files) == 1


def test_one_is_due_after_records_or_after_time_and_only_if_something_changed(tmp_path: Path) -> None:
    worker = Replicated(tmp_path, log=shop(2, users=50, items=20, events=1500), snapshot_records=1000, snapshot_interval_s=60.0)
    assert not worker.snapshots.due()
    worker.fold(999)
    assert not worker.snapshots.due()
    worker.fold(1000)
    assert worker.snapshots.due()
    worker.take()
    assert not worker.snapshots.due()
    worker.an_interval_later()
    assert not worker.snapshots.due(), "nothing has changed"
    worker.fold(1001)
    assert worker.snapshots.due()


# ------------------------------------------------------------------------------------------------ damage
def test_a_damaged_one_is_set_aside_and_the_older_one_used(tmp_path: Path) -> None:
    worker = Replicated(tmp_path).fold(100).take().fold(200).take()
    newest = worker.files[-1]
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw)
    after = Replicated(tmp_path)
    assert after.restore() == 100
    assert after.count("damaged") == 1
    assert not newest.exists()
    assert newest.with_suffix(".damaged").exists()
    after.fold()
    assert after.learner.model.digest() == worker.fold().learner.model.digest()


def test_if_all_are_damaged_the_log_is_folded(tmp_path: Path) -> None:
    worker = Replicated(tmp_path).fold(100).take().fold(200).take()
    for file in worker.files:
        file.write_bytes(file.read_bytes()[:-40])
    after = Replicated(tmp_path)
    assert after.restore() == 0
    assert after.count("damaged") == 2


def test_what_was_set_aside_goes_after_two_more(tmp_path: Path) -> None:
    worker = Replicated(tmp_path).fold(100).take()
    worker.files[0].write_bytes(b"junk")
    after = Replicated(tmp_path)
    after.restore()
    (aside,) = after.snapshots.local.directory.glob("*.damaged")
    os.utime(aside, (1, 1))
    after.fold(50).take()
    assert aside.exists()
    after.fold(60).take()
    assert not aside.exists()


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    worker = Replicated(tmp_path).fold(100).take()
    (worker.snapshots.local.directory / "README").write_text("mine")
    worker.fold(150).take().fold(200).take()
    assert (worker.snapshots.local.directory / "README").read_text() == "mine"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_keeps_the_older_one_and_the_worker_goes_on(tmp_path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    worker = Replicated(tmp_path).fold(100).take()
    before = worker.files
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    worker.fold(200).take()
    assert worker.files == before
    assert worker.count("failed") == 1
    worker.snapshots.finish()
    assert worker.count("failed") == 2
    assert [path.suffix for path in worker.snapshots.local.directory.iterdir()] == [".snapshot"], "nothing half written is left"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    worker.fold().take()
    assert len(worker.files) == 2


def test_a_place_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("a file where the directory should be")
    worker = Replicated(tmp_path).fold(100).take()
    assert worker.count("failed") == 1


def test_what_a_dead_process_left_half_written_goes(tmp_path: Path) -> None:
    worker = Replicated(tmp_path).fold(100).take()
    old, young = (worker.snapshots.local.directory / f"{name}.part" for name in ("old", "young"))
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert Replicated(tmp_path).restore() == 100
    assert not old.exists()
    assert young.exists(), "perhaps another worker is at work on it"


# ------------------------------------------------------------------------------------------------ what does not fit
def test_other_settings_are_refused_with_the_choices(tmp_path: Path) -> None:
    Replicated(tmp_path).fold(100).take()
    other = Replicated(tmp_path, model=msgspec.structs.replace(MODEL, window_events=64))
    with pytest.raises(SnapshotRefused) as refused:
        other.restore()
    text = str(refused.value)
    assert "window_events was 512 and is 64" in text
    for choice in ("former settings", "FRESHET_SNAPSHOT_SHARE", "--rebuild", "FRESHET_SNAPSHOT_MISFIT=rebuild"):
        assert choice in text
    assert other.restore(rebuild=True) == 0


def test_settings_that_only_matter_for_lists_may_change(tmp_path: Path) -> None:
    Replicated(tmp_path).fold(100).take()
    other = Replicated(tmp_path, list_size=5, model=msgspec.structs.replace(MODEL, diversity=0.3, pin=("i1",)))
    assert other.restore() == 100


def test_a_gap_before_the_log_is_refused_with_the_choices(tmp_path: Path) -> None:
    Replicated(tmp_path).fold(100).take()
    late = Replicated(tmp_path, begin=150)
    with pytest.raises(SnapshotRefused, match="50 records between them are gone"):
        late.restore()
    assert Replicated(tmp_path, begin=150).restore(rebuild=True) == 0


def test_a_snapshot_bridges_what_the_log_has_lost(tmp_path: Path) -> None:
    Replicated(tmp_path).fold(200).take()
    assert Replicated(tmp_path, begin=150).restore() == 200


def test_a_cut_log_without_any_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnapshotRefused, match="interactions/0 begins at 7"):
        Replicated(tmp_path, begin=7).restore()


def test_a_log_that_ends_before_the_snapshot_is_refused(tmp_path: Path) -> None:
    Replicated(tmp_path).fold(200).take()
    short = Replicated(tmp_path, log=shop(1, users=30, items=20, events=100))
    with pytest.raises(SnapshotRefused, match="acknowledged are gone"):
        short.restore()


def test_topics_made_anew_are_not_the_same_log(tmp_path: Path) -> None:
    Replicated(tmp_path).fold(200).take()
    with pytest.raises(SnapshotRefused, match="interactions has been made anew"):
        Replicated(tmp_path, ids="2").restore()


def test_after_a_rebuild_the_new_snapshots_count_and_the_old_go_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the old ones reach further: they are of another fold."""
    Replicated(tmp_path).fold(300).take()
    other = msgspec.structs.replace(MODEL, window_events=64)
    worker = Replicated(tmp_path, model=other)
    worker.restore(rebuild=True)
    worker.fold(50).take().fold(60).take().fold(70).take()
    assert [Name.parse(path.name).records for path in worker.files] == [60, 70, 300]  # type: ignore[union-attr]
    assert Replicated(tmp_path, model=other).restore() == 70
    now = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now + HOUR)
    worker.an_interval_later()
    assert worker.snapshots.due(), "although nothing else has changed"
    worker.fold(80).take()
    assert [Name.parse(path.name).records for path in worker.files] == [70, 80]  # type: ignore[union-attr]


def test_one_older_than_tombstones_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Replicated(tmp_path).fold(200).take()
    now = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now + 6 * 24 * HOUR + HOUR)
    assert Replicated(tmp_path).restore() == 0


# ------------------------------------------------------------------------------------------------ forgetting
def test_who_is_forgotten_leaves_every_generation(tmp_path: Path) -> None:
    """After two more, which are made although nothing else happens."""
    worker = Replicated(tmp_path, snapshot_interval_s=60.0).fold(100).take().fold(200).take()
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
    one, other = (Replicated(tmp_path / name, snapshot_share=share, snapshot_interval_s=60.0) for name in ("one", "other"))
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
