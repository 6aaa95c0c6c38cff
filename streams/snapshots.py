"""Snapshots of a worker's replica: when they are made, by whom, and which one a worker starts from.

    restored = snapshots.restore(rebuild=False)    # before Kafka counts on us; the offsets at which the replica goes on
    ...
    await snapshots.run()                          # until cancelled: one every so often
    snapshots.finish()                             # after a clean stop

What is in one: the model, what was served, and the next offset of every partition, as they belong together between two turns of
the event loop. A forked child writes it (`forked`), so the stream stands still only while the process is copied, some
milliseconds; where there is no fork, while it is written.

Order of writes: 1. the child writes a temporary file, flushes it and renames it; 2. this process drops what is superfluous;
3. a copy goes to the shared place, if there is one and nobody has put one there lately. A failure of any of them, a full disk for
one, leaves the older snapshots as they are; it is counted, told in the log, and tried again after the next interval.

What a start does: the furthest snapshot of the same settings and topics that is whole and within the log. Damaged ones are set
aside and the next one is taken. Where only snapshots are left that do not fit, or the log does not reach back to where it would
have to be read from, the start is refused with the choices there are: a state that lacks what others have is worse than none.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from models import snapshot
from models.kept import Misfit, Saved
from models.snapshot import Damaged, Meta
from streams import clock
from streams.forked import SUPPORTED, ChildFailed, Forked
from streams.metrics import Metrics
from streams.replica import Extent, Positions
from streams.settings import Settings
from streams.snapshot_store import LocalStore, Name, SharedStore, abandoned

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
ABANDONED: Final = 3
"""Intervals after which a snapshot of another fold is dropped."""
PATIENCE_S: Final = 900.0
"""For a child that writes: 10 GB on a slow disk."""
TOMBSTONE_DAYS: Final = 6
"""Compacted topics keep a tombstone for seven days (`topics`): an older snapshot might miss that something was removed."""
DAY_MS: Final = 86_400_000


class SnapshotRefused(RuntimeError):  # noqa: N818  named by what has happened
    """This worker must not start from what there is; the text says why and what the choices are."""


class Replicated(Protocol):
    """What is saved: `streams.learn.Learner`."""

    erasures: int

    def save(self) -> Saved: ...
    def shaping(self) -> dict[str, Any]: ...
    def become(self, saved: Mapping[str, Any]) -> None: ...


class Snapshots:
    """The snapshots of one worker.

    `positions` gives the offsets that belong to the replica's state now. Bounds: two snapshots on disk while a third is written;
    as long as a child runs, the pages that change meanwhile are in memory twice.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, state: Replicated, extent: Extent, positions: Callable[[], Positions]
    ) -> None:
        self.settings, self.metrics, self.state, self.extent, self._positions = settings, metrics, state, extent, positions
        self.log_topic = settings.topic("interactions")
        self.local = LocalStore(directory(settings))
        self.shared = SharedStore(f"{settings.snapshot_share.rstrip('/')}/{self.log_topic}") if settings.snapshot_share else None
        self.fit = _short(msgspec.json.encode([state.shaping(), extent.ids], order="sorted"))
        self._reaches: dict[Name, Positions] = {}  # of the snapshots on disk, as far as somebody asked
        self._taken_records = 0  # in the newest snapshot of this process
        self._taken_s = time.monotonic()

    # -- start ------------------------------------------------------------------------------------------------------
    def restore(self, *, rebuild: bool) -> Positions:
        """Take over the best snapshot; the offsets to go on from, empty: the topics have to be folded from their beginnings.

        With `rebuild` snapshots that do not fit, and a log that does not reach back, are no reason to refuse.

        Raises:
            SnapshotRefused: with the choices.
        """
        began = time.perf_counter()
        self.local.clear_unfinished()
        unfit: list[str] = []
        for name in self._candidates(unfit) if self.settings.snapshots else ():
            positions = self._try(name, unfit)
            if positions is not None:
                self._taken_records = sum(positions.values())
                log.info("state of %s restored in %.1f s", self.local.path(name), time.perf_counter() - began)
                self.metrics.snapshots["restored"].inc()
                return positions
        gaps = [
            f"{topic}/{p} begins at {begin}" for (topic, p), begin in self.extent.begins.items() if begin and self._is_log(topic)
        ]
        if not rebuild and unfit:
            raise SnapshotRefused(_unfit(self.local.directory, unfit))
        if not rebuild and gaps:
            raise SnapshotRefused(_incomplete(gaps))
        for reason in [*unfit, *gaps]:
            log.warning("folding the log from its beginning: %s", reason)
        return {}

    def _candidates(self, unfit: list[str]) -> list[Name]:
        """Snapshots of the same fold, the furthest first, those of the shared place fetched if they reach further than all here.
        Into `unfit`: why others cannot be used."""
        here = self.local.names()
        alike = [name for name in here if name.fit == self.fit]
        if not alike and here:
            unfit.append(self._difference(here[0]))
        if self.shared is not None:
            try:
                there = [n for n in self.shared.names() if n.fit == self.fit and (not alike or n.records > alike[0].records)]
                if there:
                    log.info("fetching the snapshot %s from %s", there[0], self.shared.url)
                    self.shared.fetch(there[0], self.local)
                    alike.insert(0, there[0])
            except Exception as problem:  # of a file system of whatever kind
                self._failed("could not be fetched from the shared place", problem)
        return alike

    def _difference(self, name: Name) -> str:
        """Why a snapshot of another fold does not fit."""
        try:
            with self.local.open(name) as (file, _):
                meta = snapshot.read_meta(file.readinto)
        except (OSError, Damaged) as problem:
            return f"{name}: {problem}"
        saved, wanted = meta.settings, self.state.shaping()
        found = [
            f"{key} was {saved.get(key)!r} and is {wanted.get(key)!r}"
            for key in {**wanted, **saved} if saved.get(key) != wanted.get(key)
        ]  # fmt: skip
        ids = meta.about.get("topics", {})
        found += [f"the topic {topic} has been made anew" for topic, id in self.extent.ids.items() if ids.get(topic) != id]
        return f"{name}: " + "; ".join(found[:8] or ["it was made for something else"])

    def _try(self, name: Name, unfit: list[str]) -> Positions | None:
        """The offsets of this snapshot if it could be taken over."""
        try:
            with self.local.open(name) as (file, size):
                meta = snapshot.read_meta(file.readinto)
                positions = positions_of(meta)
                if (days := (clock.now_ms() - name.taken_ms) / DAY_MS) > TOMBSTONE_DAYS:
                    raise Damaged(f"{days:.1f} days old: what was removed since may not be told any more")
                if (reason := self._outside(positions)) is not None:
                    unfit.append(f"{name}: {reason}")
                    return None
                file.seek(0)
                _, saved = snapshot.read(file.readinto, size)
        except (OSError, Damaged) as problem:
            self._set_aside(name, problem)
            return None
        try:
            self.state.become(saved)
        except Misfit as problem:
            unfit.append(f"{name}: {problem}")
            return None
        return {key: max(at, self.extent.begins[key]) for key, at in positions.items() if key in self.extent.begins}

    def _outside(self, positions: Positions) -> str | None:
        """Why the log cannot be read on from there."""
        for key, begin in self.extent.begins.items():
            at, end = positions.get(key), self.extent.ends[key]
            where = f"{key[0]}/{key[1]}"
            if at is None:
                return f"it knows nothing of {where}"
            if at < begin and self._is_log(key[0]):
                return f"it ends at {where}/{at}, but the log begins at {begin}: {begin - at} records between them are gone"
            if at > end:
                return f"it has {where} up to {at}, but the topic ends at {end}: records that were acknowledged are gone"
        return None

    def _is_log(self, topic: str) -> bool:
        """Whether every record of the topic counts; of the compacted ones only the newest of each key does."""
        return topic == self.log_topic

    def _set_aside(self, name: Name, problem: Exception) -> None:
        self.metrics.snapshots["damaged"].inc()
        try:
            log.error("the snapshot %s is of no use (%s), an older one is tried", self.local.set_aside(name), problem)
        except OSError:
            log.error("the snapshot %s cannot be read (%s), an older one is tried", name, problem)

    # -- in the course of time --------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Make one whenever it is due; ends by being cancelled."""
        while self.settings.snapshots:
            await asyncio.sleep(LOOK_S)
            if self.due():
                await self.take()

    def due(self) -> bool:
        """Whether enough has changed, or for long enough; or an older snapshot still holds somebody who is to be forgotten."""
        since = sum(self._positions().values()) - self._taken_records
        if since >= self.settings.snapshot_records:
            return True
        if time.monotonic() - self._taken_s < self.settings.snapshot_interval_s:
            return False
        names = self.local.names()
        forgotten = any(name.fit == self.fit and name.erasures < self.state.erasures for name in names)
        return since > 0 or forgotten or bool(abandoned(names, self.fit, self._abandoned_ms))

    async def take(self) -> None:
        """Make one now. Never raises for what a disk does."""
        began = time.perf_counter()
        name, work = self._prepared()
        try:
            self.local.prepare()
            if SUPPORTED:
                child = Forked(work)
                pause_s = child.pause_s
                await child.done(PATIENCE_S)
            else:
                work()
                pause_s = time.perf_counter() - began
            self._written(name, pause_s, time.perf_counter() - began)
        except (OSError, ChildFailed) as problem:
            self._failed("could not be written", problem)
            return
        if self.shared is not None:
            await asyncio.to_thread(self._share, name)

    def reach(self) -> Positions | None:
        """The offsets of the snapshot on disk that reaches least far; None: there is none."""
        names = self.local.names()
        self._reaches = {name: self._reaches[name] if name in self._reaches else self._reach_of(name) for name in names}
        return self._reaches[min(names)] if names else None

    def _reach_of(self, name: Name) -> Positions:
        try:
            with self.local.open(name) as (file, _):
                return positions_of(snapshot.read_meta(file.readinto))
        except (OSError, Damaged):
            return {}

    def finish(self) -> None:
        """One last time, after everything has stopped."""
        if not self.settings.snapshots or sum(self._positions().values()) == self._taken_records:
            return
        began = time.perf_counter()
        name, work = self._prepared()
        try:
            self.local.prepare()
            work()
            self._written(name, 0.0, time.perf_counter() - began)
        except OSError as problem:
            self._failed("could not be written", problem)

    def _prepared(self) -> tuple[Name, Callable[[], None]]:
        """The name and the writing of a snapshot of this moment."""
        self._taken_s = time.monotonic()
        positions = self._positions()
        name = Name.new(sum(positions.values()), self.state.erasures, clock.now_ms(), self.fit)
        about = {"topics": self.extent.ids, "positions": [[*key, at] for key, at in positions.items()]}
        meta, saved = Meta(settings=self.state.shaping(), about=about), self.state.save
        return name, lambda: self.local.write(name, snapshot.frames(meta, saved()))

    def _written(self, name: Name, pause_s: float, seconds: float) -> None:
        self.local.prune(name, self._abandoned_ms)
        size = self.local.path(name).stat().st_size
        self._taken_records = name.records
        self.metrics.snapshots["written"].inc()
        self.metrics.snapshot_bytes.set(size)
        self.metrics.snapshot_pause.observe(pause_s)
        self.metrics.snapshot_seconds.set(seconds)
        self.metrics.snapshot_time.set(name.taken_ms / 1000)
        log.info("snapshot of %d records, %.1f MB, in %.1f s, pause %.1f ms", name.records, size / 1e6, seconds, pause_s * 1e3)

    def _share(self, name: Name) -> None:
        """In a thread. Whoever comes first after an interval puts one, and whoever has forgotten somebody known there."""
        assert self.shared is not None
        try:
            there = [n for n in self.shared.names() if n.fit == self.fit]
            lately = any(name.taken_ms - n.taken_ms < self.settings.snapshot_interval_s * 1000 for n in there)
            if not lately or any(n.erasures < name.erasures for n in there):
                self.shared.put(name, self.local.path(name), self._abandoned_ms)
                self.metrics.snapshots["shared"].inc()
        except Exception as problem:  # of a file system of whatever kind
            self._failed(f"could not be put to {self.shared.url}", problem)

    @property
    def _abandoned_ms(self) -> int:
        """Snapshots of other folds that are older belong to nobody: whoever is at work renews them every interval."""
        return clock.now_ms() - int(ABANDONED * self.settings.snapshot_interval_s * 1000)

    def _failed(self, what: str, problem: Exception) -> None:
        self.metrics.snapshots["failed"].inc()
        log.warning("a snapshot %s, the older ones stand: %s", what, problem)


