"""Work in a forked child: it sees what was, tells what went wrong, and cannot hold anybody up."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from streams.forked import SUPPORTED, ChildFailed, Forked

# only on Linux, see forked.SUPPORTED; elsewhere a worker writes snapshots itself, see snapshots.py
pytestmark = pytest.mark.skipif(not SUPPORTED, reason="there is no safe fork on this system")


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


def test_the_child_sees_memory_as_it_was(tmp_path: Path) -> None:
    state = [1, 2, 3]

    async def body() -> None:
        child = Forked(lambda: (time.sleep(0.2), (tmp_path / "saw").write_text(repr(state)))[1] and None)
        state.clear()
        await child.done(120)

    run(body())
    assert (tmp_path / "saw").read_text() == "[1, 2, 3]"


def test_what_goes_wrong_is_told() -> None:
    def work() -> None:
        raise OSError(28, "No space left on device")

    async def body() -> None:
        with pytest.raises(ChildFailed, match="No space left"):
            await Forked(work).done(120)

    run(body())


def test_a_killed_child_is_a_failure() -> None:
    async def body() -> None:
        with pytest.raises(ChildFailed, match="-9"):
            await Forked(lambda: os.kill(os.getpid(), 9)).done(120)

    run(body())


def test_a_child_that_hangs_is_ended() -> None:
    async def body() -> None:
        child = Forked(lambda: time.sleep(60))
        with pytest.raises(ChildFailed, match="not done"):
            await child.done(0.2)
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)

    run(body())


def test_a_child_that_waits_for_a_lock_of_another_thread_hangs_alone() -> None:
    """The danger of forking with threads, made on purpose: the parent goes on, the child is ended."""
    lock, held, over = threading.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    async def body() -> None:
        with pytest.raises(ChildFailed, match="not done"):
            await Forked(lambda: lock.__enter__() and None).done(0.3)
        await asyncio.sleep(0)

    try:
        run(body())
    finally:
        over.set()
        holder.join()


def test_whoever_is_cancelled_leaves_no_child_behind() -> None:
    async def body() -> None:
        child = Forked(lambda: time.sleep(60))
        waiting = asyncio.create_task(child.done(60))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)

    run(body())


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def test_the_event_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    """The child ends when it is told to: whoever began it is not held up, neither by the fork nor by waiting."""
    enough = tmp_path / "enough"

    async def body() -> None:
        began = time.perf_counter()
        child = Forked(lambda: wait_for(enough))
        assert 0 < child.pause_s <= time.perf_counter() - began
        done = asyncio.create_task(child.done(120))
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert not done.done()
        enough.touch()
        await done

    run(body())


def test_ports_and_locks_are_not_kept_by_the_child(tmp_path: Path) -> None:
    """Else a worker that is killed and started again would find its port taken by the child of its former self."""
    server = socket.create_server(("127.0.0.1", 0))
    port, begun = server.getsockname()[1], tmp_path / "begun"

    async def body() -> None:
        child = Forked(lambda: (begun.touch(), time.sleep(60))[1])
        while not begun.exists():  # noqa: ASYNC110  another process says so; it has closed what it inherited before
            await asyncio.sleep(0.01)
        server.close()
        socket.create_server(("127.0.0.1", port), reuse_port=False).close()
        child.kill()

    run(body())
