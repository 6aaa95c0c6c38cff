"""What a pass has measured, as plain data: dictionaries, lists, numbers and strings only, ready for JSON or for tables."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import structs

from models.evaluation.metrics import Estimate, RankMetrics, RatingErrors, gini, rank_metrics
from models.evaluation.prequential import FUSED, SEGMENTS, Evaluation

CURVE_POINTS: Final = 40
"""Points of a curve over the stream: each is the mean of one part of the scored events."""


def report(result: Evaluation) -> dict[str, Any]:
    """`sources`: name -> measures over all scored events, fused first, then by HR; `segments`: the fused list's (or the only
    source's) by segment; `curves`: HR over the stream per source; `ratings`: MAE and RMSE beside the constants, where rated.
    """
    protocol = result.plan.protocol
    names = sorted(result.ranks, key=lambda name: (name != FUSED, -_hit_rate(result, name)))
    return {
        "protocol": structs.asdict(protocol) | {"kinds": sorted(protocol.kinds) if protocol.kinds else None},
        "events": len(result.plan.events),
        "scored": len(result.plan.scored),
        "items": result.items,
        "sources": {name: _source(result, name) for name in names},
        "segments": {name: _segments(result, name) for name in names},
        "curves": {"event": _curve_positions(result), "hr": {name: _curve(result, name) for name in names}},
        "ratings": _ratings(result.ratings),
    }


def _hit_rate(result: Evaluation, name: str) -> float:
    ranks = result.ranks[name]
    return float((ranks >= 0).mean()) if len(ranks) else 0.0


def _source(result: Evaluation, name: str) -> dict[str, Any]:
    exposure = result.exposure[name]
    return _plain(rank_metrics(result.ranks[name], result.users, result.plan.protocol.n)) | {
        "coverage": len(exposure.shown) / max(1, result.items),
        "gini": gini(exposure.shown.values(), result.items),
        "diversity": exposure.diversity,
        "novelty": exposure.novelty,
        "short_lists": exposure.short,
    }


def _segments(result: Evaluation, name: str) -> dict[str, Any]:
    rows = {segment: result.segment(segment) for segment in SEGMENTS}
    n = result.plan.protocol.n
    return {segment: _plain(rank_metrics(result.ranks[name][on], result.users[on], n)) for segment, on in rows.items()}


def _plain(metrics: RankMetrics | None) -> dict[str, Any]:
    """Means by name, standard errors as `<name>_se`."""
    if metrics is None:
        return {"n": 0}
    plain: dict[str, Any] = {}
    for name, value in structs.asdict(metrics).items():
        if isinstance(value, Estimate):
            plain |= {name: value.mean, f"{name}_se": value.se}
        else:
            plain[name] = value
    return plain


def _parts(count: int) -> list[np.ndarray[Any, np.dtype[np.intp]]]:
    return [part for part in np.array_split(np.arange(count), CURVE_POINTS) if len(part)]


def _curve_positions(result: Evaluation) -> list[int]:
    """The place in the log of the last event of each part."""
    scored = list(result.plan.scored)
    return [scored[part[-1]] for part in _parts(len(scored))]


def _curve(result: Evaluation, name: str) -> list[float]:
    hits = result.ranks[name] >= 0
    return [float(hits[part].mean()) for part in _parts(len(hits))]


def _ratings(errors: RatingErrors) -> dict[str, Any] | None:
    if not errors.n:
        return None
    measured = {name: {"mae": errors.mae(name), "rmse": errors.rmse(name)} for name in errors.PREDICTORS}
    return {"n": errors.n} | measured
