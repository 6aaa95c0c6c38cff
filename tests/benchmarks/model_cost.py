"""What the pure model costs, one core, no IO: learning, lists, a start, and all of that at the size the model is made for.

Times are CPU time of the process: on a busy machine others' turns do not count, but caches are shared all the same, so that the
figures want a quiet one. The large model has a process of its own, so that the memory it says is its own.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from models import Click, Item, ItemVector, Recommender, ReviewVector
from models.warm import warm_up
from streams.memory import give_back_large

Row = tuple[str, str, str]
LENGTH: Final = 20
LISTS: Final = 2_000
TRAINED: Final = 1_000
DIM: Final = 384
_BEGIN_MS: Final = 1_700_000_000_000
_STEP_MS: Final = 100
_CHUNK: Final = 100_000


def stream(n: int, users: int, items: int, seed: int = 1) -> list[Click]:
    """Clicks with a popularity skew and a taste per user (each user keeps to a third of the catalogue)."""
    rng = random.Random(seed)
    weights = [1 / (k + 5) for k in range(items)]
    picks = rng.choices(range(items), weights, k=n)
    out = []
    for k, pick in enumerate(picks):
        user = rng.randrange(users)
        item = (pick // 3) * 3 + user % 3
        out.append(_click(k, user, item))
    return out


def _click(number: int, user: int, item: int) -> Click:
    return Click(event_id=f"e{number}", user_id=f"u{user}", item_id=f"i{item}", timestamp_ms=_BEGIN_MS + number * _STEP_MS)


def _long_stream(n: int, users: int, items: int, seed: int = 1) -> Iterator[Click]:
    """As `stream`, one at a time: a list of all clicks would be larger than the model."""
    rng = np.random.default_rng(seed)
    shares = np.cumsum(1.0 / (np.arange(items) + 5.0))
    for begin in range(0, n, _CHUNK):
        count = min(_CHUNK, n - begin)
        owners = rng.integers(0, users, count)
        picks = np.searchsorted(shares, rng.random(count) * shares[-1])
        taken = np.minimum(picks // 3 * 3 + owners % 3, items - 1)
        for k, (user, item) in enumerate(zip(owners.tolist(), taken.tolist(), strict=True)):
            yield _click(begin + k, user, item)


def _timed_lists(model: Recommender, users: list[str]) -> tuple[float, float]:
    """p50 and p99 of the time a list takes, us."""
    spent = []
    for user in users:
        begin_ns = time.process_time_ns()
        model.recommend(user, LENGTH)
        spent.append((time.process_time_ns() - begin_ns) / 1000)
    p50, p99 = np.percentile(spent, [50, 99])
    return float(p50), float(p99)


def library(events: int) -> Iterator[Row]:
    """A small shop: 2,000 items, 25 clicks a user."""
    model = Recommender()
    clicks = stream(events + TRAINED, users=max(1, events // 25), items=2000)
    for click in clicks[:2000]:
        model.learn(click)
        model.recommend(click.user_id, LENGTH)  # compiles
    for train, some, what in (
        (False, clicks[2000:events], "learn one event, all sources"),
        (True, clicks[events:], "the same with training of the fusion"),
    ):
        begin = time.process_time()
        for click in some:
            model.learn(click, train=train)
        yield what, f"{(time.process_time() - begin) / len(some) * 1e6:.0f} us", f"{len(some):,} clicks, mean"
    chosen = random.Random(2).sample(range(events), min(LISTS, events))
    users = [clicks[k].user_id for k in chosen]
    p50, p99 = _timed_lists(model, users)
    yield f"a list of {LENGTH} with reasons, p50 / p99", f"{p50:.0f} / {p99:.0f} us", f"{len(chosen):,} lists, 2,000 items"
    _describe(model, 2000, users)
    _timed_lists(model, users[:100])
    p50, p99 = _timed_lists(model, users)
    yield "the same, catalogue and texts known", f"{p50:.0f} / {p99:.0f} us", f"{DIM} numbers an item, and a review each"


def _describe(model: Recommender, items: int, users: list[str]) -> None:
    """What a catalogue and an encoder say: three categories an item, item vectors of 40 subjects, and a review of each user."""
    rng = np.random.default_rng(3)
    subjects = rng.normal(size=(40, DIM)) + 0.5

    def said(subject: int) -> bytes:
        return (subjects[subject % 40] + rng.normal(size=DIM)).astype("<f4").tobytes()

    for k in range(items):
        model.learn(Item(item_id=f"i{k}", categories=[f"a{k % 7}", f"b{k % 40}", f"c{k % 300}"]))
        model.learn(ItemVector(item_id=f"i{k}", vector=said(k), texts=1, model="bench", snippet="as good as it says"))
    for k, user in enumerate(users):
        model.learn(ReviewVector(event_id=f"r{k}", user_id=user, vector=said(k), model="bench", timestamp_ms=_BEGIN_MS))


def start() -> Iterator[Row]:
    """From nothing to a model that has taken its first events and made its first lists, compiled code on disk."""
    warm_up()
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "from models.warm import warm_up; warm_up()"], check=True)
    yield "start with a warm cache", f"{time.perf_counter() - begin:.1f} s", "a new process, imports and first lists"


def scale(events: int, users: int, items: int) -> Iterator[Row]:
    """A large shop, in a process of its own."""
    warm_up()  # compiling takes memory that a process which finds the code on disk does not need
    sizes = ["--events", str(events), "--users", str(users), "--items", str(items)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.model_cost", *sizes], stdout=subprocess.PIPE, text=True, check=True
    )  # fmt: skip
    for row in json.loads(done.stdout):
        yield tuple(row)


def _large(events: int, users: int, items: int) -> Iterator[Row]:
    measured_on = f"{users:,} users, {items:,} items, {events:,} clicks"
    give_back_large()  # as a worker does
    model, last = Recommender(), min(_CHUNK, events // 2)
    bare = _resident_mb()
    begin = newest = time.process_time()
    for number, click in enumerate(_long_stream(events, users, items)):
        if number == events - last:
            newest = time.process_time()
        model.learn(click, train=number % 1000 == 0)  # the fusion has weights of its own, and costs nothing that counts
    end = time.process_time()
    yield "learn one event at scale", f"{(end - begin) / events * 1e6:.0f} us", f"{measured_on}, mean"
    yield "the same, at its full size", f"{(end - newest) / last * 1e6:.0f} us", f"the last {last:,}, mean"
    rng = np.random.default_rng(2)
    asked = [f"u{user}" for user in rng.integers(0, users, LISTS + 200).tolist()]
    _timed_lists(model, asked[:200])
    p50, p99 = _timed_lists(model, asked[200:])
    yield f"a list of {LENGTH} at scale, p50 / p99", f"{p50:.0f} / {p99:.0f} us", f"{LISTS:,} lists, {measured_on}"
    memory = _resident_mb()
    yield "resident memory at scale", f"{memory:,.0f} MB", f"{bare:,.0f} MB of it before the first event"
    for name, (used, bound) in model.sizes().items():
        if used:
            yield f"  {name}", f"{used:,}", f"bound {bound:,}"


def _resident_mb() -> float:
    """Of this process, from `/proc`."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="the large model, rows as JSON")
    for option in ("--events", "--users", "--items"):
        parser.add_argument(option, type=int, required=True)
    chosen = parser.parse_args()
    sys.stdout.write(json.dumps(list(_large(chosen.events, chosen.users, chosen.items))))
