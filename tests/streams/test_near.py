"""Questions to a Qdrant server that answers, hangs, is gone and comes back: at most a deadline each, and few of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from streams.breaker import Breaker
from streams.metrics import Metrics
from streams.near import Near
from streams.settings import Settings, SettingsError
from streams.vector_store import VectorStore
from tests.streams.answering import answering
from tests.streams.flow import free_port

DEADLINE_S = 0.2
TASTE = [np.ones(8, np.float32)]

pytestmark = pytest.mark.filterwarnings("ignore:.*(server version|insecure connection|incompatible).*")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_rests_after_so_many_in_a_row_and_tries_once() -> None:
    clock = Clock()
    breaker = Breaker(3, 5.0, clock)
    assert [breaker.failed(), breaker.failed()] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed(), breaker.rests] == [False, False, False], "in a row"
    assert breaker.failed()
    assert breaker.rests
    clock.now += 4.9
    assert breaker.rests
    clock.now += 0.2
    assert not breaker.rests
    assert breaker.failed(), "one trial"
    assert breaker.rests
    clock.now += 5.1
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed()] == [False, False], "all is as before"


def without_waiting(call: Coroutine[Any, Any, Any]) -> Any:
    """The answer of a call that waits for nothing at all."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    call.close()
    raise AssertionError("it waits")


def test_a_server_that_hangs_costs_a_few_deadlines_and_then_nothing() -> None:
    async def main() -> None:
        clock, metrics = Clock(), Metrics()
        settings = Settings.load({
            "FRESHET_QDRANT_DEADLINE_MS": str(DEADLINE_S * 1000), "FRESHET_QDRANT_FAILURES": "2", "FRESHET_QDRANT_PAUSE_S": "5",
        })  # fmt: skip
        async with answering(200, delay_s=1.0) as url:
            store = VectorStore(url=url)
            near = Near(settings, metrics, lambda: store, clock)
            began = time.monotonic()
            assert [await near(TASTE, 3) for _ in range(2)] == [None, None]
            assert time.monotonic() - began >= 2 * DEADLINE_S, "these two were asked"
            assert metrics.qdrant_resting._value.get() == 1
            assert [without_waiting(near(TASTE, 3)) for _ in range(1000)] == [None] * 1000, "not even for a turn of the loop"
            assert metrics.qdrant_failures._value.get() == 2
            clock.now += 5.1
            assert await near(TASTE, 3) is None
            assert metrics.qdrant_failures._value.get() == 3, "tried once"
            assert await near(TASTE, 3) is None
            assert metrics.qdrant_failures._value.get() == 3
            await store.close()

    asyncio.run(main())


def test_a_server_that_is_gone_is_asked_again_after_the_pause() -> None:
    async def main() -> None:
        clock, metrics = Clock(), Metrics()
        gone = VectorStore(url=f"http://127.0.0.1:{free_port()}")
        stores = [gone]
        patient = {"FRESHET_QDRANT_FAILURES": "1", "FRESHET_QDRANT_DEADLINE_MS": "10000"}  # what counts is the answer
        near = Near(Settings.load(patient), metrics, lambda: stores[0], clock)
        assert await near(TASTE, 3) is None
        assert metrics.qdrant_resting._value.get() == 1
        async with answering(200) as url:  # something answers there now, if not a list of points: that is no silence
            stores[0] = VectorStore(url=url)
            assert await near(TASTE, 3) is None
            assert metrics.qdrant_failures._value.get() == 1, "not asked yet"
            clock.now += 60
            await near(TASTE, 3)
            assert metrics.qdrant_failures._value.get() == 2
            await stores[0].close()
        await gone.close()

    asyncio.run(main())


def test_before_there_is_a_store_nobody_is_asked() -> None:
    near = Near(Settings.load({}), metrics := Metrics(), lambda: None)
    assert asyncio.run(near(TASTE, 3)) is None
    assert metrics.qdrant_failures._value.get() == 0


def test_its_settings_are_checked_at_the_start() -> None:
    for variable, wrong in (("FRESHET_QDRANT_FAILURES", "0"), ("FRESHET_QDRANT_PAUSE_S", "0"), ("FRESHET_QDRANT_PAUSE_S", "1e9")):
        with pytest.raises(SettingsError, match=variable):
            Settings.load({variable: wrong})
