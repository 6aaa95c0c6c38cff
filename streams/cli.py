"""The command line: `freshet ...`. Each command builds the settings, calls one function and exits with what it answers."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from streams.on_demand import Where, group
from streams.settings import Settings, SettingsError, parse_roles

LATER: Final = {
    "replay": Where(
        "streams.replay", "replay",
        "Publish real logs to the input topics, in the order of time, and wait for every acknowledgement.",
    ),
    "dead-letters": Where(
        "streams.dead_letters_command", "dead_letters",
        "Show refused messages: why, where they came from, how they begin. With --replay, put them back where they came from.",
    ),
    "move": Where(
        "streams.move_command", "move_command",
        "Copy the log into a new set of topics, with another number of partitions. Stop the workers first (docs/operations.md).",
    ),
    "digest": Where(
        "streams.digest_command", "digest",
        "Print the digest of a worker's exact state, from its newest snapshot; --check compares it with the log.",
    ),
    "forget": Where(
        "streams.forget", "forget", "Publish that a person is to be forgotten, and report when it is done everywhere."
    ),
    "evaluate": Where(
        "streams.evaluate_command", "evaluate",
        "Measure lists on a log: hit rate, NDCG, MRR, coverage, diversity, cold users and items, for every source and fused.",
    ),
    "evaluate-neighbours": Where(
        "streams.evaluate_neighbours_command", "evaluate_neighbours",
        "Measure lists of UserCF, T-UserCF, ItemCF, T-ItemCF by K: hit rate, precision, recall, F1, NDCG, MRR (small logs).",
    ),
    "quality": Where(
        "streams.quality", "quality",
        "Measure the lists on the public logs in the folder FRESHET_DATA, or on one's own, with the defaults for all.",
    ),
    "experiment": Where(
        "streams.experiment_command", "experiment_command",
        "Compare fusions by what simulated people click: each has a shop of its own, and nothing is known of anybody's taste.",
    ),
    "train-ranker": Where(
        "streams.train_ranker_command", "train_ranker",
        "Train a cross-encoder for the language stage on a log; prints NDCG@10 and HR@10 without and with it, as JSON.",
    ),
    "evaluate-ratings": Where(
        "streams.evaluate_ratings_command", "evaluate_ratings",
        "Measure predicted ratings: MAE and RMSE of UserCF, ItemCF, T-UserCF, T-ItemCF by K, beside constants and factors.",
    ),
}  # fmt: skip
"""Commands of which no more is known here than what `freshet --help` says of them."""

app = typer.Typer(
    name="freshet",
    cls=group(LATER),
    help="Event-driven recommendations over Kafka. Settings come from FRESHET_* variables (docs/settings.md).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
stderr = Console(stderr=True)

Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka brokers, host:port[,host:port...] [FRESHET_BOOTSTRAP]")]
StateDir = Annotated[str | None, typer.Option("--state-dir", help="where embedded parts keep their data [FRESHET_STATE_DIR]")]
MetricsPort = Annotated[int | None, typer.Option("--metrics-port", help="port of /metrics, 0: any [FRESHET_METRICS_PORT]")]


def fail(message: str, code: int = 2) -> NoReturn:
    """A clear sentence on standard error instead of a traceback."""
    stderr.print(f"[red]freshet:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def settings(**overrides: Any) -> Settings:
    """The settings of this process, logging configured by them."""
    from streams import logs

    try:
        loaded = Settings.load(os.environ, **overrides)
    except SettingsError as problem:
        fail(str(problem))
    logs.configure(loaded.log_level, json=loaded.log_json)
    return loaded


@app.command()
def worker(
    roles: Annotated[
        str | None, typer.Option("--roles", help="ingest,recommend,attribute or embed; without: all in this process")
    ] = None,
    bootstrap: Bootstrap = None,
    state_dir: StateDir = None,
    metrics_port: MetricsPort = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="if no snapshot fits: fold the log from its beginning")] = False,
) -> None:
    """Run the agents: ingest, recommend, attribute, embed."""
    loaded = settings(bootstrap=bootstrap, state_dir=state_dir, metrics_port=metrics_port)
    try:
        chosen = parse_roles(roles)
    except SettingsError as problem:
        fail(str(problem))
    _check_topics(loaded)
    from streams.app import Worker
    from streams.snapshots import SnapshotRefused
    from streams.topics import TopicsError

    try:
        raise typer.Exit(Worker(loaded, chosen).run(rebuild=rebuild))
    except (SnapshotRefused, TopicsError) as problem:
        fail(str(problem), 1)
    except OSError as problem:
        fail(f"{problem} (the metrics port is set by FRESHET_METRICS_PORT)", 1)


def _check_topics(loaded: Settings) -> None:
    """A worker starts only on topics that are as they should be."""
    from streams import topics

    try:
        plan = topics.plan(loaded.connection, loaded.topic_specs)
        if plan.differences:
            raise topics.TopicMismatch(plan.differences)
    except topics.TopicsError as problem:
        fail(str(problem), 1)
    if plan.missing:
        fail(f"these topics are missing: {', '.join(spec.name for spec in plan.missing)}. Create them with: freshet topics", 1)


@app.command()
def topics(
    alter: Annotated[bool, typer.Option("--alter", help="change the properties of topics that differ")] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Create what is missing and check every topic; mismatches are listed with the command that mends them."""
    from streams import topics as kafka_topics

    loaded = settings(bootstrap=bootstrap)
    state: dict[str, str] = {}
    try:
        if alter:
            for difference in kafka_topics.alter(loaded.connection, loaded.topic_specs):
                state[difference.topic] = f"altered {difference.what}"
        state |= dict.fromkeys(kafka_topics.ensure(loaded.connection, loaded.topic_specs), "created")
    except kafka_topics.TopicsError as problem:
        fail(str(problem), 1)
    table = Table(Column("topic", no_wrap=True), "partitions", "replication", "cleanup", "retention", "state")
    for spec in loaded.topic_specs:
        retention = spec.config.get("retention.ms", "")
        kept = "for ever" if retention in ("", "-1") else f"{int(retention) // 3_600_000} h"
        row = (spec.name, str(spec.partitions), str(spec.replication), spec.config["cleanup.policy"], kept)
        table.add_row(*row, state.get(spec.name, "as it should be"))
    Console().print(table)


