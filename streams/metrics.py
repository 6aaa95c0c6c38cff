"""All metrics, in one place. Base units; labels from closed sets, never ids; every child exists from the start, so that a rate
over the first event is right. One `Metrics` per process, on a registry that is passed in (tests use a fresh one)."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    Summary,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.events import INPUTS, Reason
from streams.version import freshet_version

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the number of series

RANKED: Final = ("reordered", "no_text", "late", "busy", "failed", "resting")
"""What becomes of a list in the language stage (see `streams.language_stage`)."""
SNAPSHOTS: Final = ("written", "failed", "damaged", "restored", "shared")
WEIGHTS: Final = ("published", "own", "adopted", "stale", "foreign", "damaged")
"""What becomes of versions of the weights that are written to or read from their topic (see `streams.weights`)."""
STAGES: Final = ("ingest", "wait", "recommend", "emit")
"""From an event to its list: at the broker -> in the log; then until the replica has it; then making lists; then acknowledged."""
POSITIONS: Final = ("1", "2-3", "4-10", "11+")
POSITION_BITS: Final = {"1": 0b1, "2-3": 0b110, "4-10": 0b11_1111_1000, "11+": -1 << 10}
"""Position p as bit p-1."""
ORIGINS: Final = ("platform", "served")
"""Who says that an item was shown: the platform's impressions, or the list that went out."""
TESTED: Final = ("served", "fused")
"""Whose lists are tested: the one that was out, the one that the model would make now; beside these, each source's."""
SIGNALS: Final = ("hit_rate", "ctr")
KINDS: Final = ("click", "purchase", "review", "retraction", "erasure")
COLLECTIONS: Final = ("reviews", "items", "retractions")
CONDITIONS: Final = ("kafka", "group", "partitions", "replica", "embedder")
"""What a process needs to be ready (see `streams.app`); those that do not concern its roles hold."""
LOG_LEVELS: Final = ("WARNING", "ERROR", "CRITICAL")
UNATTRIBUTED: Final = ("no_list", "not_in_list", "outside_window")
FRESHNESS_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
DURATION_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
DELAY_BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 1800.0)
REBALANCE_BUCKETS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZE_BUCKETS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


def position_bucket(position: int) -> str:
    """The closed set that positions are counted in. `position` counts from 1."""
    return POSITIONS[0] if position <= 1 else POSITIONS[1] if position <= 3 else POSITIONS[2] if position <= 10 else POSITIONS[3]


