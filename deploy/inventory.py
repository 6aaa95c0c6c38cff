"""What the processes export, read off the live objects: the truth that documentation, dashboards and rules are held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from streams.metrics import Metrics, lag_family, owned_family, replica_family, size_families

OPEN_LABELS: Final = {
    "arm": "name of an arm",
    "partition": "number",
    "part": "part of the model",
    "version": "of Freshet",
    "python": "version",
    "source": "served, fused, or name of a source",
}
"""Labels whose values depend on the deployment (few and bounded), and what they hold; all others have closed sets of values."""

_TYPES_WITH_TOTAL: Final = ("counter",)


@dataclass(frozen=True)
class Exported:
    """One metric as it is scraped. `labels`: name -> the values it can have, empty where they are open."""

    name: str
    kind: str
    help: str
    labels: dict[str, tuple[str, ...]]

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series in Prometheus."""
        suffixes = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}.get(self.kind, ("",))
        return tuple(self.name + suffix for suffix in suffixes)


def process() -> Metrics:
    """The metrics of a process with all roles, as scraped: with one sample of what is read off live objects."""
    metrics = Metrics(CollectorRegistry())
    topics = ("clicks", "purchases", "reviews", "items", "erasures", "interactions", "impressions", "item-texts")
    replicated = ("interactions", "items", "item-vectors", "review-vectors", "recommendations", "weights")
    metrics.tested(["item_cf", "popularity"])
    metrics.watch(lambda: [lag_family({(topic, 0): 0 for topic in topics})])
    metrics.watch(lambda: owned_family(dict.fromkeys(topics, 0), 1))
    metrics.watch(lambda: [replica_family(dict.fromkeys(replicated, 0))])
    metrics.watch(lambda: size_families({"users": (0, 1)}))
    return metrics


def exported() -> list[Exported]:
    """Every metric, in the order of export."""
    found = []
    for family in process().registry.collect():
        labels: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label != "le":
                    labels.setdefault(label, {})[value] = None
        closed = {label: () if label in OPEN_LABELS else tuple(values) for label, values in labels.items()}
        name = family.name + "_total" if family.type in _TYPES_WITH_TOTAL else family.name
        found.append(Exported(name, family.type, family.documentation, closed))
    return found
