"""Passes over logs: what is to be measured as a small value (`Spec`), measured here or in several processes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from models import Config, Recommender
from models.evaluation import Plan, Protocol, Subject, run
from models.evaluation.neighbour_lists import SYSTEMS, NeighbourLists, System
from models.evaluation.outcome import Outcome
from models.evaluation.subject import RecommenderSubject
from models.events import Event, Item
from streams.at_once import Told, at_once
from streams.convert import EventFile
from streams.lockstep_client import LockstepProcess
from streams.text_encoder import create_encoder
from streams.text_vectors import TextFeed, TextVectors, environment_cache, said

Way = Literal["inside", "lockstep", "neighbours"]
Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""

EMBEDDING: Final = "embedding texts"
REPLAYING: Final = "test, then learn"
_EVERY: Final = 64


class Neighbourhoods(Struct, frozen=True, kw_only=True):
    """Which plain neighbourhood systems, with how many neighbours (None: all), and the part of the text in their similarities."""

    systems: tuple[System, ...] = SYSTEMS
    ks: tuple[int | None, ...] = (5, 10, 15, 20, 25, 30)
    text_share: float = 0.2

    def __post_init__(self) -> None:
        if not self.ks or any(k is not None and k < 1 for k in self.ks) or len(set(self.ks)) != len(self.ks):
            raise ValueError(f"numbers of neighbours: one or more distinct ones, each at least 1, not {self.ks}")
        if not 0 < self.text_share <= 1:
            raise ValueError(f"the text share is above 0 and at most 1, not {self.text_share}")


class Spec(Struct, frozen=True, kw_only=True):
    """One pass: which log, what is scored, by which model. `way`: the recommender in this process, with every source beside the
    fused list if `single`; in a process of its own that is asked in lock-step, the fused list alone; or the papers'
    neighbourhoods."""

    files: tuple[Path, ...]
    protocol: Protocol
    config: Config
    catalogues: tuple[Path, ...] = ()
    text: bool = True
    lenient: bool = False
    way: Way = "inside"
    single: bool = True
    neighbourhoods: Neighbourhoods = Neighbourhoods()


class Log:
    """Files of events as they were read. Holds the whole log."""

    def __init__(self, files: Sequence[Path], catalogues: Sequence[Path] = (), *, lenient: bool = False) -> None:
        self.notes: list[str] = []
        """A line for each file of which lines were skipped."""
        found = [event for path in [*catalogues, *files] for event in self._read(path, lenient)]
        self.catalogue = [event for event in found if isinstance(event, Item)]
        self.events: list[Event] = [event for event in found if not isinstance(event, Item)]

    def _read(self, path: Path, lenient: bool) -> Iterator[Event | Item]:
        file = EventFile(path, lenient=lenient)
        yield from file
        if file.skipped:
            self.notes.append(f"{path}: skipped {file.skipped} lines; the first: {file.first_problem}")


class Bench:
    """Where passes over one log are run: reads the files once, embeds each text once. To be closed."""

    def __init__(self, spec: Spec) -> None:
        self._of = (spec.files, spec.catalogues, spec.lenient)
        self.log = Log(spec.files, spec.catalogues, lenient=spec.lenient)
        self._vectors: TextVectors | None = None
        self._embedded = -1

    def holds(self, spec: Spec) -> bool:
        """Whether this is the bench for that pass."""
        return self._of == (spec.files, spec.catalogues, spec.lenient)

    def close(self) -> None:
        if self._vectors is not None:
            self._vectors.close()

    def measure(self, spec: Spec, progress: Progress) -> Outcome:
        """One pass."""
        plan = Plan(self.log.events, spec.protocol)
        total = len(plan.events)

        def replayed(done: int) -> None:
            if done % _EVERY == 0 or done == total:
                progress(REPLAYING, done, total)

        if spec.way == "lockstep":
            with LockstepProcess(spec.config, text=spec.text) as process:
                return self._pass(process, plan, None, replayed)
        feed = self._feed(plan.events, progress) if spec.text else None
        if spec.way == "neighbours":
            return self._pass(self._neighbours(spec, feed), plan, None, replayed)
        subject = RecommenderSubject(Recommender(spec.config), repeats=spec.protocol.repeats, single=spec.single)
        return self._pass(subject, plan, feed, replayed)

    def _pass(self, subject: Subject, plan: Plan, feed: TextFeed | None, progress: Callable[[int], None]) -> Outcome:
        text = feed.vectors if feed is not None else None
        return Outcome.of(run(subject, plan, catalogue=self.log.catalogue, text=text, progress=progress))

    def _neighbours(self, spec: Spec, feed: TextFeed | None) -> NeighbourLists:
        wanted = spec.neighbourhoods
        return NeighbourLists(
            wanted.systems, wanted.ks, text_share=wanted.text_share, text=feed.direction if feed is not None else None,
            repeats=spec.protocol.repeats,
        )  # fmt: skip

    def _feed(self, events: Sequence[Event], progress: Progress) -> TextFeed | None:
        """Every text in batches ahead of the pass, which then finds them ready; None where nothing says anything."""
        distinct = {words for words in map(said, [*self.log.catalogue, *events]) if words}
        if not distinct:
            return None
        texts = sorted(distinct, key=lambda words: (len(words), words))  # a batch costs as much as its longest text
        if self._vectors is None:
            self._vectors = TextVectors(create_encoder(), environment_cache())
        if self._embedded != len(texts):
            self._vectors.prefetch(texts, lambda done: progress(EMBEDDING, done, len(texts)))
            self._embedded = len(texts)
        return TextFeed(self._vectors)


# ------------------------------------------------------------------------------------------------ many passes
class Benches:
    """One bench at a time, the one that the passes need."""

    def __init__(self) -> None:
        self._bench: Bench | None = None

    def __call__(self, spec: Spec, told: Told) -> tuple[Outcome, list[str]]:
        """What the pass gave, and what was skipped when its log was read (nothing if that was before)."""
        notes: list[str] = []
        if self._bench is None or not self._bench.holds(spec):
            self.close()
            self._bench = Bench(spec)
            notes = self._bench.log.notes
        return self._bench.measure(spec, lambda stage, done, of: told(done / of) if stage == REPLAYING else None), notes

    def close(self) -> None:
        if self._bench is not None:
            self._bench.close()
            self._bench = None


def measure_all(
    specs: Sequence[Spec],
    *,
    jobs: int = 1,
    progress: Told = lambda done: None,
    notes: Callable[[Sequence[str]], None] = lambda lines: None,
) -> Iterator[tuple[int, Outcome]]:
    """Each pass's place in `specs` and what it gave, as they are done, in `jobs` processes.

    `notes` is told, once, what was skipped in the logs; `progress`, how many passes' worth of work is done. A failure of one
    ends all.
    """
    benches, said = Benches(), set[str]()
    try:
        for place, (outcome, news) in at_once(benches, specs, jobs=jobs, progress=progress):
            notes([line for line in news if line not in said])
            said.update(news)
            yield place, outcome
    finally:
        benches.close()
