"""For each alert: series that fire it and series that do not, in promtool's notation (one value a minute).

`a+bxn` is a, a+b, ... n more values; `axn` is a, repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

WORKER = 'job="freshet-worker", instance="w1:9464"'
EMBEDDER = 'job="freshet-embedder", instance="e1:9464"'
JOB = {"job": "freshet-worker"}


@dataclass(frozen=True)
class Case:
    """`labels` and `value` are those of the alert that must fire at `minute`; labels None: none may."""

    alert: str
    minute: int
    series: dict[str, str]
    labels: dict[str, str] | None = None
    value: str = ""


def freshness(*phases: tuple[int, int]) -> dict[str, str]:
    """A hundred events a minute; phases of (minutes, how many of the hundred are within 1 s)."""
    fast, values = 0, ["0"]
    for minutes, within in phases:
        values.append(f"{fast + within}+{within}x{minutes - 1}")
        fast += within * minutes
    return {
        f'freshet_freshness_seconds_bucket{{{WORKER}, le="1.0"}}': " ".join(values),
        f"freshet_freshness_seconds_count{{{WORKER}}}": f"0+100x{sum(minutes for minutes, _ in phases)}",
    }


def stalled(topic: str, batches: str) -> dict[str, str]:
    return {
        f'freshet_lag_records{{{WORKER}, topic="{topic}", partition="0"}}': "30x20",
        f'freshet_lag_records{{{WORKER}, topic="{topic}", partition="1"}}': "20x20",
        f'freshet_batch_records_count{{{WORKER}, agent="recommend"}}': batches,
        f'freshet_batch_records_count{{{WORKER}, agent="ingest"}}': "0+10x20",
    }


def letters(refused: str, valid: str) -> dict[str, str]:
    return {
        f'freshet_dead_letters_total{{{WORKER}, topic="clicks", reason="empty"}}': refused,
        f'freshet_dead_letters_total{{{WORKER}, topic="clicks", reason="invalid_json"}}': "0x20",
        f'freshet_events_total{{{WORKER}, topic="clicks"}}': valid,
    }


def clicks(attributed: str, missed: str) -> dict[str, str]:
    return {
        f'freshet_clicks_attributed_total{{{WORKER}, arm="default", position="1"}}': attributed,
        f'freshet_clicks_unattributed_total{{{WORKER}, reason="no_list"}}': missed,
    }


CASES = [
    Case("FreshetDown", 4, {f"up{{{WORKER}}}": "1 1 0x5"}, {"job": "freshet-worker", "instance": "w1:9464"}),
    Case("FreshetDown", 4, {f"up{{{WORKER}}}": "1 1 0 1x5", 'up{job="qdrant", instance="q"}': "0x9"}),
    Case("FreshetNotReady", 6, {f"freshet_ready{{{WORKER}}}": "0x9"}, {"job": "freshet-worker", "instance": "w1:9464"}),
    Case("FreshetNotReady", 6, {f"freshet_ready{{{WORKER}}}": "0x3 1x9"}),
    # 14.4 times the budget of 1 % is 14.4 %, 6 times is 6 %; neither a short dip nor one that is over may wake anybody
    Case("FreshetFreshnessBurnsFast", 70, freshness((70, 80)), JOB, "20%"),
    Case("FreshetFreshnessBurnsFast", 70, freshness((70, 87))),
    Case("FreshetFreshnessBurnsFast", 89, freshness((75, 100), (14, 50))),
    Case("FreshetFreshnessBurnsFast", 80, freshness((60, 50), (20, 100))),
    Case("FreshetFreshnessBurnsSlowly", 20, freshness((20, 90)), JOB, "10%"),
    Case("FreshetFreshnessBurnsSlowly", 20, freshness((20, 95))),
    Case("FreshetFreshnessBurnsSlowly", 360, freshness((320, 100), (40, 60))),
    Case("FreshetFreshnessBurnsSlowly", 140, freshness((100, 50), (40, 100))),
    Case("FreshetStalled", 12, stalled("shop1.interactions", "100x20"), JOB, "50"),
    Case("FreshetStalled", 12, stalled("interactions", "0+1x20")),
    Case("FreshetEmbedderBehind", 16, {f'freshet_lag_records{{{EMBEDDER}, topic="item-texts", partition="0"}}': "2000x20"},
         {"job": "freshet-embedder"}, "2000"),
    Case("FreshetEmbedderBehind", 16, {f'freshet_lag_records{{{EMBEDDER}, topic="item-texts", partition="0"}}': "1000x20"}),
    # 5 of 105 are refused; 1 of 1001; all of them, but five messages in all
    Case("FreshetDeadLetters", 18, letters("0+5x20", "0+100x20"), {"job": "freshet-worker", "topic": "clicks"}),
    Case("FreshetDeadLetters", 18, letters("0+2x20", "0+1000x20")),
    Case("FreshetDeadLetters", 18, letters("0x10 5x10", "0x20")),
    Case("FreshetQdrantFails", 8, {f"freshet_qdrant_failures_total{{{WORKER}}}": "0+1x9"}, JOB),
    Case("FreshetQdrantFails", 11, {f"freshet_qdrant_failures_total{{{WORKER}}}": "0x5 1x9"}),
    Case("FreshetAttributionLost", 90, clicks("7x100", "0+10x100"), JOB),
    Case("FreshetAttributionLost", 90, clicks("0+1x100", "0+10x100")),
    Case("FreshetAttributionLost", 90, clicks("0x100", "0+1x100")),
]  # fmt: skip
