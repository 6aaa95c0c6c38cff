"""The demo as a whole, in processes of its own: how it ends, and what it has come to."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.public_data import DATA, needs_data
from tests.streams.test_demo import (
    PATIENCE_S,
    ROOT,
    alive,
    until,
)

pytestmark = pytest.mark.timeout(900)


class Process:
    """`freshet demo` with the small encoder, its output, and a look at its children."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.out = folder / "state", folder / "out.txt"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")} | {
            "FRESHET_EMBEDDING_MODEL": "hashing"
        }
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "demo", "--state-dir", str(self.folder), *arguments],
                env=environment, cwd=ROOT, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def text(self) -> str:
        return self.out.read_text(errors="replace")

    def figure(self, what: str) -> str:
        """The value of a row of the summary."""
        found = re.search(rf"^\s*{re.escape(what)}\s{{2,}}(.+?)\s*$", self.text(), re.M)
        assert found, f"{what!r} is not in\n{self.text()}"
        return found[1]

    def await_flow(self) -> None:
        """Lists are coming out."""
        until(lambda: self.process.poll() is not None or re.search(r"[1-9]\d* lists/s", self.text()), "the flow runs")
        assert self.process.poll() is None, self.text()

    def child(self, name: str) -> int:
        """The pid of a child by its command."""
        for stat in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # processes of others end while we look
                words = stat.read_bytes().split(b"\0")
                if name.encode() in words and b"streams.cli" in words and _parent(int(stat.parent.name)) == self.process.pid:
                    return int(stat.parent.name)
        raise AssertionError(f"no {name}")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*arguments: str) -> Process:
        started.append(Process(tmp_path, *arguments))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_a_short_run_of_the_shop_ends_well_and_says_what_it_came_to(start: Callable[..., Process]) -> None:
    run = start("--for", "8", "--rate", "100")
    assert run.process.wait(PATIENCE_S) == 0, run.text()
    assert int(run.figure("events in: clicks").replace(",", "")) > 0
    assert int(run.figure("lists out").replace(",", "")) > 0
    assert run.figure("dead letters") == "0"
    assert int(run.figure("vectors in Qdrant: reviews").replace(",", "")) == int(
        run.figure("events in: reviews").replace(",", "")
    )
    assert int(run.figure("vectors in Qdrant: items").replace(",", "")) >= 480


def test_ctrl_c_stops_everything_in_order(start: Callable[..., Process]) -> None:
    run = start()
    run.await_flow()
    children = [run.child("worker"), run.child("simulate")]
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    assert run.process.wait(PATIENCE_S) == 0, run.text()
    assert not any(alive(pid) for pid in children)
    assert "all delivered" in (run.folder / "logs" / "shop.log").read_text()
    assert "shut down completed" in (run.folder / "kafka" / "broker.log").read_text()
    assert "lists out" in run.text()


def test_a_worker_that_dies_ends_the_demo_with_its_last_words(start: Callable[..., Process]) -> None:
    run = start()
    run.await_flow()
    os.kill(run.child("worker"), signal.SIGKILL)
    assert run.process.wait(PATIENCE_S) == 1, run.text()
    assert "the worker ended with exit code -9" in run.text()
    assert str(run.folder / "logs") in run.text()


MUSIC = DATA / "amazon-musical-instruments" / "reviews.jsonl.gz"


@needs_data
def test_real_events_come_out_as_the_file_says(start: Callable[..., Process], tmp_path: Path) -> None:
    """A part of the file: every review a point, every reviewer a list."""
    part = tmp_path / "part.jsonl"
    with gzip.open(MUSIC, "rt", encoding="utf-8") as rows:
        part.write_text("".join(itertools.islice(rows, 300)), encoding="utf-8")
    users = {json.loads(row)["reviewerID"] for row in part.read_text(encoding="utf-8").splitlines()}
    run = start("--events", str(part))
    assert run.process.wait(PATIENCE_S) == 0, run.text()
    assert run.figure("events in: reviews") == "300"
    assert run.figure("vectors in Qdrant: reviews") == "300"
    assert run.figure("dead letters") == "0"
    assert run.figure("users with a list / in the file") == f"{len(users)} / {len(users)}"
