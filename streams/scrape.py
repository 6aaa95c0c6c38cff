"""What a process says on `/metrics`, read back: values, sums over labels, histograms and their quantiles between two readings."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

_LINE: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Scrape:
    """One reading of `/metrics`. `at` is the reader's monotonic clock in seconds."""

    def __init__(self, text: str, at: float) -> None:
        self.at = at
        self._series: dict[str, list[tuple[dict[str, str], float]]] = {}
        for line in text.splitlines():
            found = _LINE.match(line)
            if found:
                labels = dict(_LABEL.findall(found[2] or ""))
                self._series.setdefault(found[1], []).append((labels, float(found[3])))

    def total(self, name: str, **labels: str) -> float:
        """The sum over the series of that name which carry these labels; 0 where there is none."""
        return sum(value for have, value in self._series.get(name, ()) if _carries(have, labels))

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Sums by the values of some labels."""
        sums: dict[tuple[str, ...], float] = {}
        for have, value in self._series.get(name, ()):
            key = tuple(have.get(label, "") for label in labels)
            sums[key] = sums.get(key, 0.0) + value
        return sums

    def buckets(self, name: str) -> dict[float, float]:
        """A histogram: upper edge -> observations at or below it, in ascending order."""
        found = self.by(f"{name}_bucket", "le")
        return dict(sorted((float(le), count) for (le,), count in found.items()))


def _carries(have: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(have.get(label) == value for label, value in wanted.items())


def scrape(url: str, timeout_s: float = 5.0) -> Scrape | None:
    """The metrics now; None where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310  an address on our own machine
            return Scrape(answer.read().decode(), time.monotonic())
    except (OSError, urllib.error.URLError, ValueError):
        return None


def quantile(q: float, name: str, new: Scrape, old: Scrape | None = None) -> float | None:
    """The q-quantile of what a histogram observed between two readings (without `old`: ever); None without observations.

    Linear inside a bucket, as Prometheus' `histogram_quantile`; the last finite edge for what lies beyond it.
    """
    before = old.buckets(name) if old is not None else {}
    counts = [(edge, count - before.get(edge, 0.0)) for edge, count in new.buckets(name).items()]
    if not counts or counts[-1][1] <= 0:
        return None
    rank, lower, below = q * counts[-1][1], 0.0, 0.0
    for edge, count in counts:
        if count >= rank:
            if edge == float("inf"):
                return lower
            return lower + (edge - lower) * ((rank - below) / (count - below) if count > below else 1.0)
        lower, below = edge, count
    return lower
