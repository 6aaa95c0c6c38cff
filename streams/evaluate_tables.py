"""A report of `models.evaluation` for people: tables in the terminal, and a picture of how the sources do over the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

ACCURACY: Final = (
    ("hr", "HR"), ("hr_se", "±"), ("ndcg", "NDCG"), ("mrr", "MRR"), ("precision", "P"), ("recall", "R"), ("f1", "F1"),
)  # fmt: skip
SPREAD: Final = (
    ("coverage", "coverage"), ("gini", "Gini"), ("diversity", "ILD"), ("novelty", "novelty"), ("short_lists", "short"),
)  # fmt: skip
SEGMENTS: Final = {
    "reachable": "reach", "first event": "first", "cold user": "c.user", "warm user": "w.user", "cold item": "c.item",
    "warm item": "w.item",
}  # fmt: skip


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
    table = Table("source", *(heading for _, heading in columns), title=title)
    for name, row in report["sources"].items():
        table.add_row(name, *(_number(row[key]) for key, _ in columns), style=_style(name))
    return _right(table)


def _segments(report: dict[str, Any], n: int) -> Table:
    """HR of every source by segment; below it the number of lists."""
    segments = next(iter(report["segments"].values()))
    used = {key: heading for key, heading in SEGMENTS.items() if segments[key]["n"]}
    table = Table("source", *used.values(), title=f"HR@{n}: reachable items, first events, cold and warm users and items")
    for name, measured in report["segments"].items():
        table.add_row(name, *(_number(measured[key]["hr"]) for key in used), style=_style(name))
    table.add_section()
    table.add_row("lists", *(f"{segments[key]['n']:,}" for key in used))
    return _right(table)


def _style(name: str) -> str | None:
    return "bold" if name == "fused" else None


def _ratings(ratings: dict[str, Any]) -> Table:
    labels = {"model": "model", "median": "always the median", "mean": "always the mean"}
    table = Table("predictor", "MAE", "RMSE", title=f"Ratings ({ratings['n']:,} predicted before they were learned)")
    for key, label in labels.items():
        table.add_row(label, f"{ratings[key]['mae']:.4f}", f"{ratings[key]['rmse']:.4f}")
    return _right(table)


def _right(table: Table) -> Table:
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


class PlotUnavailableError(RuntimeError):
    """Matplotlib is not installed."""


def plot(report: dict[str, Any], path: Path) -> None:
    """A PNG of the hit rate over the stream, one line per source.

    Raises `PlotUnavailableError` without matplotlib (an optional dependency).
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotUnavailableError("--plot needs matplotlib: pip install 'freshet[plot]'") from None
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, values in report["curves"]["hr"].items():
        fused = name == "fused"
        axes.plot(report["curves"]["event"], values, label=name, linewidth=2.5 if fused else 1.0, zorder=3 if fused else 2)
    axes.set_xlabel("events of the stream")
    axes.set_ylabel(f"HR@{report['protocol']['n']}, each point a fortieth of the scored events")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, format="png", dpi=120)
