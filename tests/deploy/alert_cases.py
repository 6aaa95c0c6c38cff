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


Phases = tuple[tuple[int, int], ...]
"""(minutes, how many of each hundred are good), one after another."""


def counted(phases: Phases, each: int = 100) -> str:
    """A counter that grows by so many of each hundred, a hundred (or `each`) a minute."""
    total, values = 0, ["0"]
    for minutes, good in phases:
        step = good * each // 100
        values.append(f"{total + step}+{step}x{minutes - 1}")
        total += step * minutes
    return " ".join(values)


def in_time(histogram: str, within: str, *phases: tuple[int, int], each: int = 100) -> dict[str, str]:
    """A histogram of which so many of each hundred are within that bound."""
    return {
        f'{histogram}_bucket{{{WORKER}, le="{within}"}}': counted(phases, each),
        f"{histogram}_count{{{WORKER}}}": f"0+{each}x{sum(minutes for minutes, _ in phases)}",
    }


def freshness(*phases: tuple[int, int], each: int = 100) -> dict[str, str]:
    return in_time("freshet_freshness_seconds", "1.0", *phases, each=each)


def texts(*phases: tuple[int, int]) -> dict[str, str]:
    return in_time("freshet_text_delay_seconds", "60.0", *phases)


def worked(
    owned: str, *, taken: str = "4x5000", ready: str = "1x5000", lag: str = "0x5000", batches: str = "0+60x5000"
) -> dict[str, str]:
    """A process that makes lists and takes events in, on topics of four partitions."""
    return {
        f'freshet_owned_partitions{{{WORKER}, topic="interactions"}}': owned,
        f'freshet_owned_partitions{{{WORKER}, topic="clicks"}}': taken,
        f"freshet_partitions{{{WORKER}}}": "4x5000",
        f"freshet_ready{{{WORKER}}}": ready,
        f'freshet_lag_records{{{WORKER}, topic="interactions", partition="0"}}': lag,
        f'freshet_batch_records_count{{{WORKER}, agent="recommend"}}': batches,
    }


def apart(taken: str, *, ready: str = "1x5000", lag: str = "0x5000", batches: str = "0+60x5000") -> dict[str, str]:
    """A process that makes lists, and one that takes events in for it: so many of four partitions."""
    door = 'job="freshet-worker", instance="d1:9464"'
    lists = {name: values for name, values in worked("4x5000").items() if 'topic="clicks"' not in name}
    return lists | {
        f'freshet_owned_partitions{{{door}, topic="clicks"}}': taken,
        f"freshet_partitions{{{door}}}": "4x5000",
        f"freshet_ready{{{door}}}": ready,
        f'freshet_lag_records{{{door}, topic="purchases", partition="0"}}': lag,
        f'freshet_batch_records_count{{{door}, agent="ingest"}}': batches,
    }


def belonging(good: int, no_list: int, unknown: int, minutes: int = 300) -> dict[str, str]:
    """So many clicks a minute; those of an unknown list are among the good ones."""
    return {
        f'freshet_clicks_attributed_total{{{WORKER}, arm="default", position="1"}}': f"0+{good}x{minutes}",
        f'freshet_clicks_unattributed_total{{{WORKER}, reason="no_list"}}': f"0+{no_list}x{minutes}",
        f'freshet_clicks_unattributed_total{{{WORKER}, reason="not_in_list"}}': f"0x{minutes}",
        f"freshet_clicks_of_unknown_list_total{{{WORKER}}}": f"0+{unknown}x{minutes}",
    }


def trainers(trains: str, ready: str) -> dict[str, str]:
    """Two workers, of which one trains or nobody does."""
    other = 'job="freshet-worker", instance="w2:9464"'
    return {
        f"freshet_weights_trainer{{{WORKER}}}": trains,
        f"freshet_weights_trainer{{{other}}}": "0x60",
        f"freshet_ready{{{WORKER}}}": ready,
    }


def crowd(*, events: int, lists: int, unchanged: int, batches: int) -> dict[str, str]:
    """A minute of a worker."""
    return {
        f'freshet_batch_records_sum{{{WORKER}, agent="recommend"}}': f"0+{events}x60",
        f'freshet_batch_records_count{{{WORKER}, agent="recommend"}}': f"0+{batches}x60",
        f'freshet_lists_total{{{WORKER}, arm="default", audience="user"}}': f"0+{lists}x60",
        f"freshet_lists_unchanged_total{{{WORKER}}}": f"0+{unchanged}x60",
    }


