"""A report of `models.evaluation.rating_study` for people: predictors without neighbours, then systems by K."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.table import Table

from streams.tables import compact

MEASURES: Final = {"mae": "MAE", "rmse": "RMSE"}


def show(report: dict[str, Any], console: Console) -> None:
    """Print all tables of a report. The smallest error of each measure and table is bold."""
    console.print(f"{report['reviews']:,} reviews, {report['tested']:,} predicted before they were learned", highlight=False)
    if not report["tested"]:
        console.print("[yellow]Nothing was predicted: there is no rating after the warm-up.[/yellow]")
        return
    console.print(_baselines(report["baselines"]))
    for measure, heading in MEASURES.items():
        console.print(_systems(report, measure, heading))
    console.print(
        "reach: predictions with at least one neighbour; the others are the mean of the user (of the item)", style="dim"
    )


def _baselines(baselines: dict[str, Any]) -> Table:
    """A row per predictor without a K to choose."""
    table = compact("Constants, means, biases and factors", "predictor", "MAE", "±", "RMSE")
    best = {measure: min(row[measure] for row in baselines.values()) for measure in MEASURES}
    for name, row in baselines.items():
        table.add_row(name, _cell(row["mae"], best["mae"]), f"{row['mae_se']:.4f}", _cell(row["rmse"], best["rmse"]))
    return table


def _systems(report: dict[str, Any], measure: str, heading: str) -> Table:
    """A row per system, a column per K."""
    ks = [str(k) for k in report["protocol"]["ks"]]
    table = compact(f"{heading} by number of neighbours", "system", *(f"K={k}" for k in ks), "reach")
    best = min(row["by_k"][k][measure] for row in report["systems"].values() for k in ks)
    for name, row in report["systems"].items():
        table.add_row(name, *(_cell(row["by_k"][k][measure], best) for k in ks), f"{row['with_neighbour']:.0%}")
    return table


def _cell(value: float, best: float) -> str:
    return f"[bold]{value:.4f}[/bold]" if value == best else f"{value:.4f}"
