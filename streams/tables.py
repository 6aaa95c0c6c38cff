"""Tables of figures for the terminal: narrow, so that many columns fit."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH: Final = 110
"""Columns to use where there is no terminal, as in a pipe."""
UNKNOWN: Final = "–"


def compact(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are figures."""
    heading = Text(title, style="table.title", no_wrap=True, overflow="ignore")  # may be wider than the table
    table = Table(*columns, title=heading, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.columns[0].overflow, table.columns[0].min_width = "fold", 12
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    return table


def console() -> Console:
    """Standard output, wide enough for a table."""
    out = Console()
    if not out.is_terminal:
        out.width = max(out.width, WIDTH)
    return out


def figure(value: float | None, sign: str = "") -> str:
    """Four digits behind the point and no 0 before it; whole numbers with commas; a dash for None."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int):
        return f"{value:{sign},}"
    return f"{value:{sign}.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:{sign}.4f}"
