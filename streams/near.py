"""Near: which items lie near a taste, asked of a Qdrant server. A list never waits longer than the deadline, and seldom that
long: a server that is slow or gone is left alone after a few questions, and the replicated vectors are scanned instead."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.breaker import Breaker
from streams.metrics import Metrics
from streams.settings import Settings
from streams.vector_store import VectorStore, VectorStoreError

log = logging.getLogger(__name__)

Hits = Sequence[tuple[str, float]]


class Near:
    """Called with taste vectors, (dim,) each, and how many items of each are wanted. None: scan instead."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        store: Callable[[], VectorStore | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics, self._store = metrics, store
        self._deadline_s = settings.qdrant_deadline_ms / 1000
        self._breaker = Breaker(settings.qdrant_failures, settings.qdrant_pause_s, clock)

    async def __call__(self, tastes: list[NDArray[np.float32]], limit: int) -> list[Hits] | None:
        store, resting = self._store(), self._breaker.rests
        self.metrics.qdrant_resting.set(float(resting))
        if store is None or resting:
            return None
        started = time.perf_counter()
        try:
            answers = await store.near(tastes, limit, self._deadline_s)
        except VectorStoreError as problem:  # away, late, or not ours to read: lists never depend on it
            self.metrics.qdrant_failures.inc()
            rests = self._breaker.failed()
            self.metrics.qdrant_resting.set(float(rests))
            then = f"and is not asked for {self._breaker.pause_s:g} s" if rests else "the replicated vectors do"
            log.warning("Qdrant does not answer, %s: %s", then, problem)
            return None
        self._breaker.succeeded()
        self.metrics.qdrant_seconds["near"].observe(time.perf_counter() - started)
        return answers
