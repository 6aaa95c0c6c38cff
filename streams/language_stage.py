"""The language stage: lists go through a ranker within a time budget, or stay as they are. Lists never depend on it.

One thread of its own calls the ranker, list after list, until the budget of the micro-batch is spent. Lists that are not done by
then go out in their fused order; while a call that came too late is still running, the next batches do not wait at all. After
`failures` batches in a row that failed or had no list done in time, the stage rests for `pause_s` and then tries again with one
batch (a circuit breaker; Nygard, *Release it!*, 2007).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from models.events import Recommended
from models.text_ranking import ItemTexts, Ranker, reordered, scores
from streams.breaker import Breaker
from streams.language_ranker import LoadedRanker
from streams.memory import no_collections
from streams.metrics import RANKED

log = logging.getLogger(__name__)

OUTCOMES: Final = RANKED
"""What becomes of a list: reordered by the ranker, or in its fused order because there was no text to go by, the budget was
spent, an earlier call is still running, the ranker failed, or the stage rests."""

Observe = Callable[[str, int], None]
"""Told an outcome and how many lists had it."""


class Asked(NamedTuple):
    """A list to be reordered: what the user took last (item ids, the newest first), and the best of the fused list."""

    recent: list[str]
    lines: list[Recommended]


class _Job(NamedTuple):
    query: str
    candidates: list[str]


class LanguageStage:
    """See the module. `texts` is read in the event loop's thread only, where it is also written."""

    def __init__(
        self,
        ranker: LoadedRanker,
        texts: ItemTexts,
        *,
        weight: float,
        budget_s: float,
        failures: int = 5,
        pause_s: float = 30.0,
        observe: Observe = lambda outcome, lists: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ranker, self.texts, self._weight, self._budget_s = ranker, texts, weight, budget_s
        self._observe, self._clock, self._breaker = observe, clock, Breaker(failures, pause_s, clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ranker")
        self._running: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Load the ranker. Raises `RankerError`."""
        with no_collections():
            await asyncio.get_running_loop().run_in_executor(self._thread, self._ranker.load)

    def close(self) -> None:
        """Take no more work; a call that is running ends by itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def reorder(self, asked: Sequence[Asked], n: int) -> list[list[Recommended]]:
        """The best `n` lines of each list, in the ranker's order where it answered in time, else in the order given."""
        refused = self._refusal()
        if refused is not None:
            if asked:
                self._observe(refused, len(asked))
            return [a.lines[:n] for a in asked]
        answers = await self._answers(
            [_Job(self.texts.query(a.recent), [self.texts.of(x.item_id) for x in a.lines]) for a in asked]
        )
        return [
            reordered(a.lines, answer, self._weight, n) if isinstance(answer, list) else a.lines[:n]
            for a, answer in zip(asked, answers, strict=True)
        ]

    def _refusal(self) -> str | None:
        if self._breaker.rests:
            return "resting"
        if self._running is not None and not self._running.done():
            return "busy"
        return None

    async def _answers(self, jobs: Sequence[_Job]) -> list[list[float] | str]:
        """Scores for each job, or the outcome that stands in their place."""
        answers: list[list[float] | str] = ["late"] * len(jobs)
        deadline = self._clock() + self._budget_s
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._work, jobs, answers, deadline)
        self._running = work
        await asyncio.wait({work}, timeout=self._budget_s)
        taken = list(answers)  # what comes later is not looked at
        self._judge(taken)
        return taken

    def _work(self, jobs: Sequence[_Job], answers: list[list[float] | str], deadline: float) -> None:
        """In the ranker's thread."""
        for k, job in enumerate(jobs):
            if self._clock() >= deadline:
                return
            try:
                answers[k] = _answer(self._ranker, job)
            except Exception as problem:  # whatever it is, the list goes out without it
                answers[k] = "failed"
                log.warning("the ranker failed, fused lists stand: %s", problem)
                return

    def _judge(self, answers: Sequence[list[float] | str]) -> None:
        """Count outcomes; rest after too many bad batches in a row."""
        outcomes = [answer if isinstance(answer, str) else "reordered" for answer in answers]
        for outcome in dict.fromkeys(outcomes):
            self._observe(outcome, outcomes.count(outcome))
        if "failed" in outcomes or ("late" in outcomes and "reordered" not in outcomes):
            if self._breaker.failed():
                resting, bad = self._breaker.pause_s, self._breaker.in_a_row
                log.warning("the language stage rests for %g s after %d bad batches in a row", resting, bad)
        elif "reordered" in outcomes:
            self._breaker.succeeded()


def _answer(ranker: Ranker, job: _Job) -> list[float] | str:
    answer = scores(ranker, job.query, job.candidates)
    return "no_text" if answer is None else answer
