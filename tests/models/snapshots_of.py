"""Models as snapshots and back, and what they have learned before."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np

from models import Config, Recommender, snapshot
from models.events import Item, ItemVector
from models.kept import Kept, Saved
from tests.models.streams_of import shop

SMALL = {
    "max_users": 64, "max_items": 64, "max_events": 4096, "window_events": 8, "max_pairs": 4096, "max_neighbours": 16,
    "item_users": 16, "item_raters": 16, "board_items": 16, "category_items": 16, "max_categories": 16, "max_vectors": 16,
    "max_erasures": 16, "max_factor_rows": 16, "embedding_items": 16, "embedding_scan": 16, "max_sequence_pairs": 4096,
    "embedding_dim": 4,
}  # fmt: skip
"""So little room that whatever leaves first leaves."""


def written(model: Kept, config: Config | None = None, **about: Any) -> bytes:
    meta = snapshot.Meta(settings=snapshot.fingerprint(config or Config()), about=about)
    return b"".join(snapshot.frames(meta, model.save()))


def read(raw: bytes) -> tuple[snapshot.Meta, Saved]:
    return snapshot.read(io.BytesIO(raw).readinto, len(raw))


def restored(model: Recommender) -> Recommender:
    """What comes back from the bytes of a model."""
    other = Recommender(model.config)
    other.restore(read(written(model, model.config))[1])
    return other


def background(seed: int, items: int) -> list[Item | ItemVector]:
    """A catalogue and vectors."""
    rng = np.random.default_rng(seed)
    found: list[Item | ItemVector] = []
    for k in range(items):
        categories = [f"c{c}" for c in rng.integers(0, 5, 2)]
        found.append(Item(item_id=f"i{k}", title=f"Item {k}", categories=categories, available=bool(rng.integers(0, 5))))
        vector = rng.standard_normal(6).astype("<f4").tobytes()
        found.append(ItemVector(item_id=f"i{k}", vector=vector, texts=1, model="m", snippet=f"said of {k}"))
    return found


@functools.cache
def some() -> bytes:
    """A snapshot with something in every part."""
    model = Recommender(Config(**SMALL))
    for event in [*background(2, 9), *shop(2, users=9, items=9, events=60)]:
        model.learn(event)
    return written(model)
