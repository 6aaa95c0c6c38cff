"""The PromQL that panels are made of."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import SELECT

RATE: Final = "[$__rate_interval]"


def rate(metric: str, by: str, matchers: str = "") -> str:
    """Events per second of a counter, summed by `by`."""
    return f"sum by ({by}) (rate({metric}{{{SELECT}{', ' + matchers if matchers else ''}}}{RATE}))"


def total(metric: str) -> str:
    """Events per second of a counter, over everything."""
    return f"sum(rate({metric}{{{SELECT}}}{RATE}))"


def quantile(q: float, histogram: str, by: str = "", matchers: str = "") -> str:
    """A quantile of a histogram over all instances."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', labels, matchers)})"
