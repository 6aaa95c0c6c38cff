"""`freshet evaluate`: how good are the lists on a log? One pass, every event tested first and learned afterwards."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip

from models import Config, Recommender
from models.evaluation import Protocol
from models.evaluation.outcome import Outcome
from streams import evaluate_tables as tables
from streams import evaluate_variants as variants
from streams.convert import EventFileError
from streams.evaluate_passes import Bench, Spec, measure_all
from streams.evaluate_variants import configured
from streams.lockstep import Lockstep
from streams.settings import SettingsError
from streams.tables import console
from streams.text_encoder import EncoderError, create_encoder
from streams.text_vectors import TextFeed, TextVectors, environment_cache

errors = Console(stderr=True)
KINDS: Final = frozenset({"click", "purchase", "review"})

Files = Annotated[list[Path] | None, typer.Argument(help="Logs (and catalogues) of events, read one after the other.")]
Stdio = Annotated[bool, typer.Option("--stdio", help="Speak the lock-step protocol on standard input and output.")]
ListSize = Annotated[int, typer.Option("--n", min=1, max=1000, help="Length of a list.")]
Warmup = Annotated[float, typer.Option(min=0, help="Learned without being scored: a share of the log, or a number of events.")]
MinRating = Annotated[float, typer.Option("--min-rating", help="Ratings from here on count as liked.")]
MinHistory = Annotated[int, typer.Option("--min-history", min=0, help="Score only users with at least so many past events.")]
Positives = Annotated[bool, typer.Option("--positives-only", help="Leave disliked items out of the log.")]
Repeats = Annotated[bool, typer.Option("--repeats", help="A user's own items may be recommended and count.")]
Kinds = Annotated[str | None, typer.Option("--types", help="Score only these: click,purchase,review.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")]
Items = Annotated[list[Path] | None, typer.Option("--items", help="Catalogue files, learned before the log.")]
Text = Annotated[bool, typer.Option("--text/--no-text", help="Embed reviews and descriptions (bundled model, cached).")]
Without = Annotated[
    list[str] | None, typer.Option("--without", help="Leave this source, or instance of one, out; may be repeated.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, name=value; may be repeated.")]
Grid = Annotated[
    list[str] | None,
    typer.Option("--grid", help="One pass for each value, name=v1,v2 (lists: 1,2;3,4); repeated: each combination."),
]
Ablate = Annotated[bool, typer.Option("--ablate", help="One pass without each source: what does it add?")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, max=256, help="Processes for --grid and --ablate.")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Write the whole report to this file ('-': standard output).")]
PlotOut = Annotated[Path | None, typer.Option("--plot", help="Write a PNG: hit rate over the stream, per source or cell.")]
Lenient = Annotated[bool, typer.Option("--lenient", help="Skip and count lines that are no events.")]


def evaluate(
    files: Files = None,
    stdio: Stdio = False,
    n: ListSize = 10,
    warmup: Warmup = 0.2,
    min_rating: MinRating = 4.0,
    min_history: MinHistory = 0,
    positives_only: Positives = False,
    repeats: Repeats = False,
    types: Kinds = None,
    limit: Limit = None,
    items: Items = None,
    text: Text = True,
    without: Without = None,
    settings: Set = None,
    grid: Grid = None,
    ablate: Ablate = False,
    jobs: Jobs = 1,
    json_out: JsonOut = None,
    plot_out: PlotOut = None,
    lenient: Lenient = False,
) -> None:
    """Measure lists on a log: hit rate, NDCG, MRR, coverage, diversity, cold users and items, for every source and fused."""
    try:
        if stdio:
            _serve(configured(settings, without), text=text)
            return
        if not files:
            raise SettingsError("name a file of events, or --stdio")
        if grid and ablate:
            raise SettingsError("--grid and --ablate are two measurements: one at a time")
        protocol = Protocol(
            n=n, warmup=warmup, min_rating=min_rating, positives_only=positives_only, repeats=repeats, kinds=_kinds(types),
            min_history=min_history, limit=limit,
        )  # fmt: skip
        spec = Spec(
            files=tuple(files), catalogues=tuple(items or ()), protocol=protocol, config=configured(settings, without), text=text,
            lenient=lenient,
        )  # fmt: skip
        if grid or ablate:
            several = variants.grid(grid, settings, without) if grid else variants.ablation(spec.config)
            out = _side_by_side(spec, several, jobs)
            _write(out, tables.show_grid if grid else tables.show_ablation, tables.plot_variants, json_out, plot_out)
        else:
            _write(_one(spec), tables.show, tables.plot, json_out, plot_out)
    except (EventFileError, SettingsError, EncoderError, tables.PlotUnavailableError, ValueError, OSError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


def _kinds(types: str | None) -> frozenset[str] | None:
    """The kinds of events named, separated by commas."""
    if types is None:
        return None
    kinds = frozenset(part.strip() for part in types.split(",") if part.strip())
    if unknown := kinds - KINDS:
        raise SettingsError(f"--types {', '.join(sorted(unknown))}: choose from {', '.join(sorted(KINDS))}")
    return kinds


def _serve(config: Config, *, text: bool) -> None:
    """Lock-step on standard input and output; everything else that would be printed goes to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="freshet: %(message)s")
    out = sys.stdout.buffer
    sys.stdout = sys.stderr
    with _texts(text) as vectors:
        feed = TextFeed(vectors) if vectors is not None else None
        server = Lockstep(Recommender(config), feed.vectors if feed is not None else None)
        try:
            server.serve(iter(sys.stdin.buffer.readline, b""), out)
        except (BrokenPipeError, KeyboardInterrupt):
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # nobody reads any more: the last flush must not fail
    if server.skipped:
        errors.print(f"freshet: skipped {server.skipped} lines", highlight=False)


