"""Live quality: what `models.live` measures, fed by the flow and counted. Every event is looked at by the worker that owns its
partition, so that sums over processes count it once; and only while the replica is at the head of the log.

    fold        before an event is learned: was its item in the list that was out, in each source's list?
    attribute   items shown and clicks, for the cohorts
    recommend   lists that went out: all for the cohorts; of a sample, what they show of the catalogue, how unlike their items are
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from models.events import Interaction, RecommendationList
from models.live import Cohorts, Drift, Exposure, ListTests, Shown
from models.live.lists import MISS, gain
from streams.learn import Budget, Learner
from streams.metrics import ORIGINS, Metrics
from streams.settings import Settings

PLATFORM, SERVED = ORIGINS


class Ranks(NamedTuple):
    """Ranks of an event's item: in the list that was out (None: none was), and by source."""

    served: int | None
    sources: Mapping[str, int]


class LiveQuality:
    """One for a process that makes lists. `is_live` says whether the replica is at the head of the log."""

    def __init__(self, settings: Settings, metrics: Metrics, learner: Learner, is_live: Callable[[], bool]) -> None:
        self.metrics, self.learner, self.is_live = metrics, learner, is_live
        self.lists = ListTests(learner.model, learner.served, settings.list_size)
        self.cohorts = Cohorts(int(settings.cohort_window_s * 1000), settings.cohort_lists)
        self.exposure = Exposure()
        self.drift = {signal: Drift() for signal in metrics.drift_state}
        self._budget, self._sample = Budget(settings.quality_per_s), Budget(settings.quality_per_s)
        self._own: frozenset[int] = frozenset()
        self._hears_platform = False  # whether the platform tells what it shows
        metrics.tested(source.name for source in learner.model.sources)

    def own(self, partitions: Iterable[int]) -> None:
        """These partitions are this worker's from now on. What was followed before is forgotten: somebody else may have seen the
        clicks in between."""
        self._own = frozenset(partitions)
        self.cohorts.forget()

    # -- in the fold ------------------------------------------------------------------------------------------------
    def test(self, partition: int, log_offset: int, line: Interaction, now_ms: int) -> Ranks | None:
        """Look the event's item up before it is learned; None where the event is no test, or not this worker's."""
        if partition not in self._own or not self.is_live() or not self.lists.is_test(line):
            return None
        return Ranks(
            self.lists.of_served(line, log_offset),
            self.lists.of_sources(line) if self._budget.take(now_ms) else {},
        )

    def count(self, tests: Ranks) -> None:
        """The event was learned, so it was news."""
        if tests.served is not None:
            self.metrics.test("served", gain(tests.served))
            self._watch("hit_rate", float(tests.served != MISS))
        for source, rank in tests.sources.items():
            self.metrics.test(source, gain(rank))

    # -- in attribute -----------------------------------------------------------------------------------------------
    def shown(self, partition: int, to: Shown, positions: Iterable[int], at_ms: int) -> None:
        """The platform says that it has shown these positions of a list. `at_ms`: the broker's time of the message."""
        if partition in self._own:
            self.cohorts.shown(partition, to, PLATFORM, positions, at_ms)

    def clicked(self, partition: int, to: Shown, position: int, at_ms: int) -> None:
        """A click on an item of a list."""
        if partition in self._own:
            self.cohorts.clicked(partition, to, ORIGINS, position, at_ms)

    def passed(self, partition: int, at_ms: int) -> None:
        """The partition has come to that time: lists whose window is over are counted."""
        for closed in self.cohorts.close(partition, at_ms):
            self.metrics.cohort(*closed)
            self._hears_platform = self._hears_platform or closed.origin == PLATFORM
            if (closed.origin == PLATFORM) is self._hears_platform:
                self._watch("ctr", closed.clicked.bit_count() / closed.shown.bit_count())

    # -- in recommend -----------------------------------------------------------------------------------------------
    def list_out(self, partition: int, made: RecommendationList, at_ms: int, now_ms: int) -> None:
        """A list was acknowledged. `at_ms`: the broker's time of its cause."""
        if partition in self._own:
            to = Shown(made.user_id, made.list_id, made.arm)
            self.cohorts.shown(partition, to, SERVED, range(1, len(made.items) + 1), at_ms)
        if self._sample.take(now_ms):
            self._look_at([item.item_id for item in made.items])

    def _look_at(self, items: Sequence[str]) -> None:
        self.exposure.add(items)
        diversity = self.lists.diversity(items)
        if diversity is not None:
            self.metrics.diversity.observe(diversity)

    # -- now and then -----------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Bring the gauges up to date."""
        metrics, known = self.metrics, len(self.learner.model.history.items)
        metrics.recent_lists.set(len(self.exposure))
        metrics.recent_items.set(self.exposure.distinct)
        metrics.recent_gini.set(self.exposure.gini(known) or 0.0)
        metrics.cohort_share.set(self.cohorts.share)
        for signal, (mean, width) in metrics.drift_state.items():
            mean.set(self.drift[signal].mean)
            width.set(self.drift[signal].width)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """What is held, beside its bounds."""
        return {
            "cohorts": (len(self.cohorts), self.cohorts.max_lists),
            "recent_lists": (len(self.exposure), self.exposure.bound),
        }

    def _watch(self, signal: str, outcome: float) -> None:
        direction = self.drift[signal].update(outcome)
        if direction is not None:
            self.metrics.drift[signal, direction].inc()
