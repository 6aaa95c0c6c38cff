"""Vectors of texts for evaluation, kept on disk between runs: embedding costs hundreds of times more than everything else.

The cache is one SQLite file under $XDG_CACHE_HOME/freshet (or ~/.cache/freshet), a row per text and encoder: the sha1 of the text
and the vector as float16. It is only ever an aid: where it cannot be opened, texts are embedded again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from models.evaluation.text_means import TextMeans
from models.events import Event, Item, ItemVector, Review, ReviewVector
from streams.text_encoder import TextEncoder

log = logging.getLogger(__name__)

Vector = npt.NDArray[np.float32]
BATCH: Final = 32
MAX_CHARS: Final = 2_000  # the encoder reads 256 word pieces; what follows costs time only
SNIPPET_CHARS: Final = 120


def said(event: Event | Item) -> str:
    """What an event says about its item: review or description with its title; empty where nothing is said."""
    if isinstance(event, Review):
        return _joined(event.title, event.text)
    if isinstance(event, Item):
        return _joined(event.title, event.description)
    return ""


def _joined(title: str, text: str) -> str:
    return ". ".join(part for part in (title.strip(), text.strip()) if part)[:MAX_CHARS]


def cache_file(environment: Mapping[str, str]) -> Path:
    """Where vectors are kept between runs."""
    base = environment.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "freshet" / "text-vectors.sqlite"


class TextVectors:
    """Texts to (dim,) unit vectors through the cache; the encoder is loaded for the first text that is not in it."""

    def __init__(self, encoder: TextEncoder, cache: Path | None = None) -> None:
        self._encoder = encoder
        self._cache = _open(cache)
        self._ready: dict[bytes, bytes] = {}  # float16 rows of `prefetch`: 2 bytes * dim for each text given to it
        self._loaded = False

    @property
    def fingerprint(self) -> str:
        self._load()
        return self._encoder.fingerprint

    def of(self, text: str) -> Vector:
        """The (dim,) unit vector of a text."""
        key = self._key(text)
        row = self._ready.get(key) or self._stored(key)
        if row is None:
            (row,) = self._embed([text])
            self._store([(key, row)])
        return _unpacked(row)

    def prefetch(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> None:
        """Have the vectors of these texts ready, embedding what is missing in batches. `progress` is told how many are done."""
        for start in range(0, len(texts), BATCH):
            batch = {self._key(text): text for text in texts[start : start + BATCH]}
            found = {key: row for key in batch if (row := self._ready.get(key) or self._stored(key)) is not None}
            missing = [key for key in batch if key not in found]
            if missing:
                fresh = dict(zip(missing, self._embed([batch[key] for key in missing]), strict=True))
                self._store(list(fresh.items()))
                found |= fresh
            self._ready |= found
            if progress is not None:
                progress(min(start + BATCH, len(texts)))

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()

    def _load(self) -> None:
        if not self._loaded:
            self._encoder.load()
            self._loaded = True

    def _embed(self, texts: list[str]) -> list[bytes]:
        """float16 rows; read back through float16 even when fresh, so that a second run sees the same vectors."""
        return [np.asarray(vector, np.float16).tobytes() for vector in self._encoder.encode(texts)]

    def _key(self, text: str) -> bytes:
        content = f"{self.fingerprint}\0{text}".encode("utf-8", "replace")
        return hashlib.sha1(content, usedforsecurity=False).digest()

    def _stored(self, key: bytes) -> bytes | None:
        if self._cache is None:
            return None
        found = self._cache.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        return found[0] if found is not None and len(found[0]) == 2 * self._encoder.dim else None

    def _store(self, rows: list[tuple[bytes, bytes]]) -> None:
        if self._cache is None:
            return
        try:
            with self._cache:
                self._cache.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.Error as problem:
            log.warning("the cache of text vectors does not take more: %s", problem)
            self._cache = None


def _unpacked(row: bytes) -> Vector:
    vector = np.frombuffer(row, np.float16).astype(np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _open(path: Path | None) -> sqlite3.Connection | None:
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=10)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
        return connection
    except (OSError, sqlite3.Error) as problem:
        log.warning("no cache of text vectors at %s: %s", path, problem)
        return None


class TextFeed:
    """Events to the item vectors their texts change, as the embedder of the pipeline would publish them."""

    def __init__(self, vectors: TextVectors) -> None:
        self._vectors = vectors
        self._means: TextMeans | None = None

    def direction(self, event: Event | Item) -> Vector | None:
        """The (dim,) unit vector of what an event says; None where it says nothing."""
        text = said(event)
        return self._vectors.of(text) if text else None

    def vector(self, event: Event | Item) -> ItemVector | None:
        """The item's new vector; None where the event says nothing about its item."""
        text = said(event)
        if not text:
            return None
        if self._means is None:
            self._means = TextMeans(self._vectors.fingerprint)
        snippet = " ".join(text.split())[:SNIPPET_CHARS]
        return self._means.add(event.item_id, self._vectors.of(text), snippet)

    def vectors(self, event: Event | Item) -> list[ItemVector | ReviewVector]:
        """All that an event's words change: the item's vector, and what the user is known to have said."""
        vector = self.vector(event)
        found: list[ItemVector | ReviewVector] = [vector] if vector is not None else []
        if isinstance(event, Review) and (words := self.direction(event)) is not None:
            found.append(ReviewVector(
                event_id=event.event_id, user_id=event.user_id, vector=words.astype("<f4").tobytes(),
                model=self._vectors.fingerprint, timestamp_ms=event.timestamp_ms,
            ))  # fmt: skip
        return found


def environment_cache() -> Path:
    """The cache file of this user."""
    return cache_file(os.environ)
