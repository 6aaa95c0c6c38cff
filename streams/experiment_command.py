"""`freshet experiment`: click-through rates in the simulated shop, each way of fusing against the others, with intervals."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streams.experiment import ARMS, Played, World, experiment, report
from streams.settings import SettingsError
from streams.tables import compact, console
from streams.text_encoder import EncoderError

errors = Console(stderr=True)
CHOSEN: Final = "popularity,weighted,learned"


def experiment_command(
    arms: Annotated[str, typer.Option("--arms", help=f"Of {','.join(ARMS)}, separated by commas.")] = CHOSEN,
    seeds: Annotated[str, typer.Option("--seeds", help="One shop each; two or more give intervals.")] = "1,2,3",
    visits: Annotated[int, typer.Option("--visits", min=20, max=10_000_000, help="Of each shop.")] = 20_000,
    n: Annotated[int, typer.Option("--n", min=1, max=100, help="Length of a list.")] = 10,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Embed descriptions and reviews (cached).")] = True,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes.")] = 1,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write everything there ('-': standard output).")] = None,
) -> None:
    """Compare fusions by what simulated people click: each has a shop of its own, and nothing is known of anybody's taste."""
    try:
        worlds = [World(arm=arm, seed=seed, visits=visits, n=n, text=text) for seed in _numbers(seeds) for arm in _names(arms)]
        found = _played(worlds, jobs)
    except (SettingsError, EncoderError, ValueError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    out = report(found)
    written = json.dumps(out, indent=1) + "\n"
    if json_out is not None and str(json_out) == "-":
        sys.stdout.write(written)
        return
    if json_out is not None:
        json_out.write_text(written, encoding="utf-8")
    show(out, console())


def _names(listed: str) -> list[str]:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise SettingsError(f"--arms {listed}: name distinct arms of {', '.join(ARMS)}")
    return names


def _numbers(listed: str) -> list[int]:
    try:
        seeds = [int(part) for part in listed.split(",")]
    except ValueError:
        raise SettingsError(f"--seeds {listed}: write whole numbers separated by commas, as in 1,2,3") from None
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise SettingsError(f"--seeds {listed}: distinct ones, none below 0")
    return seeds


def _played(worlds: list[World], jobs: int) -> list[Played]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(f"{len(worlds)} shops", total=len(worlds))
        return list(experiment(worlds, jobs=jobs, progress=lambda done: bar.update(task, completed=done)))


def show(out: dict[str, Any], to: Console) -> None:
    """Rates by seed, then differences; both of the whole run and of its second half."""
    seeds, world = [str(seed) for seed in out["seeds"]], out["world"]
    for span in ("whole run", "second half"):
        title = f"Click-through rate, {span} ({world['visits']:,} visits, lists of {world['n']}); ± clustered by shopper"
        table = compact(title, "arm", *(cell for seed in seeds for cell in (f"seed {seed}", "±")), "mean", "95 % over seeds")
        for arm, rates in out["rates"].items():
            by_seed = (rates[span]["by_seed"][seed] for seed in seeds)
            cells = (text for one in by_seed for text in (f"{one['mean']:.2%}", f"{one['se']:.2%}"))
            table.add_row(arm, *cells, *_interval(rates[span]["all"], ""))
        to.print(table)
    table = compact("Differences in points of click-through rate", "arms", "whole run", "95 %", "second half", "95 %")
    for name, change in out["differences"].items():
        table.add_row(name, *_interval(change["whole run"], "+"), *_interval(change["second half"], "+"))
    to.print(table)


def _interval(one: dict[str, float], sign: str) -> tuple[str, str]:
    if "low" not in one:
        return f"{one['mean']:{sign}.2%}", "one seed"
    return f"{one['mean']:{sign}.2%}", f"{one['low']:{sign}.2%} to {one['high']:{sign}.2%}"
