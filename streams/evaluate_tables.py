"""A report of `models.evaluation` for people: tables in the terminal, and a picture of how the sources do over the stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

COLUMNS: Final = (("hr", "HR"), ("ndcg", "NDCG"), ("mrr", "MRR"), ("precision", "P"), ("recall", "R"), ("f1", "F1"))
SPREAD: Final = (("coverage", "coverage"), ("gini", "Gini"), ("diversity", "ILD"), ("novelty", "novelty, bit"))


def show(report: dict[str, Any], console: Console) -> None:
    """Print all tables of a report."""
    n = report["protocol"]["n"]
    console.print(f"{report['events']:,} events, {report['scored']:,} scored, {report['items']:,} items", highlight=False)
    if not report["scored"]:
        console.print("[yellow]Nothing was scored: there is no positive event after the warm-up.[/yellow]")
        return
    console.print(_sources(report, n))
    console.print(_segments(report, n))
    if report["ratings"] is not None:
        console.print(_ratings(report["ratings"]))


def _sources(report: dict[str, Any], n: int) -> Table:
    table = Table("source", *(f"{title}@{n}" for _, title in COLUMNS), *(title for _, title in SPREAD), title="Lists")
    for name, row in report["sources"].items():
        measured = [_estimate(row, key) for key, _ in COLUMNS]
        spread = [_number(row[key]) for key, _ in SPREAD]
        table.add_row(name, *measured, *spread, style="bold" if name == "fused" else None)
    return _right(table)


def _segments(report: dict[str, Any], n: int) -> Table:
    """HR by segment, one column per source."""
    names = list(report["sources"])
    table = Table("segment", "lists", *names, title=f"HR@{n} by what was known")
    for segment, first in report["segments"][names[0]].items():
        if first["n"]:
            table.add_row(segment, f"{first['n']:,}", *(_number(report["segments"][name][segment]["hr"]) for name in names))
    return _right(table)


def _ratings(ratings: dict[str, Any]) -> Table:
    labels = {"model": "model", "median": "always the median", "mean": "always the mean"}
    table = Table("predictor", "MAE", "RMSE", title=f"Ratings ({ratings['n']:,} predicted before they were learned)")
    for key, label in labels.items():
        table.add_row(label, f"{ratings[key]['mae']:.4f}", f"{ratings[key]['rmse']:.4f}")
    return _right(table)


def _right(table: Table) -> Table:
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    return table


def _estimate(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.4f} ±{row[key + '_se']:.4f}" if key == "hr" else f"{row[key]:.4f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


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
