"""Work in several processes gives what work in one gives."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.at_once import Told, at_once


class Squares:
    """Remembers how much it has done, in its own process."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, task: int, told: Told) -> tuple[int, int, int]:
        told(0.5)
        self.done += 1
        told(1.0)
        if task < 0:
            raise ValueError("no roots")
        return task * task, self.done, os.getpid()


def test_one_process_keeps_the_order_and_the_state() -> None:
    seen: list[float] = []
    found = list(at_once(Squares(), [3, 1, 2], progress=seen.append))
    assert [(place, result[0]) for place, result in found] == [(0, 9), (1, 1), (2, 4)]
    assert [result[1] for _, result in found] == [1, 2, 3]
    assert {result[2] for _, result in found} == {os.getpid()}
    assert seen == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_several_processes_give_the_same_and_keep_their_state() -> None:
    seen: list[float] = []
    found = dict(at_once(Squares(), list(range(6)), jobs=2, progress=seen.append))
    assert {place: result[0] for place, result in found.items()} == {k: k * k for k in range(6)}
    processes = {result[2] for result in found.values()}
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= 2
    assert max(result[1] for result in found.values()) >= 3  # six tasks, two processes: one of them did three
    assert seen[-1] == pytest.approx(6.0)


class Sleep:
    def __call__(self, task: float, told: Told) -> float:
        told(0.1)
        time.sleep(task)
        return task


def test_who_has_enough_need_not_wait_for_the_rest() -> None:
    before, began = set(multiprocessing.active_children()), time.monotonic()
    results = at_once(Sleep(), [0.0, 600.0, 600.0], jobs=2)
    assert next(results) == (0, 0.0)
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 120
    assert set(multiprocessing.active_children()) <= before


INTERRUPTED = """
import sys
from streams.at_once import at_once
from tests.streams.test_at_once import Sleep
for place, result in at_once(Sleep(), [0.0, 600.0, 600.0], jobs=2):
    print(place, flush=True)
"""


def test_an_interrupt_ends_everything() -> None:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all of them
    _, said = process.communicate(timeout=240)
    assert process.returncode != 0
    assert said.count("Traceback") <= 1  # its own KeyboardInterrupt, which a command turns into a word


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_ends_all(jobs: int) -> None:
    with pytest.raises(ValueError, match="no roots"):
        list(at_once(Squares(), [1, -1, 2, 3], jobs=jobs))