def _one(spec: Spec) -> dict[str, Any]:
    """One pass; its report."""
    bench = Bench(spec)
    try:
        _say(bench.log.notes)
        with _progress(MofNCompleteColumn()) as bar:
            tasks: dict[str, TaskID] = {}

            def told(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage, total=total)
                bar.update(tasks[stage], completed=done)

            return bench.measure(spec, told).report
    finally:
        bench.close()


def _side_by_side(spec: Spec, several: Sequence[variants.Variant], jobs: int) -> dict[str, Any]:
    """One pass for each variant; their comparison."""
    specs = [msgspec.structs.replace(spec, config=variant.config) for variant in several]
    found: dict[int, Outcome] = {}
    with _progress(TaskProgressColumn()) as bar:
        task = bar.add_task(f"{len(specs)} passes", total=len(specs))
        for place, outcome in measure_all(specs, jobs=jobs, progress=lambda done: bar.update(task, completed=done), notes=_say):
            found[place] = outcome
    return variants.report(several, [found[place] for place in range(len(specs))])


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        errors.print(f"[yellow]{escape(note)}[/yellow]", highlight=False, soft_wrap=True)


@contextmanager
def _texts(wanted: bool) -> Iterator[TextVectors | None]:
    """Vectors of texts, through the cache; None where they are not wanted."""
    vectors = TextVectors(create_encoder(), environment_cache()) if wanted else None
    try:
        yield vectors
    finally:
        if vectors is not None:
            vectors.close()


@contextmanager
def _progress(count: ProgressColumn) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        yield bar


def _write(
    out: dict[str, Any], show: Callable[[dict[str, Any], Console], None], plot: Callable[[dict[str, Any], Path], None],
    json_out: Path | None, plot_out: Path | None,
) -> None:  # fmt: skip
    text = json.dumps(out, indent=1)
    if json_out is not None and str(json_out) == "-":
        sys.stdout.write(text + "\n")
    else:
        show(out, console())
        if json_out is not None:
            json_out.write_text(text + "\n", encoding="utf-8")
    if plot_out is not None:
        plot(out, plot_out)