def found(*phases: tuple[int, int], drift: str = "0x1400 1x100") -> dict[str, str]:
    """A hundred tests a minute, so many of them hits."""
    return {
        f'freshet_quality_hits_total{{{WORKER}, source="served"}}': counted(phases),
        f'freshet_quality_tests_total{{{WORKER}, source="served"}}': f"0+100x{sum(minutes for minutes, _ in phases)}",
        f'freshet_drift_total{{{WORKER}, signal="hit_rate", direction="down"}}': drift,
    }


def clicked(*phases: tuple[int, int], origin: str = "served", drift: str = "0x1400 1x100") -> dict[str, str]:
    """A hundred items shown a minute whose window is over, so many of them clicked."""
    return {
        f'freshet_cohort_clicked_total{{{WORKER}, arm="b", position="1", origin="{origin}"}}': counted(phases),
        f'freshet_cohort_shown_total{{{WORKER}, arm="b", position="1", origin="{origin}"}}': counted(
            tuple((minutes, 100) for minutes, _ in phases)
        ),
        f'freshet_drift_total{{{WORKER}, signal="ctr", direction="down"}}': drift,
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
    Case("FreshetKafkaAway", 5, {f'freshet_condition{{{WORKER}, condition="kafka"}}': "1 1 0x9"}, JOB),
    Case("FreshetKafkaAway", 5, {f'freshet_condition{{{WORKER}, condition="kafka"}}': "1 0 1x9",
                                 f'freshet_condition{{{WORKER}, condition="group"}}': "0x9"}),
    # a hundred events a minute in batches of ten: for twenty lists; for ninety; for twenty, out of a backlog
    Case("FreshetFewUsers", 40, crowd(events=100, lists=15, unchanged=5, batches=10), JOB, "5"),
    Case("FreshetFewUsers", 40, crowd(events=100, lists=60, unchanged=30, batches=10)),
    Case("FreshetFewUsers", 40, crowd(events=5_000, lists=800, unchanged=200, batches=10)),
    Case("FreshetSnapshotsFail", 40, {f'freshet_snapshots_total{{{WORKER}, outcome="failed"}}': "0x20 1x4 2x4 3x20"}, JOB),
    Case("FreshetSnapshotsFail", 40, {f'freshet_snapshots_total{{{WORKER}, outcome="failed"}}': "0x20 1x40",
                                      f'freshet_snapshots_total{{{WORKER}, outcome="written"}}': "0+1x60"}),
    Case("FreshetRestarts", 25, {f"process_start_time_seconds{{{WORKER}}}": "1x5 2x5 3x5 4x20"},
         {"job": "freshet-worker", "instance": "w1:9464"}, "3"),
    Case("FreshetRestarts", 25, {f"process_start_time_seconds{{{WORKER}}}": "1x5 2x5 3x25"}),
    Case("FreshetRebalances", 20, {f"freshet_rebalance_seconds_count{{{WORKER}}}": "0+1x30"}, JOB, "15"),
    Case("FreshetRebalances", 20, {f"freshet_rebalance_seconds_count{{{WORKER}}}": "0x5 3x25"}),
    # 14.4 times the budget of 1 % is 14.4 %, 6 times is 6 %; neither a short dip, nor one that is over, nor a few slow events at
    # night may wake anybody
    Case("FreshetFreshnessBurnsFast", 70, freshness((70, 80)), JOB, "20%"),
    Case("FreshetFreshnessBurnsFast", 390, freshness((400, 90)), JOB, "10%"),
    Case("FreshetFreshnessBurnsFast", 390, freshness((400, 95))),
    Case("FreshetFreshnessBurnsFast", 413, freshness((400, 100), (14, 50))),
    Case("FreshetFreshnessBurnsFast", 100, freshness((60, 50), (40, 100))),
    Case("FreshetFreshnessBurnsFast", 70, freshness((70, 0), each=1)),
    Case("FreshetFreshnessBurnsSlowly", 190, freshness((200, 96)), JOB, "4%"),
    Case("FreshetFreshnessBurnsSlowly", 4390, freshness((4400, 98)), JOB, "2%"),
    Case("FreshetFreshnessBurnsSlowly", 4390, freshness((4000, 100), (400, 99), each=1000)),
    Case("FreshetFreshnessBurnsSlowly", 2390, freshness((2000, 50), (400, 100))),
    # nobody is scraped; half of the partitions have no worker; a worker that is not ready; events that nobody takes
    Case("FreshetFlowBurnsFast", 10, {'up{job="qdrant", instance="q"}': "1x20"}, JOB, "100%"),
    Case("FreshetFlowBurnsFast", 10, worked("2x5000"), JOB, "50%"),
    Case("FreshetFlowBurnsFast", 10, worked("4x5000", ready="0x20"), JOB, "100%"),
    Case("FreshetFlowBurnsFast", 10, worked("4x5000", lag="9x20", batches="7x20"), JOB, "90.91%"),
    Case("FreshetFlowBurnsFast", 90, worked("4x5000", lag="9x100")),
    Case("FreshetFlowBurnsFast", 10, worked("4x5000", batches="7x20")),
    Case("FreshetFlowBurnsFast", 125, worked("4x120 2 4x100")),
    # a quarter of the partitions is away for a minute in every hour: 0.4 %, three times the budget is 0.3 %; in every six hours
    Case("FreshetFlowBurnsSlowly", 1500, worked(" ".join(["4x58 3"] * 30)), JOB, "0.4164%"),
    Case("FreshetFlowBurnsSlowly", 1500, worked(" ".join(["4x358 3"] * 6))),
    # the budget is 5 %
    Case("FreshetAttributionBurnsFast", 70, belonging(20, 60, 20), JOB, "100%"),
    Case("FreshetAttributionBurnsFast", 70, belonging(100, 0, 80), JOB, "80%"),
    Case("FreshetAttributionBurnsFast", 70, belonging(75, 25, 0)),
    Case("FreshetAttributionBurnsSlowly", 190, belonging(80, 20, 0), JOB, "20%"),
    Case("FreshetAttributionBurnsSlowly", 190, belonging(96, 4, 0)),
    Case("FreshetEmbeddingBurnsFast", 70, texts((70, 80)), JOB, "20%"),
    Case("FreshetEmbeddingBurnsFast", 413, texts((400, 100), (14, 50))),
    Case("FreshetEmbeddingBurnsSlowly", 190, texts((200, 96)), JOB, "4%"),
    Case("FreshetEmbeddingBurnsSlowly", 2390, texts((2000, 50), (400, 100))),
    Case("FreshetForeignVectors", 12, {f"freshet_vectors_foreign_total{{{WORKER}}}": "0+1x20"}, JOB),
    Case("FreshetForeignVectors", 15, {f"freshet_vectors_foreign_total{{{WORKER}}}": "3x30"}),
    # a fall that the detector has noticed; one it has not; a small one; no fall
    Case("FreshetHitRateFell", 1440, found((1380, 50), (60, 10)), {**JOB, "source": "served"}, "10%"),
    Case("FreshetHitRateFell", 1440, found((1380, 50), (60, 10), drift="0x1500")),
    Case("FreshetHitRateFell", 1440, found((1380, 50), (60, 45))),
    Case("FreshetCtrFell", 1440, clicked((1380, 20), (60, 5)), {**JOB, "arm": "b"}, "5%"),
    Case("FreshetCtrFell", 1440, clicked((1380, 20), (60, 5), origin="platform"), {**JOB, "arm": "b"}, "5%"),
    Case("FreshetCtrFell", 1440, clicked((1380, 20), (60, 5), drift="0x1500")),
    Case("FreshetCtrFell", 1440, clicked((1380, 20), (60, 18))),
    Case("FreshetStalled", 12, stalled("shop1.interactions", "100x20"), JOB, "50"),
    Case("FreshetStalled", 12, stalled("interactions", "0+1x20")),
    Case("FreshetStalled", 12, stalled("shop1.clicks", "0+1x20") | {
        f'freshet_batch_records_count{{{WORKER}, agent="ingest"}}': "100x20"}, JOB, "50"),
    Case("FreshetStalled", 12, stalled("clicks", "100x20")),
    Case("FreshetEmbedderBehind", 16, {f'freshet_lag_records{{{EMBEDDER}, topic="item-texts", partition="0"}}': "2000x20"},
         {"job": "freshet-embedder"}, "2000"),
    Case("FreshetEmbedderBehind", 45, {f'freshet_lag_records{{{EMBEDDER}, topic="item-texts", partition="0"}}': "5x60",
                                       f'freshet_batch_records_count{{{EMBEDDER}, agent="embed"}}': "7x60"},
         {"job": "freshet-embedder"}, "5"),
    Case("FreshetEmbedderBehind", 45, {f'freshet_lag_records{{{EMBEDDER}, topic="item-texts", partition="0"}}': "1000x60",
                                       f'freshet_batch_records_count{{{EMBEDDER}, agent="embed"}}': "0+1x60"}),
    # 5 of 105 are refused; 1 of 1001; all of them, but five messages in all
    Case("FreshetDeadLetters", 18, letters("0+5x20", "0+100x20"), {"job": "freshet-worker", "topic": "clicks"}),
    Case("FreshetDeadLetters", 18, letters("0+2x20", "0+1000x20")),
    Case("FreshetDeadLetters", 18, letters("0x10 5x10", "0x20")),
    Case("FreshetQdrantFails", 8, {f"freshet_qdrant_failures_total{{{WORKER}}}": "0+1x9"}, JOB),
    Case("FreshetQdrantFails", 11, {f"freshet_qdrant_failures_total{{{WORKER}}}": "0x5 1x9"}),
    Case("FreshetNobodyTrains", 12, trainers("0x20", "1x20"), JOB),
    Case("FreshetNobodyTrains", 30, trainers("0x9 1x30", "1x40")),
    Case("FreshetNobodyTrains", 30, trainers("0x40", "0x40")),
    Case("FreshetAttributionLost", 90, clicks("7x100", "0+10x100"), JOB),
    Case("FreshetAttributionLost", 90, clicks("0+1x100", "0+10x100")),
    Case("FreshetAttributionLost", 90, clicks("0x100", "0+1x100")),
]  # fmt: skip


