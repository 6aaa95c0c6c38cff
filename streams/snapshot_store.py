"""Where snapshots lie: a directory of their own, two generations, and a shared place for newcomers.

A snapshot is written under a temporary name, flushed to the disk and renamed; whoever finds it finds it whole. Its name says what
has to be known before it is opened. Several workers may use one directory, since what they write is the same fold of the same
log: of those that fit each other the two that reach furthest are kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from streams import clock

log = logging.getLogger(__name__)

GENERATIONS: Final = 2
_NAME: Final = re.compile(r"^(\d{20})-e(\d{9})-(\d{13})-([0-9a-f]{8})-([0-9a-f]{8})\.snapshot$")
_UNFINISHED: Final = ".part"
_UNFINISHED_S: Final = 1800.0
_ASIDE: Final = ".damaged"


class Name(NamedTuple):
    """What a snapshot's name says; the order of the tuple is how far it reaches."""

    records: int
    """Of the log that are in it, over all partitions."""
    erasures: int
    """Requests to forget that are in it."""
    taken_ms: int
    fit: str
    """Settings and topics: equal for snapshots of the same fold."""
    token: str
    """Tells apart what two workers write at the same moment."""

    def __str__(self) -> str:
        return f"{self.records:020d}-e{self.erasures:09d}-{self.taken_ms:013d}-{self.fit}-{self.token}.snapshot"

    @classmethod
    def new(cls, records: int, erasures: int, taken_ms: int, fit: str) -> Name:
        return cls(records, erasures, taken_ms, fit, secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """None for any other file."""
        found = _NAME.match(text)
        return cls(int(found[1]), int(found[2]), int(found[3]), found[4], found[5]) if found else None


def _names(files: Iterable[str]) -> list[Name]:
    """The snapshots among the files, the furthest first."""
    return sorted((name for name in map(Name.parse, files) if name is not None), reverse=True)


def abandoned(names: list[Name], fit: str, before_ms: int) -> list[Name]:
    """Those of other folds that nobody has renewed since then: no worker with other settings is at work here."""
    return [name for name in names if name.fit != fit and name.taken_ms < before_ms]


def _superfluous(names: list[Name], latest: Name, before_ms: int) -> list[Name]:
    """What may go now that `latest` has been written."""
    alike = [name for name in names if name.fit == latest.fit]
    return alike[GENERATIONS:] + abandoned(names, latest.fit, before_ms)


class LocalStore:
    """Snapshots in a directory. OSErrors are the caller's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[Name]:
        """The furthest first; empty where there is no directory yet."""
        return _names(os.listdir(self.directory)) if self.directory.is_dir() else []

    def path(self, name: Name) -> Path:
        return self.directory / str(name)

    def write(self, name: Name, pieces: Iterator[bytes | memoryview]) -> None:
        """Atomic and durable: afterwards the snapshot is there, whatever happens to the machine, or nothing is."""
        unfinished = self.path(name).with_suffix(_UNFINISHED)
        try:
            with unfinished.open("xb", buffering=1 << 20) as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self.path(name))
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        self._flush_directory()

    def prepare(self) -> None:
        """Make the directory."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def set_aside(self, name: Name) -> Path:
        """Not to be looked at again, but there for whoever wants to know; gone after the next two snapshots."""
        aside = self.path(name).with_suffix(_ASIDE)
        self.path(name).rename(aside)
        return aside

    def prune(self, latest: Name, before_ms: int) -> None:
        """Keep the two furthest like `latest`. Drop older ones, what was set aside or left unfinished before both, and snapshots
        of other folds made before that time."""
        for name in _superfluous(self.names(), latest, before_ms):
            self._drop(self.path(name))
        kept = [name for name in self.names() if name.fit == latest.fit]
        if len(kept) < GENERATIONS:
            return
        oldest = min(self.path(name).stat().st_mtime for name in kept)
        for file in self.directory.iterdir():
            if file.suffix in (_UNFINISHED, _ASIDE) and file.stat().st_mtime < oldest:
                self._drop(file)

    def clear_unfinished(self) -> None:
        """Drop what dead processes have left half written; younger files may be another worker's at work."""
        for file in self.directory.glob(f"*{_UNFINISHED}"):
            with contextlib.suppress(FileNotFoundError):
                if clock.now_ms() / 1000 - file.stat().st_mtime > _UNFINISHED_S:
                    self._drop(file)

    @contextlib.contextmanager
    def open(self, name: Name) -> Iterator[tuple[FileIO, int]]:
        """The file and its size."""
        with self.path(name).open("rb", buffering=0) as file:
            yield file, os.fstat(file.fileno()).st_size

    def _drop(self, file: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()

    def _flush_directory(self) -> None:
        """So that the new name outlasts a power cut."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class SharedStore:
    """Snapshots at an fsspec URL (`s3://bucket/freshet`, `file:///mnt/share`; the protocol's package must be installed).

    Copies of local ones, for workers that have none of their own. Whatever the file system raises is the caller's.
    """

    def __init__(self, url: str) -> None:
        """ValueError, ImportError: the URL's protocol is unknown or its package is missing."""
        import fsspec  # here: importing it costs those nothing that share nothing

        self.url = url
        self._files, self._root = fsspec.core.url_to_fs(url)

    def names(self) -> list[Name]:
        """The furthest first."""
        self._files.invalidate_cache()
        if not self._files.exists(self._root):
            return []
        return _names(str(path).rsplit("/", 1)[-1] for path in self._files.ls(self._root, detail=False))

    def put(self, name: Name, local: Path, before_ms: int) -> None:
        """Copy a snapshot there, whole or not at all, and prune as `LocalStore.prune`."""
        self._files.makedirs(self._root, exist_ok=True)
        unfinished = self._path(f"{name}{_UNFINISHED}")
        self._files.put_file(str(local), unfinished)
        self._files.mv(unfinished, self._path(str(name)))
        for old in _superfluous(self.names(), name, before_ms):
            with contextlib.suppress(FileNotFoundError):  # another worker was faster
                self._files.rm_file(self._path(str(old)))

    def fetch(self, name: Name, into: LocalStore) -> None:
        """Copy a snapshot from there into a local store."""
        into.prepare()
        with self._files.open(self._path(str(name)), "rb") as file:
            into.write(name, iter(_reading(file), b""))

    def _path(self, file: str) -> str:
        return f"{self._root}/{file}"


def _reading(file: Any) -> Callable[[], bytes]:
    return lambda: bytes(file.read(1 << 22))
