"""`make bench`: what an event costs in each stage, and how soon its list is out. CPU time is the process's own, so it means
something on a shared machine; the freshness figures want a quiet one."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from streams.embedded_kafka import EmbeddedKafka
from streams.experiment import World, experiment, report
from tests.benchmarks.fresh import Layout, fresh
from tests.benchmarks.group import recovery, rush, scaled, sustained
from tests.benchmarks.metrics_cost import metrics_cost
from tests.benchmarks.model_cost import Row, library, scale, start, stream
from tests.benchmarks.sharded import sharded
from tests.benchmarks.state import state
from tests.streams.flow import Flow, flow

console = Console()
PARTS = (
    "library", "start", "scale", "sharded", "metrics", "stages", "freshness", "workers", "sustained", "rush", "recovery",
    "simulation", "state",
)  # fmt: skip


def simulation(visits: int, seeds: int) -> Iterator[Row]:
    """Click-through in the simulated shop, each way of ranking in shops of its own (`freshet experiment` without Kafka)."""
    arms = ("popularity", "weighted", "learned")
    worlds = [World(arm=arm, seed=seed, visits=visits) for seed in range(1, seeds + 1) for arm in arms]
    found = report(list(experiment(worlds, jobs=min(2, os.cpu_count() or 1))))
    measured_on = f"{seeds} shops of {visits:,} visits; 95 % over the shops"
    for arm in arms:
        yield f"click-through, {arm}", f"{found['rates'][arm]['whole run']['all']['mean']:.2%}", measured_on
    for name in ("weighted - popularity", "learned - weighted"):
        change = found["differences"][name]["whole run"]
        yield f"click-through, {name}", f"{change['mean']:+.2%} ({change['low']:+.2%} to {change['high']:+.2%})", measured_on


def cpu(river: Flow) -> float:
    return river.metric("process_cpu_seconds_total")


@contextlib.contextmanager
def worker(river: Flow, roles: str) -> Iterator[float]:
    """A worker with these roles; gives its CPU seconds at the moment it was ready on empty topics or caught up."""
    process = river.start("--roles", roles)
    try:
        yield cpu(river)
    finally:
        river.stop(process)


def stages(bootstrap: str, directory: Path, events: int) -> Iterator[Row]:
    """CPU of a worker that has only that stage to do, over a backlog."""
    with flow(bootstrap, directory, "stages.", snapshots="false") as river:  # a restart must fold again
        with worker(river, "recommend,attribute") as idle:
            pass
        river.send_all([("clicks", click) for click in stream(events, users=events // 10, items=2000)])
        with worker(river, "ingest") as begin:
            river.settle()
            yield "ingest", f"{(cpu(river) - begin) / events * 1e6:.0f} us an event", f"backlog of {events:,}"
        with worker(river, "recommend,attribute"):
            river.settle()
            lists = river.metric("freshet_lists_total", audience="user") + river.metric("freshet_lists_unchanged_total")
            both = cpu(river) - idle
        with worker(river, "recommend,attribute") as again:  # everything is committed: it only folds
            folding = max(0.0, again - idle)
            yield "fold into the replica", f"{folding / events * 1e6:.0f} us an event", f"{events:,} interactions replayed"
        yield "make, send and account for a list", f"{(both - folding) / lists * 1e6:.0f} us a list", f"{lists:,.0f} lists"


def _cores(names: str) -> frozenset[int]:
    """ArgumentTypeError where they are not there, or nothing would be left for the others."""
    here = os.sched_getaffinity(0)
    wanted = frozenset(int(name) if name.isdecimal() else -1 for name in names.split(","))
    if not wanted < here:
        raise argparse.ArgumentTypeError(f"{names}: name some of the cores {sorted(here)}, not all")
    return wanted


def _roles(names: str) -> tuple[str, ...]:
    """ArgumentTypeError where a worker that makes lists cannot do without them."""
    wanted = tuple(name.strip() for name in names.split(","))
    if names != "none" and not {*wanted} <= {"ingest", "embed"}:
        raise argparse.ArgumentTypeError(f"{names}: ingest, embed, both (ingest,embed) or none")
    return () if names == "none" else wanted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=30_000, help="events for the library and the stages")
    parser.add_argument("--rates", default="200", help="events/s for freshness, comma separated")
    parser.add_argument("--workers", type=int, choices=range(1, 9), default=1, help="of each freshness run")
    parser.add_argument(
        "--apart", type=_roles, default=("embed",),
        help="roles that have a process of their own in freshness runs, as ingest,embed, or none (default: embed)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=int, default=30, help="of each freshness run")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--cores", type=_cores, default=(), help="of the workers of freshness and rush alone, as 0,1")
    parser.add_argument("--ladder", default="100,200,400,800", help="events/s tried for the sustained rate, comma separated")
    parser.add_argument("--rush-rate", type=int, default=5_000, help="events/s of the rush")
    parser.add_argument("--rush-people", type=int, default=500, help="who make them")
    parser.add_argument("--visits", type=int, default=20_000, help="of each simulated shop")
    parser.add_argument("--seeds", type=int, default=3, help="simulated shops of each arm, at least 2")
    parser.add_argument("--scale-events", type=int, default=10_000_000, help="of the large model, only with --only scale")
    parser.add_argument("--scale-users", type=int, default=1_000_000)
    parser.add_argument("--scale-items", type=int, default=100_000)
    parser.add_argument("--sharded-events", type=int, default=60_000, help="of the simulated shards, only with --only sharded")
    parser.add_argument("--state-events", type=int, default=3_000_000, help="of the state that is saved, only with --only state")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    chosen = parser.parse_args()
    threadpool_limits(1, user_api="blas")  # as a worker does
    if chosen.cores:  # what is started from here on, Kafka first, keeps to the others
        os.sched_setaffinity(0, os.sched_getaffinity(0) - chosen.cores)
    rows: list[Row] = []

    def take(found: Iterator[Row]) -> None:
        for row in found:
            rows.append(row)
            console.print(f"  {row[0]}: [bold]{row[1]}[/bold] ({row[2]})")

    if chosen.only in (None, "library"):
        take(library(chosen.events))
    if chosen.only in (None, "start"):
        take(start())
    if chosen.only == "scale":  # many minutes
        take(scale(chosen.scale_events, chosen.scale_users, chosen.scale_items))
    if chosen.only == "sharded":  # some minutes
        take(sharded(chosen.sharded_events))
    if chosen.only == "state":  # some minutes
        take(state(chosen.state_events, chosen.scale_users, chosen.scale_items))
    if chosen.only in (None, "metrics"):
        take(metrics_cost())
    if chosen.only in (None, "stages", "freshness", "workers", "sustained", "rush", "recovery"):
        with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as directory:
            if chosen.only in (None, "stages"):
                take(stages(kafka.bootstrap, Path(directory), chosen.events))
            for rate in [int(r) for r in chosen.rates.split(",")] if chosen.only in (None, "freshness") else []:
                take(
                    fresh(
                        kafka.bootstrap, Path(directory), rate, Layout(chosen.workers, chosen.apart), chosen.seconds, chosen.cores
                    )
                )
            place = Path(directory)
            if chosen.only in (None, "workers"):
                take(scaled(kafka.bootstrap, place, chosen.events // 3))
            if chosen.only in (None, "sustained"):
                take(sustained(kafka.bootstrap, place, [int(r) for r in chosen.ladder.split(",")], chosen.seconds // 3))
            if chosen.only in (None, "rush"):
                take(rush(kafka.bootstrap, place, chosen.rush_rate, chosen.rush_people, chosen.seconds, chosen.cores))
            if chosen.only in (None, "recovery"):
                take(recovery(kafka.bootstrap, place, chosen.events))
    if chosen.only in (None, "simulation"):
        take(simulation(chosen.visits, chosen.seeds))
    table = Table("what", "figure", "measured on", title="Freshet, on this machine")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps([list(row) for row in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