class Metrics:
    """The metrics of one process. `arm` is the experiment arm of this worker's lists."""

    def __init__(self, registry: CollectorRegistry | None = None, *, arm: str = "default") -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._flow(arm)
        self._attribution(arm)
        self._quality(arm)
        self._text()
        self._weights()
        self._snapshots()
        self._process()

    def _flow(self, arm: str) -> None:
        r = self.registry
        events = Counter("freshet_events", "Valid events taken from an input topic.", ["topic"], registry=r)
        self.events = {t: events.labels(t) for t in INPUTS}
        dead = Counter("freshet_dead_letters", "Messages refused, by input topic and reason.", ["topic", "reason"], registry=r)
        self.dead_letters = {(t, reason): dead.labels(t, reason.value) for t in INPUTS for reason in Reason}
        for internal in ("interactions", "item-texts"):  # somebody wrote there who must not
            self.dead_letters[internal, Reason.INVALID_FIELD] = dead.labels(internal, Reason.INVALID_FIELD.value)
        folded = Counter("freshet_folded", "Interactions folded into the model, by kind.", ["kind"], registry=r)
        self.folded = {k: folded.labels(k) for k in KINDS}
        self.duplicates = Counter("freshet_duplicates", "Interactions that changed nothing: known already.", registry=r)
        lists = Counter("freshet_lists", "Lists acknowledged on the output topic.", ["arm", "audience"], registry=r)
        self.lists = {a: lists.labels(arm, a) for a in ("user", "strangers")}
        self.unchanged = Counter("freshet_lists_unchanged", "Lists made, found equal to the last one and not sent.", registry=r)
        overtaken = Counter(
            "freshet_lists_overtaken",
            "Lists not sent, as one for a later event is out; and sent again, as an older one was written after them.",
            ["outcome"],
            registry=r,
        )
        self.overtaken = {outcome: overtaken.labels(outcome) for outcome in ("not_sent", "sent_again")}
        self.freshness = Histogram(
            "freshet_freshness_seconds",
            "From an event at the broker to its list acknowledged by the broker.",
            buckets=FRESHNESS_BUCKETS,
            registry=r,
        )
        stage = Histogram(
            "freshet_stage_seconds",
            "Time a batch spends in a stage of the flow.",
            ["stage"],
            buckets=DURATION_BUCKETS,
            registry=r,
        )
        self.stage = {s: stage.labels(s) for s in STAGES}
        batch = Histogram(
            "freshet_batch_records", "Records a batch agent took at once.", ["agent"], buckets=SIZE_BUCKETS, registry=r
        )
        self.batch = {a: batch.labels(a) for a in ("ingest", "recommend", "attribute", "embed")}
        self.skew = Counter("freshet_clock_skew", "Lists whose event carried a broker time ahead of our clock.", registry=r)
        self.last_event = Gauge(
            "freshet_last_event_timestamp_seconds", "Event time of the newest interaction folded.", registry=r
        )

    def _attribution(self, arm: str) -> None:
        r = self.registry
        shown = Counter(
            "freshet_impressions",
            "Items shown, by arm, position and where we know it from: the platform's impressions, or served lists.",
            ["arm", "position", "origin"],
            registry=r,
        )
        self._impressions = {(arm, p, o): shown.labels(arm, p, o) for p in POSITIONS for o in ("platform", "served")}
        self._impressions_family = shown
        clicked = Counter("freshet_clicks_attributed", "Clicks on items of a served list.", ["arm", "position"], registry=r)
        self._clicks = {(arm, p): clicked.labels(arm, p) for p in POSITIONS}
        self._clicks_family = clicked
        missed = Counter("freshet_clicks_unattributed", "Clicks that belong to no served list.", ["reason"], registry=r)
        self.unattributed = {reason: missed.labels(reason) for reason in UNATTRIBUTED}
        self.of_unknown_list = Counter(
            "freshet_clicks_of_unknown_list",
            "Clicks that name a list which is not remembered; no_list not among them.",
            registry=r,
        )
        self.impressions_unknown = Counter(
            "freshet_impressions_unknown", "Impression events of a list that is not remembered.", registry=r
        )

    def _quality(self, arm: str) -> None:
        r = self.registry
        tests = Counter("freshet_quality_tests", "Events whose item was looked up in a list.", ["source"], registry=r)
        hits = Counter("freshet_quality_hits", "Of these, the item stood in the list.", ["source"], registry=r)
        gains = Counter("freshet_quality_gain", "Sum of 1 / log2(place + 1) of the hits.", ["source"], registry=r)
        self._quality_families = (tests, hits, gains)
        self._tested: dict[str, tuple[Counter, ...]] = {}
        self.tested(TESTED)
        label = ["arm", "position", "origin"]
        shown = Counter("freshet_cohort_shown", "Items of lists whose cohort window is over.", label, registry=r)
        clicked = Counter("freshet_cohort_clicked", "Of these, clicked within their window.", label, registry=r)
        self._cohorts = {(arm, p, o): (shown.labels(arm, p, o), clicked.labels(arm, p, o)) for p in POSITIONS for o in ORIGINS}
        self._cohort_families = (shown, clicked)
        self.cohort_share = Gauge("freshet_cohort_share", "Of the lists shown, so many are followed as cohorts.", registry=r)
        drift = Counter("freshet_drift", "Changes of a rate that the detector has noticed.", ["signal", "direction"], registry=r)
        self.drift = {(s, d): drift.labels(s, d) for s in SIGNALS for d in ("up", "down")}
        mean = Gauge("freshet_drift_mean", "The rate since its last change.", ["signal"], registry=r)
        width = Gauge("freshet_drift_window", "Outcomes that rate is over.", ["signal"], registry=r)
        self.drift_state = {s: (mean.labels(s), width.labels(s)) for s in SIGNALS}
        self.diversity = Summary(
            "freshet_list_diversity", "1 - mean pairwise similarity of the items of a list, of a sample of lists.", registry=r
        )
        self.recent_lists = Gauge(
            "freshet_recent_lists", "The last lists of this process that were looked at, at most 2,000.", registry=r
        )
        self.recent_items = Gauge("freshet_recent_items", "Different items in them.", registry=r)
        self.recent_gini = Gauge("freshet_recent_gini", "How unevenly they show the catalogue: 0 evenly, 1 one item.", registry=r)

    def _text(self) -> None:
        r = self.registry
        self.embedded = Counter("freshet_texts_embedded", "Texts embedded.", registry=r)
        self.embed_seconds = Histogram(
            "freshet_embed_seconds", "Embedding one batch of texts.", buckets=DURATION_BUCKETS, registry=r
        )
        self.text_delay = Histogram(
            "freshet_text_delay_seconds",
            "From something said about an item to its vector, published.",
            buckets=DELAY_BUCKETS,
            registry=r,
        )
        self.foreign_vectors = Counter(
            "freshet_vectors_foreign", "Item vectors left out: of another encoder, or none at all.", registry=r
        )
        self.truncated = Counter(
            "freshet_texts_truncated", "Texts longer than the encoder reads; the rest was cut off.", registry=r
        )
        self.duplicate_texts = Counter(
            "freshet_texts_duplicate", "Texts that were known already and changed nothing.", registry=r
        )
        upserts = Counter("freshet_qdrant_upserts", "Points written to Qdrant.", ["collection"], registry=r)
        self.upserts = {c: upserts.labels(c) for c in COLLECTIONS}
        seconds = Histogram("freshet_qdrant_seconds", "One call to Qdrant.", ["operation"], buckets=DURATION_BUCKETS, registry=r)
        self.qdrant_seconds = {o: seconds.labels(o) for o in ("write", "near")}
        self.qdrant_failures = Counter("freshet_qdrant_failures", "Calls to Qdrant that failed and are tried again.", registry=r)
        self.qdrant_resting = Gauge(
            "freshet_qdrant_resting", "1 while lists do not ask Qdrant, since it has not answered.", registry=r
        )
        points = Gauge("freshet_qdrant_points", "Points in Qdrant.", ["collection"], registry=r)
        self.points = {c: points.labels(c) for c in COLLECTIONS}
        near = Counter("freshet_near_answers", "Who answered 'which items lie near this taste'.", ["by"], registry=r)
        self.near = {by: near.labels(by) for by in ("qdrant", "scan")}
        ranked = Counter(
            "freshet_language_lists", "Lists that met the language stage, by what became of them.", ["outcome"], registry=r
        )
        self.language_lists = {outcome: ranked.labels(outcome) for outcome in RANKED}

    def _weights(self) -> None:
        r = self.registry
        weights = Counter("freshet_weights", "Versions of the fusion's weights, by what became of them.", ["outcome"], registry=r)
        self.weights = {outcome: weights.labels(outcome) for outcome in WEIGHTS}
        self.trusts = Counter("freshet_trusts", "People about whom the trainer has said what it learned.", registry=r)
        self.weights_trainer = Gauge("freshet_weights_trainer", "1 in the process that trains for all.", registry=r)
        self.weights_steps = Gauge("freshet_weights_steps", "Steps of training in the newest published weights.", registry=r)
        self.weights_time = Gauge("freshet_weights_timestamp_seconds", "When these weights were published.", registry=r)
        self.weights_bytes = Gauge("freshet_weights_bytes", "Size of the version published last by this process.", registry=r)

    def _snapshots(self) -> None:
        r = self.registry
        snapshots = Counter("freshet_snapshots", "Snapshots of the state, by what became of them.", ["outcome"], registry=r)
        self.snapshots = {outcome: snapshots.labels(outcome) for outcome in SNAPSHOTS}
        self.snapshot_pause = Histogram(
            "freshet_snapshot_pause_seconds", "How long a snapshot held up the stream.", buckets=DURATION_BUCKETS, registry=r
        )
        self.snapshot_seconds = Gauge("freshet_snapshot_seconds", "Time the newest snapshot took, beside the stream.", registry=r)
        self.snapshot_bytes = Gauge("freshet_snapshot_bytes", "Size of the newest snapshot.", registry=r)
        self.snapshot_time = Gauge(
            "freshet_snapshot_timestamp_seconds", "When the newest snapshot was made; before the first, the start.", registry=r
        )
        self.snapshot_time.set_to_current_time()

    def _process(self) -> None:
        r = self.registry
        build = Gauge("freshet_build_info", "1, with the versions as labels.", ["version", "python"], registry=r)
        build.labels(freshet_version(), platform.python_version()).set(1)
        self.ready = Gauge("freshet_ready", "1 when every condition holds: the process can work.", registry=r)
        holds = Gauge("freshet_condition", "1 where the condition of being ready holds.", ["condition"], registry=r)
        self.conditions = {c: holds.labels(c) for c in CONDITIONS}
        self.rebalance_seconds = Histogram(
            "freshet_rebalance_seconds",
            "From partitions taken away to partitions assigned: nothing is done meanwhile.",
            buckets=REBALANCE_BUCKETS,
            registry=r,
        )
        lines = Counter("freshet_log_lines", "Warnings and errors logged, after rate limits.", ["level"], registry=r)
        self.log_lines = {level: lines.labels(level) for level in LOG_LEVELS}

    # arms come from lists that other workers may have served: a small set, bounded here
    def shown(self, arm: str, positions: Iterable[int], origin: str) -> None:
        """Items of one list were shown at these positions (from 1)."""
        counts = [0] * len(POSITIONS)
        for position in positions:
            counts[0 if position <= 1 else 1 if position <= 3 else 2 if position <= 10 else 3] += 1
        for bucket, count in zip(POSITIONS, counts, strict=True):
            if not count:
                continue
            key = (arm, bucket, origin)
            child = self._impressions.get(key)
            if child is None and len(self._impressions) < 400:
                child = self._impressions[key] = self._impressions_family.labels(*key)
            if child is not None:
                child.inc(count)

    def tested(self, sources: Iterable[str]) -> None:
        """Make the series of these lists, at 0."""
        for source in sources:
            self._tested[source] = tuple(family.labels(source) for family in self._quality_families)

    def test(self, source: str, gain: float) -> None:
        """A list was tested: `gain` is 1 / log2(place + 1) of the item in it, 0 for a miss."""
        tests, hits, gains = self._tested[source]
        tests.inc()
        if gain:
            hits.inc()
            gains.inc(gain)

    def cohort(self, arm: str, origin: str, shown: int, clicked: int) -> None:
        """A list whose window is over: bit p-1 of the two numbers stands for position p."""
        for position, bits in POSITION_BITS.items():
            key = (arm, position, origin)
            if not shown & bits:
                continue
            children = self._cohorts.get(key)
            if children is None and len(self._cohorts) < 200:
                children = self._cohorts[key] = (self._cohort_families[0].labels(*key), self._cohort_families[1].labels(*key))
            if children is not None:
                children[0].inc((shown & bits).bit_count())
                children[1].inc((clicked & bits).bit_count())

    def click(self, arm: str, position: int) -> None:
        key = (arm, position_bucket(position))
        child = self._clicks.get(key)
        if child is None and len(self._clicks) < 200:
            child = self._clicks[key] = self._clicks_family.labels(*key)
        if child is not None:
            child.inc()

    def watch(self, collector: Callable[[], Iterable[Metric]]) -> None:
        """Metrics that are read off live objects when somebody asks (lag, sizes)."""
        self.registry.register(_OnScrape(collector))