def directory(settings: Settings) -> Path:
    """Where a worker with these settings keeps its snapshots."""
    return Path(settings.state_dir) / "snapshots" / settings.topic("interactions")


def positions_of(meta: Meta) -> Positions:
    """The offsets at which a snapshot was made. Raises `Damaged`."""
    try:
        rows = msgspec.convert(meta.about["positions"], list[tuple[str, int, int]])
    except (KeyError, msgspec.ValidationError) as problem:
        raise Damaged("it does not say where in the log it was made") from problem
    return {(topic, partition): at for topic, partition, at in rows}


def _short(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=4).hexdigest()


def _unfit(directory: Path, reasons: list[str]) -> str:
    return _sentences(
        f"no snapshot in {directory} fits this worker:",
        reasons,
        "start it with the former settings, or on the former log;",
        "give it a snapshot that fits: a copy in that directory, or FRESHET_SNAPSHOT_SHARE;",
        "let it fold the log from its beginning: freshet worker --rebuild, or FRESHET_SNAPSHOT_MISFIT=rebuild.",
    )


def _incomplete(gaps: list[str]) -> str:
    return _sentences(
        "the log does not go back to its beginning, and there is no snapshot of what was before:",
        gaps,
        "give this worker a snapshot of another one: FRESHET_SNAPSHOT_SHARE;",
        "accept a state that lacks what is gone, unlike that of other workers: freshet worker --rebuild.",
    )


def _sentences(what: str, reasons: list[str], *choices: str) -> str:
    return "\n  ".join([what, *reasons]) + "\nChoose:\n  " + "\n  ".join(choices)
