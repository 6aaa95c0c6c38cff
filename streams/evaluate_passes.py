"""Passes over logs: what is to be measured as a small value (`Spec`), measured here or in several processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from ctypes import c_int64
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from models import Config, Recommender
from models.evaluation import Plan, Protocol, Subject, run
from models.evaluation.neighbour_lists import SYSTEMS, NeighbourLists, System
from models.evaluation.outcome import Outcome
from models.evaluation.subject import RecommenderSubject
from models.events import Event, Item
from streams.convert import EventFile
from streams.lockstep_client import LockstepProcess
from streams.text_encoder import create_encoder
from streams.text_vectors import TextFeed, TextVectors, environment_cache, said

Way = Literal["inside", "lockstep", "neighbours"]
Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""

EMBEDDING: Final = "embedding texts"
REPLAYING: Final = "test, then learn"
TICK_S: Final = 0.2
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
    """One pass: which log, what is scored, by which model. `way`: the recommender in this process, every source beside the
    fused list; in a process of its own that is asked in lock-step, the fused list alone; or the papers' neighbourhoods."""

    files: tuple[Path, ...]
    protocol: Protocol
    config: Config
    catalogues: tuple[Path, ...] = ()
    text: bool = True
    lenient: bool = False
    way: Way = "inside"
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
        return self._pass(RecommenderSubject(Recommender(spec.config), repeats=spec.protocol.repeats), plan, feed, replayed)

    def _pass(self, subject: Subject, plan: Plan, feed: TextFeed | None, progress: Callable[[int], None]) -> Outcome:
        text = feed.vector if feed is not None else None
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
def measure_all(
    specs: Sequence[Spec],
    *,
    jobs: int = 1,
    progress: Callable[[float], None] = lambda done: None,
    notes: Callable[[Sequence[str]], None] = lambda lines: None,
) -> Iterator[tuple[int, Outcome]]:
    """Each pass's place in `specs` and what it gave, as they are done: one after the other here, or in `jobs` processes.

    The first of several processes to read a log says in `notes` what was skipped in it. `progress` is told how many passes' worth
    of work is done. A failure of one ends all.
    """
    if jobs == 1 or len(specs) == 1:
        yield from _one_by_one(specs, progress, notes)
    else:
        yield from _at_once(specs, min(jobs, len(specs)), progress, notes)


def _one_by_one(
    specs: Sequence[Spec], progress: Callable[[float], None], notes: Callable[[Sequence[str]], None]
) -> Iterator[tuple[int, Outcome]]:
    bench: Bench | None = None
    try:
        for place, spec in enumerate(specs):
            bench, news = _bench_for(spec, bench)
            notes(news)

            def told(stage: str, done: int, total: int, place: int = place) -> None:
                if stage == REPLAYING:
                    progress(place + done / total)

            yield place, bench.measure(spec, told)
    finally:
        if bench is not None:
            bench.close()


def _bench_for(spec: Spec, bench: Bench | None) -> tuple[Bench, list[str]]:
    """This bench if it is the right one, else a new one; with it what was skipped when it read its files."""
    if bench is not None and bench.holds(spec):
        return bench, []
    if bench is not None:
        bench.close()
    bench = Bench(spec)
    return bench, bench.log.notes


_WHOLE: Final = 1_000_000


def _at_once(
    specs: Sequence[Spec], jobs: int, progress: Callable[[float], None], notes: Callable[[Sequence[str]], None]
) -> Iterator[tuple[int, Outcome]]:
    """Processes are spawned, not forked: threads of the encoder or of numba would not survive a fork."""
    context = multiprocessing.get_context("spawn")
    parts: Any = context.Array(c_int64, len(specs), lock=False)
    said: set[str] = set()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(parts,)) as pool:
        waiting = {pool.submit(_measure, place, spec): place for place, spec in enumerate(specs)}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=TICK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome, news = future.result()
                    notes([line for line in news if line not in said])
                    said.update(news)
                    yield waiting.pop(future), outcome
                progress(sum(parts) / _WHOLE)
        finally:
            pool.shutdown(cancel_futures=True)


_state: dict[str, Any] = {}
"""In a process of the pool: its bench, and the array in which it reports its progress."""


def _start(parts: Any) -> None:
    _state["parts"] = parts


def _measure(place: int, spec: Spec) -> tuple[Outcome, list[str]]:
    bench, news = _bench_for(spec, _state.get("bench"))
    _state["bench"] = bench

    def told(stage: str, done: int, total: int) -> None:
        if stage == REPLAYING:
            _state["parts"][place] = done * _WHOLE // total

    return bench.measure(spec, told), news