class _OnScrape(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> Iterable[Metric]:
        return []  # do not collect at registration: the objects may not exist yet

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def lag_family(lags: Mapping[tuple[str, int], int]) -> GaugeMetricFamily:
    """Records in Kafka that this worker's agents have not finished, per topic and partition it owns."""
    family = GaugeMetricFamily(
        "freshet_lag_records", "Records not yet finished by the owning agent.", labels=["topic", "partition"]
    )
    for (topic, partition), lag in sorted(lags.items()):
        family.add_metric([topic, str(partition)], lag)
    return family


def owned_family(owned: Mapping[str, int], partitions: int) -> list[GaugeMetricFamily]:
    """Partitions of each topic that this worker's agents own, beside how many there are."""
    family = GaugeMetricFamily("freshet_owned_partitions", "Partitions this process's agents own.", labels=["topic"])
    for topic, count in sorted(owned.items()):
        family.add_metric([topic], count)
    return [family, GaugeMetricFamily("freshet_partitions", "Partitions that each topic has.", value=partitions)]


def replica_family(lags: Mapping[str, int]) -> GaugeMetricFamily:
    """Records in Kafka that this worker's replica has not folded, per topic."""
    family = GaugeMetricFamily("freshet_replica_lag_records", "Records not yet folded by this replica.", labels=["topic"])
    for topic, lag in sorted(lags.items()):
        family.add_metric([topic], lag)
    return family


def size_families(sizes: Mapping[str, tuple[int, int]]) -> list[GaugeMetricFamily]:
    """What the model holds, beside its bounds."""
    used = GaugeMetricFamily("freshet_model_size", "Entries held, by part of the model.", labels=["part"])
    bound = GaugeMetricFamily("freshet_model_bound", "Most entries that part may hold.", labels=["part"])
    for part, (n, limit) in sorted(sizes.items()):
        if not limit:
            continue  # switched off: a share of nothing is no number
        used.add_metric([part], n)
        bound.add_metric([part], limit)
    return [used, bound]