@app.command()
def kafka(
    data: Annotated[Path | None, typer.Option("--data", help="folder to keep; without: a temporary one")] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="port to listen on; without: any free one")] = None,
    heap: Annotated[str, typer.Option("--heap", help="memory of the broker, as Java's -Xmx")] = "384m",
) -> None:
    """Run a real Apache Kafka (KRaft, one node, 127.0.0.1) until Ctrl-C. Needs neither Java nor Docker."""
    from streams.embedded_kafka import EmbeddedKafka, EmbeddedKafkaError
    from streams.kafka_jars import KAFKA_VERSION

    settings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with EmbeddedKafka(data=data, port=port, heap=heap) as broker:
            Console().print(f"Kafka {KAFKA_VERSION} on [bold]{broker.bootstrap}[/bold], data in {broker.data}. Ctrl-C stops it.")
            broker.wait()
    except EmbeddedKafkaError as problem:
        fail(str(problem), 1)
    except KeyboardInterrupt:
        return


def _reachable(loaded: Settings) -> None:
    """A clear sentence where there is no Kafka."""
    from streams import topics

    try:
        with topics.admin(loaded.connection, timeout_s=5.0):
            return
    except topics.TopicsError as problem:
        fail(str(problem), 1)


@app.command()
def recommendations(
    user: Annotated[str, typer.Option("--user", help="user id; @popular: the list for strangers")],
    follow: Annotated[bool, typer.Option("--follow", help="print every change")] = False,
    json: Annotated[bool, typer.Option("--json", help="the list as it is on the topic")] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Print a user's newest list, with the reasons in words."""
    from streams.show import show

    raise typer.Exit(show(settings(bootstrap=bootstrap), user, follow=follow, as_json=json))


@app.command()
def simulate(
    rate: Annotated[float, typer.Option("--rate", help="clicks, purchases and reviews per second")] = 200.0,
    seconds: Annotated[float | None, typer.Option("--seconds", help="end after so long; without: at Ctrl-C")] = None,
    seed: Annotated[int, typer.Option("--seed", help="the same seed is the same shop")] = 7,
    shoppers: Annotated[int | None, typer.Option("--shoppers", help="people in the shop")] = None,
    review_rate: Annotated[float, typer.Option("--review-rate", help="most reviews per second: embedding is slow")] = 10.0,
    max_reviews: Annotated[int | None, typer.Option("--max-reviews", help="most reviews in all")] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """A shop with hidden tastes that looks at its lists, clicks, buys and reviews: a platform for trying things out."""
    from streams.simulate import simulate as run

    loaded = settings(bootstrap=bootstrap)
    code = run(
        loaded,
        rate=rate,
        seconds=seconds,
        seed=seed,
        shoppers=shoppers,
        review_rate=review_rate,
        max_reviews=max_reviews,
    )
    raise typer.Exit(code)


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option("--for", help="end after so many seconds of shopping, with a summary")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="events per second (200 from the shop)")] = None,
    seed: Annotated[int, typer.Option("--seed", help="the same seed is the same shop")] = 7,
    events: Annotated[Path | None, typer.Option("--events", help="real events instead of the shop", exists=True)] = None,
    state_dir: Annotated[Path | None, typer.Option("--state-dir", help="keep everything there; without: temporary")] = None,
) -> None:
    """Everything at once, live in the terminal: Kafka, a worker with all roles, and a simulated shop or a file of events."""
    from streams.demo import demo as run

    loaded = settings(log_level="WARNING")
    raise typer.Exit(run(loaded, seconds=seconds, rate=rate, seed=seed, events=events, state_dir=state_dir))


def main() -> None:
    """Entry point of the `freshet` command."""
    app()


if __name__ == "__main__":
    main()
