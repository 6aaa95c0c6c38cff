"""Work in several processes gives what work in one gives."""

from __future__ import annotations

import os

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


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_ends_all(jobs: int) -> None:
    with pytest.raises(ValueError, match="no roots"):
        list(at_once(Squares(), [1, -1, 2, 3], jobs=jobs))
