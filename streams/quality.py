"""`freshet quality`: how good are the lists on the public logs, or on one's own? Behind it `make quality`.

    freshet quality --logs gift-cards,musical-instruments         # every source and the fused list, in this process
    freshet quality --only fused                                  # the fused list alone, asked in lock-step
    freshet quality --keep before                                 # remember these figures by a name ...
    freshet quality --set fusion_rate=0.05 --against before       # ... and hold a change against them, list by list
    freshet quality --page docs/quality.md --jobs 2               # everything, as a page

What was measured once is kept (see `quality_store`) and only measured again when something changes that it depends on.
`python -m streams.quality` is the same command.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from models.evaluation import Protocol
from models.evaluation.outcome import MEASURES, Outcome, differences
from models.evaluation.prequential import FUSED
from streams import quality_passes as passes
from streams.convert import EventFileError
from streams.evaluate_passes import Spec
from streams.evaluate_variants import configured
from streams.lockstep_client import LockstepError
from streams.quality_logs import LOGS, PublicLog, chosen, folder, own
from streams.quality_page import Measured, page
from streams.quality_passes import PARTS, Name, Passes
from streams.quality_store import Store, code, packed, unpacked
from streams.settings import SettingsError
from streams.tables import compact, console, figure
from streams.text_encoder import EncoderError

errors = Console(stderr=True)
STORE: Final = Path(".freshet/quality")
SEGMENTS: Final = {"cold user": "c.user", "warm user": "w.user", "cold item": "c.item", "warm item": "w.item"}

_NAMES: Final = ",".join(log.name for log in LOGS)
_PARTS: Final = "; ".join(f"{part}: {meaning}" for part, meaning in PARTS.items())


def quality(
    files: Annotated[list[Path] | None, typer.Argument(help="Logs of one's own, one by one; without: the public ones.")] = None,
    logs: Annotated[str | None, typer.Option("--logs", help=f"Of {_NAMES}; without: all.")] = None,
    only: Annotated[str | None, typer.Option("--only", help=f"{_PARTS}. Without: sources; for a page all.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the model, name=value; repeatable.")] = None,
    repeats: Annotated[bool, typer.Option("--repeats", help="One's own logs: own items may be recommended and count.")] = False,
    text: Annotated[bool, typer.Option("--text/--no-text", help="One's own logs: embed what is said (cached).")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many events of each log: a quick look.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is known.")] = False,
    keep: Annotated[str | None, typer.Option("--keep", help="Remember what was measured by this name.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Differences from what was remembered by this name.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write all reports to this file.")] = None,
    page_out: Annotated[Path | None, typer.Option("--page", help="Write a page in Markdown to this file.")] = None,
) -> None:
    """Measure the lists on the public logs in the folder FRESHET_DATA, or on one's own, with the defaults for all."""
    try:
        parts = _parts(only, everything=page_out is not None)
        wanted = [own(path, Protocol(repeats=repeats), text=text) for path in files] if files else chosen(logs)
        there, missing = _present(wanted)
        before = _kept(against) if against is not None else {}
        found = _measured(there, parts, settings, limit, jobs, fresh=fresh)
        if keep is not None:
            _keep(keep, found)
        if page_out is not None:
            unmeasured = missing | {log.title: "not part of this run" for log in LOGS if not files and log not in wanted}
            page_out.write_text(page(_by_log(there, found), unmeasured, code(), limit), encoding="utf-8")
        if json_out is not None:
            reports = {f"{name}/{part}": outcome.report for (name, part), outcome in found.items()}
            json_out.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
        tables = list(_tables(found, before, against or ""))
    except (EventFileError, SettingsError, EncoderError, LockstepError, ValueError, OSError) as problem:
        errors.print(f"[red]freshet:[/red] {escape(str(problem))}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    out = console()
    for one in tables:
        out.print(one)


def _parts(only: str | None, *, everything: bool) -> list[str]:
    if only is None:
        return list(PARTS) if everything else [passes.SOURCES]
    parts = [part.strip() for part in only.split(",") if part.strip()]
    if unknown := set(parts) - set(PARTS):
        raise SettingsError(f"--only {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    return parts


def _present(logs: Sequence[PublicLog]) -> tuple[list[PublicLog], dict[str, str]]:
    """Those whose files are there, and why the others are not measured, which is said. SettingsError where none is there."""
    missing = {log.title: problem for log in logs if (problem := log.missing(folder(os.environ)))}
    for title, problem in missing.items():
        errors.print(f"[yellow]{escape(title)} skipped: {escape(problem)}[/yellow]", highlight=False, soft_wrap=True)
    there = [log for log in logs if log.title not in missing]
    if not there:
        raise SettingsError("none of the logs is there: nothing to measure")
    return there, dict.fromkeys(missing, "its files were not there")


def _measured(
    logs: Sequence[PublicLog], parts: Sequence[str], settings: Sequence[str] | None, limit: int | None, jobs: int, *, fresh: bool
) -> Passes:
    """Every pass of these parts, with a bar."""
    config, place = configured(settings, environment={}), folder(os.environ)
    if passes.ABLATION in parts and passes.SOURCES not in parts:
        parts = [passes.SOURCES, *parts]  # what they are held against
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())

    def too_large(name: Name, problem: ValueError) -> None:
        errors.print(f"[yellow]{name[0]}: no plain ItemCF: {escape(str(problem))}[/yellow]", highlight=False, soft_wrap=True)

    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task("looking for what is known", total=None)

        def measure(wanted: dict[Name, Spec]) -> Passes:
            def told(count: int, done: float) -> None:
                bar.update(task, description=f"{count} of {len(wanted)} passes", total=count, completed=done)

            return passes.measured(wanted, Store(STORE), jobs=jobs, fresh=fresh, progress=told, too_large=too_large)

        found = measure(passes.specs(logs, parts, place, config, limit))
        if passes.ABLATION in parts:
            found |= measure(passes.ablation_specs(logs, found, place, config, limit))
        return found


def _by_log(logs: Sequence[PublicLog], found: Passes) -> list[Measured]:
    """The passes of each log, for the page."""
    return [
        Measured(
            log=log,
            sources=found.get((log.name, passes.SOURCES)),
            fused=found.get((log.name, passes.FUSED)),
            plain=found.get((log.name, passes.PLAIN)),
            unseated=found.get((log.name, passes.NEWCOMERS)),
            without={
                part.partition(":")[2]: outcome
                for (name, part), outcome in found.items()
                if name == log.name and part.startswith(f"{passes.ABLATION}:")
            },
        )
        for log in logs
    ]


# ------------------------------------------------------------------------------------------------ names for passes
def _keep(name: str, found: Passes) -> None:
    """Remember these passes by a name."""
    directory = STORE / "kept" / _safe(name)
    directory.mkdir(parents=True, exist_ok=True)
    for (log, part), outcome in found.items():
        (directory / f"{_safe(log)}.{part.replace(':', '.')}.npz").write_bytes(packed(outcome))


def _kept(name: str) -> Passes:
    """What was remembered by a name. SettingsError where nothing was."""
    found: Passes = {}
    for file in sorted((STORE / "kept" / _safe(name)).glob("*.npz")):
        log, part = file.name.removesuffix(".npz").split(".", 1)
        found[log, part.replace(".", ":", 1)] = unpacked(file.read_bytes())
    if not found:
        raise SettingsError(f"--against {name}: nothing was kept by this name (--keep {name} does)")
    return found


def _safe(name: str) -> str:
    if not re.fullmatch(r"[\w-]+", name):
        raise SettingsError(f"{name!r}: a name is made of letters, digits, _ and -")
    return name


# ------------------------------------------------------------------------------------------------ tables
def _tables(found: Passes, before: Passes, against: str) -> Iterator[Table]:
    """What was measured; differences from an earlier pass; what each source adds."""
    for (name, part), outcome in found.items():
        if not part.startswith(f"{passes.ABLATION}:"):
            yield table(f"{name}, {part}", outcome)
        if (name, part) in before:
            yield changes(f"{name}, {part}: less what was kept as {against}", outcome, before[name, part])
    for log in dict.fromkeys(name for name, _ in found):
        whole = found.get((log, passes.SOURCES))
        without = {part.partition(":")[2]: o for (name, part), o in found.items() if name == log and ":" in part}
        if whole is not None and without:
            yield _worth(f"{log}: what each source adds to the fused list", whole, without)


def table(title: str, outcome: Outcome) -> Table:
    """A row per source: measures with the standard error of the first, and HR in the segments."""
    title = f"{title}: {len(outcome.users):,} lists of {outcome.n}"
    found = compact(title, "source", "HR", "±", "NDCG", "MRR", *SEGMENTS.values())
    for name in sorted(outcome.ranks, key=lambda name: (name != FUSED, -_hits(outcome, name))):
        overall = outcome.measured(name)
        if overall is None:
            continue
        parts = (outcome.measured(name, segment) for segment in SEGMENTS)
        found.add_row(
            name, figure(overall.hr.mean), figure(overall.hr.se), figure(overall.ndcg.mean), figure(overall.mrr.mean),
            *(figure(part.hr.mean if part else None) for part in parts), style="bold" if name == FUSED else None,
        )  # fmt: skip
    return found


def changes(title: str, outcome: Outcome, before: Outcome) -> Table:
    """Differences from an earlier pass with their standard errors, paired by list and clustered by user; equal sources are left
    out."""
    found = compact(title, "source", *(cell for measure in MEASURES for cell in (f"Δ{measure}", "±")), *SEGMENTS.values())
    for name in [name for name in outcome.ranks if name in before.ranks]:
        if row := _change(outcome, before, name):
            found.add_row(name, *row, style="bold" if name == FUSED else None)
    if not found.rows:
        found.add_row("no difference")
    return found


def _worth(title: str, whole: Outcome, without: dict[str, Outcome]) -> Table:
    """What the fused list has more than without each source."""
    found = compact(title, "source", *(cell for measure in MEASURES for cell in (measure, "±")), *SEGMENTS.values())
    for name, outcome in without.items():
        found.add_row(name, *(_change(whole, outcome, FUSED) or ["no difference"]))
    return found


def _change(outcome: Outcome, before: Outcome, name: str) -> list[str]:
    """Cells of a row of differences; none where every list is equal."""
    change = differences(outcome, before, source=name, other_source=name)
    if change is None or not any(change[measure].mean or change[measure].se for measure in MEASURES):
        return []
    parts = [differences(outcome, before, source=name, other_source=name, segment=segment) for segment in SEGMENTS]
    overall = [cell for measure in MEASURES for cell in (figure(change[measure].mean, "+"), figure(change[measure].se))]
    return [*overall, *(figure(part["hr"].mean if part else None, "+") for part in parts)]


def _hits(outcome: Outcome, name: str) -> int:
    return int((outcome.ranks[name] >= 0).sum())


if __name__ == "__main__":
    typer.run(quality)
