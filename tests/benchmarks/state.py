"""What keeping a state costs: how long a snapshot holds up the stream, how large it is, how soon a worker is back from it or from
the log. The pause is wall time, since it is what the stream feels; everything else is CPU time of the process."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from models import Click, Recommender, snapshot
from models.snapshot import Meta, fingerprint
from streams.forked import Forked
from streams.snapshot_store import LocalStore, Name

Row = tuple[str, str, str]
PAUSES: Final = 5
_BEGIN_MS: Final = 1_700_000_000_000
_PATIENCE_S: Final = 900.0


def state(events: int, users: int, items: int) -> Iterator[Row]:
    """A model of that size, saved and restored; every user has at least one event."""
    rng = np.random.default_rng(1)
    who = np.concatenate((rng.permutation(users)[:events], rng.integers(0, users, max(0, events - users))))
    what = rng.zipf(1.2, size=events) % items
    model = Recommender()
    began = time.process_time()
    for k, (user, item) in enumerate(zip(who.tolist(), what.tolist(), strict=True)):
        click = Click(event_id=f"e{k}", user_id=f"user-{user}", item_id=f"item-{item}", timestamp_ms=_BEGIN_MS + 50 * k)
        model.learn(click, train=False)
    folding = time.process_time() - began
    size = f"{events:,} events, {len(model.history.users):,} users, {len(model.history.items):,} items"
    yield "back from the log", f"{folding:.1f} s CPU", f"{size}, {folding / events * 1e6:.0f} us an event, fusion not trained"
    yield "resident memory", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB", size
    with tempfile.TemporaryDirectory() as directory:
        yield from _saved(model, Path(directory), size)


def _saved(model: Recommender, directory: Path, size: str) -> Iterator[Row]:
    store = LocalStore(directory)
    meta = Meta(settings=fingerprint(model.config))
    pauses = []
    for k in range(PAUSES):
        name = Name.new(k, 0, k, "00000000")
        child = Forked(lambda name=name: store.write(name, snapshot.frames(meta, model.save())))  # type: ignore[misc]
        pauses.append(child.pause_s * 1000)
        asyncio.run(child.done(_PATIENCE_S))
        store.prune(name, 0)
    newest = store.names()[0]
    megabytes = store.path(newest).stat().st_size / 1e6
    yield "stream held up by a snapshot, median / longest", f"{np.median(pauses):.1f} / {max(pauses):.1f} ms", f"{PAUSES} of them"
    yield "size of a snapshot", f"{megabytes:,.0f} MB", size
    began = time.process_time()
    with store.open(newest) as (file, length):
        _, saved = snapshot.read(file.readinto, length)
    restored = Recommender()
    restored.restore(saved)
    yield "back from a snapshot", f"{time.process_time() - began:.1f} s CPU", f"{megabytes:,.0f} MB, checksum proven"
    began = time.process_time()
    digest = model.digest()
    yield "digest of the state", f"{time.process_time() - began:.1f} s CPU", size
    assert restored.digest() == digest, "what was restored is what was saved"
