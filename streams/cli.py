"""The command line: `freshet ...`. Each command builds the settings, calls one function and exits with what it answers."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from streams.dead_letters_command import dead_letters as dead_letters_command
from streams.digest_command import digest as digest_command
from streams.evaluate_command import evaluate as evaluate_command
from streams.evaluate_neighbours_command import evaluate_neighbours as evaluate_neighbours_command
from streams.evaluate_ratings_command import evaluate_ratings as evaluate_ratings_command
from streams.experiment_command import experiment_command
from streams.forget import forget as forget_command
from streams.move_command import move_command
from streams.quality import quality as quality_command
from streams.replay import replay as replay_command
from streams.settings import Settings, SettingsError, parse_roles
from streams.train_ranker_command import train_ranker as train_ranker_command

app = typer.Typer(
    name="freshet",
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


app.command("replay")(replay_command)
app.command("dead-letters")(dead_letters_command)
app.command("move")(move_command)
app.command("digest")(digest_command)
app.command("forget")(forget_command)
app.command("evaluate")(evaluate_command)
app.command("evaluate-neighbours")(evaluate_neighbours_command)
app.command("quality")(quality_command)
app.command("experiment")(experiment_command)
app.command("train-ranker")(train_ranker_command)
app.command("evaluate-ratings")(evaluate_ratings_command)


def main() -> None:
    """Entry point of the `freshet` command."""
    app()


if __name__ == "__main__":
    main()
