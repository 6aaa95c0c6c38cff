"""Independent work in several processes, with its progress: one task after the other here, or many at once."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from ctypes import c_int64
from typing import Any, Final, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
Told = Callable[[float], None]
"""Told which part, 0..1, of a task is done."""

TICK_S: Final = 0.2
_WHOLE: Final = 1_000_000


def at_once(
    work: Callable[[Task, Told], Result],
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    progress: Told = lambda done: None,
) -> Iterator[tuple[int, Result]]:
    """The place of each task and its result, as they are done, in `jobs` processes (1: in this one, in order).

    `work`, tasks and results travel between processes; each process gets `work` once and may keep what it needs in it. `progress`
    is told how many tasks' worth of work is done. A failure of one task ends all.
    """
    if jobs > 1 and len(tasks) > 1:
        yield from _in_processes(work, tasks, min(jobs, len(tasks)), progress)
        return
    for place, task in enumerate(tasks):

        def told(part: float, place: int = place) -> None:
            progress(place + part)

        yield place, work(task, told)


def _in_processes(
    work: Callable[[Task, Told], Result], tasks: Sequence[Task], jobs: int, progress: Told
) -> Iterator[tuple[int, Result]]:
    """Processes are spawned, not forked: threads of the encoder or of numba would not survive a fork."""
    context = multiprocessing.get_context("spawn")
    parts: Any = context.Array(c_int64, len(tasks), lock=False)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(work, parts)) as pool:
        waiting = {pool.submit(_do, place, task): place for place, task in enumerate(tasks)}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=TICK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
                progress(sum(parts) / _WHOLE)
        except BaseException:  # a failure, Ctrl-C, or nobody wants the rest: what is under way may take long
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            pool.shutdown(cancel_futures=True)  # the pool's own thread waits for its processes: two who wait disturb each other
            raise


_here: dict[str, Any] = {}
"""In a process of the pool: what it works with."""


def _start(work: Any, parts: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is answered by the process that began all this
    _here["work"], _here["parts"] = work, parts


def _do(place: int, task: Any) -> Any:
    def told(part: float) -> None:
        _here["parts"][place] = int(part * _WHOLE)

    return _here["work"](task, told)