def shares(origin: str, position: str, clicked: int, shown: int, arm: str = "a") -> dict[str, str]:
    """Items of closed cohorts a minute."""
    labels = f'{WORKER}, arm="{arm}", position="{position}", origin="{origin}"'
    return {
        f"freshet_cohort_clicked_total{{{labels}}}": f"0+{clicked}x100",
        f"freshet_cohort_shown_total{{{labels}}}": f"0+{shown}x100",
    }


@dataclass(frozen=True)
class Recorded:
    """Samples of a recorded series at `minute`: labels -> value."""

    record: str
    minute: int
    series: dict[str, str]
    samples: dict[tuple[tuple[str, str], ...], float]


def of(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple({**JOB, **labels}.items())


BOTH = shares("platform", "1", 30, 100) | shares("served", "1", 10, 100) | shares("served", "2-3", 5, 100)
RECORDED = [
    # the platform's word where an arm has it, else what was served; never both
    Recorded("job_arm:freshet_cohort_ctr:ratio_rate1h", 70, BOTH, {of(arm="a"): 0.3}),
    Recorded("job_arm:freshet_cohort_ctr:ratio_rate1h", 70, shares("served", "1", 10, 100), {of(arm="a"): 0.1}),
    Recorded("job_arm_position:freshet_cohort_ctr:ratio_rate1h", 70, BOTH, {of(arm="a", position="1"): 0.3}),
    Recorded(
        "job_arm_position:freshet_cohort_ctr:ratio_rate1h", 70,
        shares("platform", "1", 30, 100) | shares("served", "1", 10, 100, arm="b") | shares("served", "2-3", 5, 100, arm="b"),
        {of(arm="a", position="1"): 0.3, of(arm="b", position="1"): 0.1, of(arm="b", position="2-3"): 0.05},
    ),
    Recorded("job:freshet_flow_up:ratio", 10, worked("3x20"), {of(): 0.75}),
    Recorded("job:freshet_flow_up:ratio", 10, worked("4x20", ready="0x20"), {of(): 0.0}),
    Recorded("job:freshet_flow_up:ratio", 10, worked("4x20", lag="5x20", batches="7x20"), {of(): 0.0}),
    Recorded("job:freshet_flow_up:ratio", 10, worked("4x20", lag="5x20"), {of(): 1.0}),
    Recorded("job:freshet_flow_up:ratio", 10, worked("3x20", taken="2x20"), {of(): 0.5}),
    Recorded("job:freshet_flow_up:ratio", 10, apart("4x20"), {of(): 1.0}),
    Recorded("job:freshet_flow_up:ratio", 10, apart("1x20"), {of(): 0.25}),
    Recorded("job:freshet_flow_up:ratio", 10, apart("4x20", ready="0x20"), {of(): 0.0}),
    Recorded("job:freshet_flow_up:ratio", 10, apart("4x20", lag="5x20", batches="7x20"), {of(): 0.0}),
    Recorded("job:freshet_flow_up:ratio", 10, apart("4x20", lag="5x20"), {of(): 1.0}),
    Recorded("job:freshet_flow_up:ratio", 20, apart("4x5 stale"), {of(): 0.0}),
    Recorded("job:freshet_flow_up:ratio", 2, {'up{job="qdrant", instance="q"}': "1x20"}, {}),
    Recorded("job:freshet_flow_up:ratio", 10, {'up{job="qdrant", instance="q"}': "1x20"}, {of(): 0.0}),
    Recorded("job:freshet_freshness_seconds:p99_5m", 10, freshness((20, 0), each=0), {}),
]  # fmt: skip
