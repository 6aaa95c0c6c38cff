"""How good are the lists on public logs? `python -m streams.quality`, and behind it `make quality`.

    python -m streams.quality --logs gift-cards,musical-instruments         # every source and the fused list, in this process
    python -m streams.quality --only fused                                  # the fused list alone, asked in lock-step
    python -m streams.quality --keep before                                 # remember these figures by a name ...
    python -m streams.quality --set fusion_rate=0.05 --against before       # ... and hold a change against them, list by list

What was measured once is kept (see `quality_store`) and only measured again when something changes that it depends on.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from models import Config
from models.evaluation.outcome import MEASURES, Outcome, differences
from models.evaluation.prequential import FUSED
from streams.convert import EventFileError
from streams.evaluate_passes import Spec, measure_all
from streams.evaluate_variants import configured
from streams.lockstep_client import LockstepError
from streams.quality_logs import LOGS, PublicLog, chosen, folder
from streams.quality_store import Store, packed, unpacked
from streams.settings import SettingsError
from streams.tables import compact, console, figure
from streams.text_encoder import EncoderError

errors = Console(stderr=True)
STORE: Final = Path(".freshet/quality")
SEGMENTS: Final = {"cold user": "c.user", "warm user": "w.user", "cold item": "c.item", "warm item": "w.item"}
PARTS: Final = ("sources", "fused")

Passes = dict[tuple[str, str], Outcome]
"""(log, part) -> what it gave."""


def quality(
    logs: Annotated[str | None, typer.Option("--logs", help=f"Of {','.join(log.name for log in LOGS)}; without: all.")] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="sources: all sources and fused, in this process; fused: in lock-step.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, name=value; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events of each log.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is known.")] = False,
    keep: Annotated[str | None, typer.Option("--keep", help="Remember what was measured by this name.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Differences from what was remembered by this name.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all reports to this file.")] = None,
) -> None:
    """Measure the lists on the public logs in FRESHET_DATA."""
    try:
        parts = [part.strip() for part in only.split(",")] if only else ["sources"]
        if unknown := set(parts) - set(PARTS):
            raise SettingsError(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
        wanted = _present(chosen(logs))
        before = _kept(against) if against is not None else {}
        passes = measured(_specs(wanted, parts, configured(settings, environment={}), limit), jobs=jobs, fresh=fresh)
        if keep is not None:
            _keep(keep, passes)
    except (EventFileError, SettingsError, EncoderError, LockstepError, ValueError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    out = console()
    for (name, part), outcome in passes.items():
        out.print(table(f"{name}, {part}", outcome))
        if (name, part) in before:
            out.print(changes(f"{name}, {part}: less what was kept as {against}", outcome, before[name, part]))
    if json_out is not None:
        reports = {f"{name}/{part}": outcome.report for (name, part), outcome in passes.items()}
        json_out.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")


def _present(logs: Sequence[PublicLog]) -> list[PublicLog]:
    """Those whose files are there; says which are not. SettingsError where none is."""
    there = []
    for log in logs:
        if problem := log.missing(folder(os.environ)):
            errors.print(f"[yellow]{log.name} skipped: {escape(problem)}[/yellow]", highlight=False, soft_wrap=True)
        else:
            there.append(log)
    if not there:
        raise SettingsError("none of the logs is there: nothing to measure")
    return there


def _specs(logs: Sequence[PublicLog], parts: Sequence[str], config: Config, limit: int | None) -> dict[tuple[str, str], Spec]:
    specs = {}
    for log in logs:
        for part in parts:
            spec = log.spec(folder(os.environ), config, "inside" if part == "sources" else "lockstep")
            specs[log.name, part] = msgspec.structs.replace(spec, protocol=msgspec.structs.replace(spec.protocol, limit=limit))
    return specs


def measured(specs: dict[tuple[str, str], Spec], *, jobs: int = 1, fresh: bool = False) -> Passes:
    """What each pass gives, from the store where it is known; the rest is measured and kept."""
    store = Store(STORE)
    known = {name: None if fresh else store.get(spec) for name, spec in specs.items()}
    missing = [name for name, outcome in known.items() if outcome is None]
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(f"{len(missing)} passes", total=len(missing))
        todo = [specs[name] for name in missing]
        for place, outcome in measure_all(todo, jobs=jobs, progress=lambda done: bar.update(task, completed=done)):
            known[missing[place]] = outcome
            store.put(todo[place], outcome)
    return {name: outcome for name, outcome in known.items() if outcome is not None}


# ------------------------------------------------------------------------------------------------ names for passes
def _keep(name: str, passes: Passes) -> None:
    """Remember these passes by a name."""
    directory = STORE / "kept" / _safe(name)
    directory.mkdir(parents=True, exist_ok=True)
    for (log, part), outcome in passes.items():
        (directory / f"{log}.{part}.npz").write_bytes(packed(outcome))


def _kept(name: str) -> Passes:
    """What was remembered by a name. SettingsError where nothing was."""
    files = sorted((STORE / "kept" / _safe(name)).glob("*.npz"))
    if not files:
        raise SettingsError(f"--against {name}: nothing was kept by this name (--keep {name} does)")
    return {(file.name.split(".")[0], file.name.split(".")[1]): unpacked(file.read_bytes()) for file in files}


def _safe(name: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise SettingsError(f"{name!r}: a name of letters, digits, . _ and -")
    return name


# ------------------------------------------------------------------------------------------------ tables
def table(title: str, outcome: Outcome) -> Table:
    """A row per source: measures with the standard error of the first, and HR in the segments."""
    found = compact(
        f"{title}: {len(outcome.users):,} lists of {outcome.n}", "source", "HR", "±", "NDCG", "MRR", *SEGMENTS.values()
    )
    for name in sorted(outcome.ranks, key=lambda name: (name != FUSED, -_hits(outcome, name))):
        overall = outcome.measured(name)
        if overall is None:
            continue
        parts = (outcome.measured(name, segment) for segment in SEGMENTS)
        found.add_row(
            name, figure(overall.hr.mean), figure(overall.hr.se), figure(overall.ndcg.mean), figure(overall.mrr.mean),
            *("–" if part is None else figure(part.hr.mean) for part in parts), style="bold" if name == FUSED else None,
        )  # fmt: skip
    return found


def changes(title: str, outcome: Outcome, before: Outcome) -> Table:
    """Differences from an earlier pass with their standard errors, paired by list and clustered by user."""
    found = compact(title, "source", *(f"{measure}{sign}" for measure in MEASURES for sign in ("", " ±")), *SEGMENTS.values())
    for name in [name for name in outcome.ranks if name in before.ranks]:
        change = differences(outcome, before, source=name, other_source=name)
        if change is None or not any(change[measure].se for measure in MEASURES):
            continue
        parts = [differences(outcome, before, source=name, other_source=name, segment=segment) for segment in SEGMENTS]
        found.add_row(
            name, *(cell for measure in MEASURES for cell in (figure(change[measure].mean, "+"), figure(change[measure].se))),
            *("–" if part is None else figure(part["hr"].mean, "+") for part in parts), style="bold" if name == FUSED else None,
        )  # fmt: skip
    return found


def _hits(outcome: Outcome, name: str) -> int:
    return int((outcome.ranks[name] >= 0).sum())


if __name__ == "__main__":
    typer.run(quality)
