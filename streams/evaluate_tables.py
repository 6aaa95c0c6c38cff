"""A report of `models.evaluation` for people: tables in the terminal, and a picture of how the lists do over the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from streams.tables import UNKNOWN, compact, figure

ACCURACY: Final = (
    ("hr", "HR"), ("hr_se", "±"), ("ndcg", "NDCG"), ("ndcg_se", "±"), ("mrr", "MRR"), ("mrr_se", "±"), ("precision", "P"),
    ("recall", "R"), ("f1", "F1"),
)  # fmt: skip
SPREAD: Final = (
    ("coverage", "coverage"), ("gini", "Gini"), ("diversity", "ILD"), ("novelty", "novelty"), ("short_lists", "short"),
)  # fmt: skip
SEGMENTS: Final = {
    "reachable": "reach", "first event": "first", "cold user": "c.user", "warm user": "w.user", "cold item": "c.item",
    "warm item": "w.item",
}  # fmt: skip
WITH_ERRORS: Final = ("cold user", "cold item")


def show(report: dict[str, Any], console: Console) -> None:
    """Print all tables of a report."""
    n = report["protocol"]["n"]
    console.print(f"{report['events']:,} events, {report['scored']:,} scored, {report['items']:,} items", highlight=False)
    if not report["scored"]:
        console.print("[yellow]Nothing was scored: there is no positive event after the warm-up.[/yellow]")
        return
    console.print(_sources(report, ACCURACY, f"Lists of {n}"))
    console.print(_segments(report, n))
    console.print(_sources(report, SPREAD, "What is shown"))
    if report["ratings"] is not None:
        console.print(_ratings(report["ratings"]))


def _sources(report: dict[str, Any], columns: tuple[tuple[str, str], ...], title: str) -> Table:
    """A row per source."""
    table = compact(title, "source", *(heading for _, heading in columns))
    for name, row in report["sources"].items():
        table.add_row(name, *(figure(row[key]) for key, _ in columns), style=_style(name))
    return table


def _segments(report: dict[str, Any], n: int) -> Table:
    """HR of every source by segment; below it the number of lists."""
    segments = next(iter(report["segments"].values()))
    used = {key: heading for key, heading in SEGMENTS.items() if segments[key]["n"]}
    columns = [(key, measure) for key in used for measure in (("hr", "hr_se") if key in WITH_ERRORS else ("hr",))]
    headings = (used[key] if measure == "hr" else "±" for key, measure in columns)
    table = compact(f"HR@{n}: reachable items, first events, cold and warm users and items", "source", *headings)
    for name, measured in report["segments"].items():
        table.add_row(name, *(figure(measured[key][measure]) for key, measure in columns), style=_style(name))
    table.add_section()
    table.add_row("lists", *(figure(segments[key]["n"]) if measure == "hr" else "" for key, measure in columns))
    return table


def _style(name: str) -> str | None:
    return "bold" if name == "fused" else None


def _ratings(ratings: dict[str, Any]) -> Table:
    labels = {"model": "model", "median": "always the median", "mean": "always the mean"}
    table = compact(f"Ratings: {ratings['n']:,} predicted before they were learned", "predictor", "MAE", "RMSE")
    for key, label in labels.items():
        table.add_row(label, figure(ratings[key]["mae"]), figure(ratings[key]["rmse"]))
    return table


# ------------------------------------------------------------------------------------------------ variants beside each other
def show_grid(report: dict[str, Any], console: Console) -> None:
    """The fused list of each cell, and what it has more than that of the first."""
    n, rows = report["protocol"]["n"], report["variants"]
    columns = ("HR", "±", "NDCG", "MRR", "ΔHR", "±", "ΔNDCG", "±", "Δc.user", "Δc.item")
    table = compact(f"{report['scored']:,} lists of {n}; Δ: more than the first", "settings", *columns)
    for k, row in enumerate(rows):
        fused = row["report"]["sources"].get("fused")
        if fused is None:
            continue
        change = _changes(row, 1.0) if k else [""] * 6
        figures = (figure(fused[key]) for key in ("hr", "hr_se", "ndcg", "mrr"))
        table.add_row(row["name"], *figures, *change)
    console.print(table)


def show_ablation(report: dict[str, Any], console: Console) -> None:
    """What each source adds to the fused list: the list of everything less that without the source."""
    n, (everything, *rest) = report["protocol"]["n"], report["variants"]
    columns = ("HR without", "adds HR", "±", "adds NDCG", "±", "c.user", "c.item")
    whole = everything["report"]["sources"].get("fused")
    title = f"{report['scored']:,} lists of {n}: what each source adds to HR {figure(whole['hr']) if whole else UNKNOWN}"
    table = compact(title, "source", *columns)
    by_worth = sorted(rest, key=lambda row: (row["difference"]["all"] or {"hr": {"mean": 0.0}})["hr"]["mean"])
    for row in by_worth:
        fused = row["report"]["sources"].get("fused")
        table.add_row(row["name"], figure(fused["hr"] if fused else None), *_changes(row, -1.0))
    console.print(table)


def _changes(row: dict[str, Any], sign: float) -> list[str]:
    """HR and NDCG with their errors, then HR of cold users and of cold items."""
    overall, cells = row["difference"]["all"], []
    for measure in ("hr", "ndcg"):
        cells += [_signed(overall and overall[measure]["mean"], sign), figure(overall and overall[measure]["se"])]
    for segment in ("cold user", "cold item"):
        part = row["difference"][segment]
        cells.append(_signed(part and part["hr"]["mean"], sign))
    return cells


def _signed(value: float | None, sign: float) -> str:
    return UNKNOWN if value is None else figure(sign * value + 0.0, "+")


# ------------------------------------------------------------------------------------------------ pictures
class PlotUnavailableError(RuntimeError):
    """Matplotlib is not installed."""


def plot(report: dict[str, Any], path: Path) -> None:
    """A PNG of the hit rate over the stream, one line per source.

    Raises `PlotUnavailableError` without matplotlib (an optional dependency).
    """
    _draw(path, report["curves"]["event"], report["curves"]["hr"], report["protocol"]["n"], thick="fused")


def plot_variants(report: dict[str, Any], path: Path) -> None:
    """A PNG of the hit rate of the fused list over the stream, one line per variant."""
    rows = report["variants"]
    lines = {row["name"]: row["report"]["curves"]["hr"].get("fused", []) for row in rows}
    _draw(path, rows[0]["report"]["curves"]["event"], lines, report["protocol"]["n"], thick=rows[0]["name"])


def _draw(path: Path, positions: Sequence[int], lines: Mapping[str, Sequence[float]], n: int, *, thick: str) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotUnavailableError("--plot needs matplotlib: pip install 'freshet[plot]'") from None
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in lines.items():
        main = name == thick
        axes.plot(positions, values, label=name, linewidth=2.5 if main else 1.0, zorder=3 if main else 2)
    axes.set_xlabel("events of the stream")
    axes.set_ylabel(f"HR@{n}, each point a fortieth of the scored events")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, format="png", dpi=120)
