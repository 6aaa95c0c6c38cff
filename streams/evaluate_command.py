"""`freshet evaluate`: how good are the lists on a log? One pass, every event tested first and learned afterwards."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models import Config, Recommender
from models.evaluation import Plan, Protocol, report, run
from models.evaluation.subject import RecommenderSubject
from models.events import Event, Item
from models.sources import REGISTRY
from streams import evaluate_tables as tables
from streams.convert import EventFile, EventFileError
from streams.lockstep import Lockstep
from streams.settings import MODEL_PREFIX, Settings, SettingsError
from streams.text_encoder import EncoderError, create_encoder
from streams.text_vectors import TextFeed, TextVectors, environment_cache, said

errors = Console(stderr=True)

Files = Annotated[list[Path] | None, typer.Argument(help="Logs (and catalogues) of events, read one after the other.")]
Stdio = Annotated[bool, typer.Option("--stdio", help="Speak the lock-step protocol on standard input and output.")]
ListSize = Annotated[int, typer.Option("--n", min=1, max=1000, help="Length of a list.")]
Warmup = Annotated[float, typer.Option(min=0, help="Learned without being scored: a share of the log, or a number of events.")]
MinRating = Annotated[float, typer.Option("--min-rating", help="Ratings from here on count as liked.")]
Positives = Annotated[bool, typer.Option("--positives-only", help="Leave disliked items out of the log.")]
Repeats = Annotated[bool, typer.Option("--repeats", help="A user's own items may be recommended and count.")]
Kinds = Annotated[str | None, typer.Option("--types", help="Score only these: click,purchase,review.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")]
Items = Annotated[list[Path] | None, typer.Option("--items", help="Catalogue files, learned before the log.")]
Text = Annotated[bool, typer.Option("--text/--no-text", help="Embed reviews and descriptions (bundled model, cached).")]
Without = Annotated[list[str] | None, typer.Option("--without", help="Leave this source out; may be repeated.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, name=value; may be repeated.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Write the whole report to this file ('-': standard output).")]
PlotOut = Annotated[Path | None, typer.Option("--plot", help="Write a PNG: hit rate over the stream, per source.")]
Lenient = Annotated[bool, typer.Option("--lenient", help="Skip and count lines that are no events.")]


def evaluate(
    files: Files = None,
    stdio: Stdio = False,
    n: ListSize = 10,
    warmup: Warmup = 0.2,
    min_rating: MinRating = 4.0,
    positives_only: Positives = False,
    repeats: Repeats = False,
    types: Kinds = None,
    limit: Limit = None,
    items: Items = None,
    text: Text = True,
    without: Without = None,
    settings: Set = None,
    json_out: JsonOut = None,
    plot_out: PlotOut = None,
    lenient: Lenient = False,
) -> None:
    """Measure lists on a log: hit rate, NDCG, MRR, coverage, diversity, cold users and items, for every source and fused."""
    try:
        if stdio:
            _serve(_config(settings, without), text=text)
            return
        if not files:
            raise SettingsError("name a file of events, or --stdio")
        kinds = frozenset(part.strip() for part in types.split(",")) if types else None
        protocol = Protocol(
            n=n, warmup=warmup, min_rating=min_rating, positives_only=positives_only, repeats=repeats, kinds=kinds, limit=limit
        )
        out = _evaluate(files, items or [], protocol, _config(settings, without), text=text, lenient=lenient)
        _write(out, json_out, plot_out)
    except (EventFileError, SettingsError, EncoderError, tables.PlotUnavailableError, ValueError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


def _config(settings: Sequence[str] | None, without: Sequence[str] | None) -> Config:
    """The model's settings: the environment, then `--set`, then `--without`."""
    environment = dict(os.environ)
    for assignment in settings or ():
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: write name=value")
        environment[MODEL_PREFIX + name.strip().upper()] = value
    config = Settings.load(environment).model
    used = config.sources or tuple(REGISTRY)
    if unknown := set(without or ()) - set(used):
        raise SettingsError(f"--without {', '.join(sorted(unknown))}: choose from {', '.join(used)}")
    return msgspec.structs.replace(config, sources=tuple(name for name in used if name not in (without or ())))


def _serve(config: Config, *, text: bool) -> None:
    """Lock-step on standard input and output; everything else that would be printed goes to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="freshet: %(message)s")
    out = sys.stdout.buffer
    sys.stdout = sys.stderr
    with _texts(text) as vectors:
        feed = TextFeed(vectors) if vectors is not None else None
        server = Lockstep(Recommender(config), feed.vector if feed is not None else None)
        try:
            server.serve(iter(sys.stdin.buffer.readline, b""), out)
        except (BrokenPipeError, KeyboardInterrupt):
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # nobody reads any more: the last flush must not fail
    if server.skipped:
        errors.print(f"freshet: skipped {server.skipped} lines", highlight=False)


def _evaluate(
    files: Sequence[Path], catalogues: Sequence[Path], protocol: Protocol, config: Config, *, text: bool, lenient: bool
) -> dict[str, Any]:
    """Read, embed, replay; the report."""
    read = [*_read(catalogues, lenient), *_read(files, lenient)]
    catalogue = [event for event in read if isinstance(event, Item)]
    plan = Plan([event for event in read if not isinstance(event, Item)], protocol)
    subject = RecommenderSubject(Recommender(config), repeats=protocol.repeats)
    with _texts(text) as vectors, _progress() as bar:
        feed = _embed(vectors, [*catalogue, *plan.events], bar) if vectors is not None else None
        task = bar.add_task("test, then learn", total=len(plan.events))
        result = run(
            subject,
            plan,
            catalogue=catalogue,
            text=feed.vector if feed is not None else None,
            progress=lambda done: bar.update(task, completed=done) if done % 64 == 0 or done == len(plan.events) else None,
        )
    return report(result)


def _read(files: Sequence[Path], lenient: bool) -> list[Event | Item]:
    events: list[Event | Item] = []
    for path in files:
        file = EventFile(path, lenient=lenient)
        events += file
        if file.skipped:
            errors.print(f"[yellow]{path}: skipped {file.skipped} lines; the first: {escape(str(file.first_problem))}[/yellow]")
    return events


@contextmanager
def _texts(wanted: bool) -> Iterator[TextVectors | None]:
    """Vectors of texts, through the cache; None where they are not wanted."""
    vectors = TextVectors(create_encoder(), environment_cache()) if wanted else None
    try:
        yield vectors
    finally:
        if vectors is not None:
            vectors.close()


def _embed(vectors: TextVectors, events: Sequence[Event | Item], bar: Progress) -> TextFeed | None:
    """Embed every text in batches ahead of the pass, which then finds them in the cache; None where nothing says anything."""
    texts = [words for words in map(said, events) if words]
    if not texts:
        return None
    task = bar.add_task("embedding texts", total=len(texts))
    vectors.prefetch(texts, lambda done: bar.update(task, completed=done))
    return TextFeed(vectors)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        yield bar


def _write(out: dict[str, Any], json_out: Path | None, plot_out: Path | None) -> None:
    text = json.dumps(out, indent=1)
    if json_out is not None and str(json_out) == "-":
        sys.stdout.write(text + "\n")
    else:
        tables.show(out, Console())
        if json_out is not None:
            json_out.write_text(text + "\n", encoding="utf-8")
    if plot_out is not None:
        tables.plot(out, plot_out)
