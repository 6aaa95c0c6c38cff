"""What a group of workers can do on a real Kafka: lists/s of one and of two, events/s with fresh lists, and how soon one is back.

Two workers, Kafka and whoever publishes share this machine's cores. So the ratio is given by CPU time as well: what the busier of
two workers needs for the lists that one needs all of its time for, as if each had a core of its own.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition

from models.events import POPULAR, ServedList, encode
from streams import clock
from streams.snapshots import directory as snapshots_of
from tests.benchmarks.fresh import Sent, begin, publish, reading, where, within
from tests.benchmarks.model_cost import Row, stream
from tests.chaos.storm import LISTS, Process
from tests.streams.flow import Flow, flow, until

FRESH_S: Final = 0.25
PATIENCE_S: Final = 180.0


class Run(NamedTuple):
    lists: float
    wall_s: float
    cpu_s: tuple[float, ...]
    """Of each worker."""


def scaled(bootstrap: str, directory: Path, events: int) -> Iterator[Row]:
    """The same clicks, from ten thousand people so that little is coalesced, to one worker and to two."""
    one, two = (_run(bootstrap, directory / f"of-{n}", events, n) for n in (1, 2))
    ratio = (two.lists / max(two.cpu_s)) / (one.lists / sum(one.cpu_s))
    for run, what in ((one, "one worker"), (two, "two workers")):
        cpu_us = sum(run.cpu_s) / run.lists * 1e6
        yield (
            f"{what}: lists/s, CPU of a list",
            f"{run.lists / run.wall_s:.0f} /s, {cpu_us:.0f} us",
            f"{run.lists:,.0f} lists of {events:,} clicks in {run.wall_s:.1f} s with all that goes with them; CPU of each "
            + ", ".join(f"{cpu_s:.1f} s" for cpu_s in run.cpu_s),
        )
    yield "lists/s of two workers, one is 1", f"{ratio:.2f}", "by CPU time of the busier one: each on a core of its own"
    wall = (two.lists / two.wall_s) / (one.lists / one.wall_s)
    yield "the same by the clock", f"{wall:.2f}", f"{os.cpu_count()} cores, shared with Kafka, the publisher and whoever else"


def _run(bootstrap: str, directory: Path, events: int, workers: int) -> Run:
    directory.mkdir()
    with flow(bootstrap, directory, f"scaled{workers}.", snapshots="false", partitions="8") as river:
        group = [Process(f"w{n}", LISTS, river) for n in range(workers)]
        try:
            for one in group:
                one.start()
            until(lambda: all(_has_its_share(one, workers) for one in group), "all are at work", PATIENCE_S)
            begun, cpu = time.monotonic(), [one.metric("process_cpu_seconds_total") for one in group]
            river.send_all([("clicks", click) for click in stream(events, users=10_000, items=2000)])
            while sum(one.metric("freshet_freshness_seconds_count") for one in group) < events:
                time.sleep(0.5)  # seldom, for a look costs the worker some milliseconds
                assert time.monotonic() - begun < PATIENCE_S, "lists stopped coming"
            wall_s = time.monotonic() - begun
            spent = tuple(one.metric("process_cpu_seconds_total") - was for one, was in zip(group, cpu, strict=True))
            made = sum(_lists(one) for one in group)
            return Run(made, wall_s, spent)
        finally:
            for one in group:
                one.kill()


def _has_its_share(one: Process, workers: int) -> bool:
    topic, partitions = one.river.settings.topic("interactions"), one.river.settings.partitions
    return one.metric("freshet_ready") == 1.0 and one.metric("freshet_owned_partitions", topic=topic) == partitions / workers


def _lists(one: Process) -> float:
    return one.metric("freshet_lists_total", audience="user") + _unchanged(one)


def _unchanged(one: Process) -> float:
    return one.metric("freshet_lists_unchanged_total")


def sustained(bootstrap: str, directory: Path, rates: Sequence[int], seconds: int) -> Iterator[Row]:
    """The highest rate of a short ladder at which 99 % of lists are out within 250 ms; all roles in one process."""
    best, tried = 0, []
    with flow(bootstrap, directory, "sustained.") as river:
        worker = river.start()
        _visitors(river, rates[0], 5)  # the first events of a process find nothing in its caches
        for rate in rates:
            before = reading(river.metrics_port)
            _visitors(river, rate, seconds)
            share, count = within(FRESH_S, reading(river.metrics_port), before)
            tried.append(f"{rate}: {share:.1%} of {count:,.0f} events")
            if share < 0.99:
                break
            best = rate
        river.stop(worker)
    yield f"events/s with 99 % of lists within {FRESH_S * 1000:.0f} ms", f"{best}", f"{seconds} s each; " + ", ".join(tried)


def rush(bootstrap: str, directory: Path, rate: int, active: int, seconds: int, cores: Collection[int] = ()) -> Iterator[Row]:
    """Clicks at a rate of which few would get a list of their own: how far apart the lists of one of those people are, who all
    click all the time, and how many events have theirs a second later. Whoever takes in the events has a process of its own, as
    in a shop of that size."""
    clicks = stream(2_000 + rate * seconds, users=active, items=2000)
    known, clicks = clicks[:2_000], clicks[2_000:]
    with flow(bootstrap, directory, "rush.", snapshots="false") as river:
        door, worker = Process("door", "ingest", river), Process("worker", "recommend,attribute", river)
        try:
            begin((door, worker), cores)
            until(lambda: all(one.metric("freshet_ready") == 1.0 for one in (door, worker)), "both are at work", PATIENCE_S)
            river.send_all([("clicks", click) for click in known])  # the first events of a process find nothing in its caches
            until(lambda: _listed(worker) == len(known), "all lists are out", PATIENCE_S)
            quick, made, same, cpu = (
                _listed(worker, "1.0"),
                _lists(worker),
                _unchanged(worker),
                [one.metric("process_cpu_seconds_total") for one in (door, worker)],
            )
            begun_ms = float(clock.now_ms())
            publish(river, [Sent("clicks", c.user_id.encode(), encode(c), due) for due, c in enumerate(clicks)], rate)
            sent = time.monotonic()
            until(lambda: _listed(worker) == len(known) + len(clicks), "all lists are out", PATIENCE_S)
            spent = [one.metric("process_cpu_seconds_total") - was for one, was in zip((door, worker), cpu, strict=True)]
            behind_s = time.monotonic() - sent
            in_time = (_listed(worker, "1.0") - quick) / len(clicks)
            lists, same = _lists(worker) - made, _unchanged(worker) - same
            gaps_s, waits_s = _gaps_and_waits_s(river, begun_ms, begun_ms + 1000 * seconds)
        finally:
            for one in (door, worker):
                one.kill()
    people = f"{rate:,} events/s of {active:,} people"
    yield (
        f"{people}: from a list of somebody to the next, p50 / p99",
        f"{np.quantile(gaps_s, 0.5):.2f} / {np.quantile(gaps_s, 0.99):.2f} s",
        f"{len(clicks):,} clicks in {seconds} s, {lists / seconds:.0f} lists/s ({same / lists:.1%} as before and not sent), the "
        f"last {behind_s:.1f} s after the last click; "
        f"CPU {spent[1] / seconds:.0%} of a core, {spent[0] / seconds:.0%} for ingest; {where(cores)}",
    )
    yield (
        f"{people}: who had something new waited for a list, p50 / p99",
        f"{np.quantile(waits_s, 0.5):.2f} / {np.quantile(waits_s, 0.99):.2f} s",
        f"since it, or since their last list if that came later; {np.mean(np.array(waits_s) <= 1.0):.1%} not above a second",
    )
    yield f"{people}: events with their list within a second", f"{in_time:.1%}", "the same"


def _gaps_and_waits_s(river: Flow, begin_ms: float, end_ms: float) -> tuple[list[float], list[float]]:
    """Seconds, by the broker's clock, from each list of a person to their next one, and from the begin to their first; and how
    much of that they had done something which no list was for yet."""
    done: dict[bytes, tuple[list[int], list[int]]] = {}
    for line in _records(river, "interactions"):
        offsets, times = done.setdefault(line.key, ([], []))
        offsets.append(line.offset)
        times.append(line.timestamp)
    last: dict[bytes, tuple[float, int]] = {}
    gaps: list[float] = []
    waits: list[float] = []
    for record in _records(river, "recommendations"):
        if record.value is None or not begin_ms <= record.timestamp < end_ms or record.key == POPULAR.encode():
            continue
        offsets, times = done[record.key]
        served_ms, cause = last.get(record.key, (begin_ms, bisect.bisect_left(times, begin_ms) - 1))
        gaps.append((record.timestamp - served_ms) / 1000)
        waits.append((record.timestamp - max(served_ms, times[cause + 1])) / 1000)
        log_offset = msgspec.json.decode(record.value, type=ServedList).log_offset
        last[record.key] = float(record.timestamp), bisect.bisect_left(offsets, log_offset)
    return gaps, waits


def _records(river: Flow, topic: str) -> Iterator[Any]:
    """All of a topic, in the order of each partition."""
    with contextlib.closing(KafkaConsumer(**river.settings.connection.kafka_python(), group_id=None)) as kafka:
        places = [TopicPartition(river.settings.topic(topic), partition) for partition in range(river.settings.partitions)]
        kafka.assign(places)
        kafka.seek_to_beginning(*places)
        ends = kafka.end_offsets(places)
        while any(kafka.position(place) < ends[place] for place in places):
            yield from itertools.chain.from_iterable(kafka.poll(1000).values())


def _listed(one: Process, within_s: str | None = None) -> float:
    """Events whose lists are out, all or within so many seconds."""
    if within_s is None:
        return one.metric("freshet_freshness_seconds_count")
    return one.metric("freshet_freshness_seconds_bucket", le=within_s)


def _visitors(river: Flow, rate: int, seconds: int) -> None:
    shop = [sys.executable, "-m", "streams.cli", "simulate", "--rate", str(rate), "--seconds", str(seconds)]
    subprocess.run(shop, env={**os.environ, **river.environment}, capture_output=True, check=True)
    river.settle()


def recovery(bootstrap: str, directory: Path, events: int) -> Iterator[Row]:
    """From the start of a process that was killed until it is ready: imports and kernels, state, group, what came last."""
    with flow(bootstrap, directory, "recovery.", snapshot_interval_s="5") as river:
        worker = river.start("--roles", LISTS)
        river.send_all([("clicks", click) for click in stream(events, users=events // 10, items=2000)])
        river.settle()
        written = river.metric("freshet_snapshots_total", outcome="written")
        until(lambda: river.metric("freshet_snapshots_total", outcome="written") > written or written > 0, "a snapshot", 30)
        for what in ("a snapshot", "the log"):
            worker.kill()
            worker.wait()
            if what == "the log":
                shutil.rmtree(snapshots_of(river.settings))
            begun = time.monotonic()
            worker = river.start("--roles", LISTS)
            took_s, folded = time.monotonic() - begun, river.metric("freshet_folded_total")
            used = river.metric("process_cpu_seconds_total")
            yield (
                f"ready again from {what}",
                f"{took_s:.1f} s",
                f"{events:,} events, {folded:,.0f} folded again, {used:.1f} s CPU",
            )
        river.stop(worker)
