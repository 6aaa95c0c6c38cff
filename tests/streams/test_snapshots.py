"""Snapshots of a replica on a real disk: whole or not there, the furthest that fits, refused where state would be missing."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from streams import clock
from streams.snapshot_store import Name
from streams.snapshots import SnapshotRefused
from tests.models.streams_of import HOUR, shop
from tests.streams.replicated import (
    LOG,
    MODEL,
    Replicated,
)


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
    worker = Replicated(tmp_path, log=shop(2, users=50, items=20, events=1500), snapshot_records=1000, snapshot_interval_s=3600.0)
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
