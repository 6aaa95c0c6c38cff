"""`freshet evaluate-neighbours`: the lists of the papers' systems by the number of neighbours, and the fused list beside them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.evaluation import Protocol
from models.evaluation.neighbour_lists import label
from models.evaluation.outcome import Outcome
from models.evaluation.prequential import FUSED
from streams.convert import EventFileError
from streams.evaluate_passes import Neighbourhoods, Spec, measure_all
from streams.evaluate_variants import configured
from streams.settings import SettingsError
from streams.tables import compact, console, figure
from streams.text_encoder import EncoderError

MEASURES: Final = {"hr": "HR = recall", "precision": "Precision", "f1": "F1", "ndcg": "NDCG", "mrr": "MRR"}
errors = Console(stderr=True)


def evaluate_neighbours(
    files: Annotated[list[Path], typer.Argument(help="Logs of events, read one after the other.")],
    k: Annotated[str, typer.Option("--k", help="Numbers of neighbours, separated by commas; 'all' is one.")] = "5,10,15,20,25,30",
    text_share: Annotated[
        float, typer.Option("--text-share", help="Part of the text in the similarities of T-UserCF and T-ItemCF.")
    ] = 0.2,
    n: Annotated[int, typer.Option("--n", min=1, max=1000, help="Length of a list.")] = 10,
    warmup: Annotated[float, typer.Option(min=0, help="Learned without being scored: a share of the log, or events.")] = 0.2,
    min_rating: Annotated[float, typer.Option("--min-rating", help="Ratings from here on count as liked.")] = 4.0,
    positives_only: Annotated[bool, typer.Option("--positives-only", help="Leave disliked items out of the log.")] = False,
    repeats: Annotated[bool, typer.Option("--repeats", help="A user's own items may be recommended and count.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")] = None,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Embed reviews (cached) for the T- systems.")] = True,
    fused: Annotated[bool, typer.Option("--fused/--no-fused", help="Measure the fused list as well.")] = True,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=2, help="Processes.")] = 1,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the whole report there ('-': standard output).")] = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Skip and count lines that are no events.")] = False,
) -> None:
    """Measure lists of UserCF, T-UserCF, ItemCF, T-ItemCF by K: hit rate, precision, recall, F1, NDCG, MRR (small logs)."""
    try:
        protocol = Protocol(
            n=n, warmup=warmup, min_rating=min_rating, positives_only=positives_only, repeats=repeats, limit=limit
        )  # fmt: skip
        spec = Spec(
            files=tuple(files), protocol=protocol, config=configured(None), text=text, lenient=lenient, way="neighbours",
            neighbourhoods=Neighbourhoods(ks=_numbers(k), text_share=text_share),
        )  # fmt: skip
        outcomes = _measure([spec, *([msgspec.structs.replace(spec, way="inside")] if fused else [])], jobs)
    except (EventFileError, SettingsError, EncoderError, ValueError, OSError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    report = table_of(spec.neighbourhoods, outcomes)
    written = json.dumps(report, indent=1) + "\n"
    if json_out is not None and str(json_out) == "-":
        sys.stdout.write(written)
        return
    if json_out is not None:
        json_out.write_text(written, encoding="utf-8")
    show(report, console())


def _numbers(listed: str) -> tuple[int | None, ...]:
    """The numbers of neighbours, ascending, `all` (None) last."""
    parts = [part.strip() for part in listed.split(",")]
    try:
        numbers = sorted(int(part) for part in parts if part != "all")
    except ValueError:
        raise SettingsError(f"--k {listed}: write whole numbers separated by commas, as in 5,10,all") from None
    return (*numbers, *([None] * parts.count("all")))


def _measure(specs: list[Spec], jobs: int) -> list[Outcome]:
    found: dict[int, Outcome] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("test, then learn", total=len(specs))

        def say(lines: Any) -> None:
            for line in lines:
                errors.print(f"[yellow]{escape(line)}[/yellow]", highlight=False, soft_wrap=True)

        for place, outcome in measure_all(specs, jobs=jobs, progress=lambda done: bar.update(task, completed=done), notes=say):
            found[place] = outcome
    return [found[place] for place in range(len(specs))]


def table_of(wanted: Neighbourhoods, outcomes: list[Outcome]) -> dict[str, Any]:
    """Plain data: `systems` name -> K -> measures with standard errors; `fused`: those of the fused list, or None."""
    sources = outcomes[0].report["sources"]
    ks = [("all" if k is None else str(k), k) for k in wanted.ks]
    systems = {
        system.name: {name: sources[label(system, k)] for name, k in ks}
        for system in wanted.systems
        if label(system, wanted.ks[0]) in sources
    }
    return {
        "protocol": outcomes[0].report["protocol"],
        "text_share": wanted.text_share,
        "scored": outcomes[0].report["scored"],
        "systems": systems,
        "fused": outcomes[1].report["sources"].get(FUSED) if len(outcomes) > 1 else None,
    }


def show(report: dict[str, Any], out: Console) -> None:
    """Print a table for each measure; the best of each is bold, and the largest standard error of a row stands at its end."""
    systems, n = report["systems"], report["protocol"]["n"]
    if not systems:
        out.print("[yellow]Nothing was scored: there is no positive event after the warm-up.[/yellow]")
        return
    for measure, heading in MEASURES.items():
        title = f"{heading} of {report['scored']:,} lists of {n} by number of neighbours"
        table = compact(title, "system", *(f"K={k}" for k in next(iter(systems.values()))), "± at most")
        best = max(row[measure] for cells in systems.values() for row in cells.values())
        for name, cells in systems.items():
            error = max(row[f"{measure}_se"] for row in cells.values())
            table.add_row(name, *(_cell(row[measure], best) for row in cells.values()), figure(error))
        out.print(table)
        if report["fused"] is not None:
            of = report["fused"]
            out.print(f"fused list: {figure(of[measure])} ± {figure(of[f'{measure}_se'])}\n", highlight=False)


def _cell(value: float, best: float) -> str:
    return f"[bold]{figure(value)}[/bold]" if value == best else figure(value)
