"""The embedder on a real embedded Qdrant: whatever happens on the way, the state is that of one pass over the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.vector_store import VectorStore
from tests.streams.embed_stage import (
    WORDS,
    Log,
    Stage,
    _decode,
    check,
    on_stage,
)

ops = st.tuples(
    st.sampled_from(["review", "review", "review", "copy", "edit", "remove", "remove early", "describe", "undescribe", "erase"]),
    st.integers(0, 2),
    st.integers(0, 11),
)


def make_log(script: list[tuple[str, int, int]]) -> Log:
    log = Log()
    for n, (op, which, pick) in enumerate(script):
        item, text = f"item{which}", f"{WORDS[pick % 8]} {WORDS[(pick + which) % 8]}"
        earlier = [t for t in map(_decode, log.records) if t.kind == "review" and t.item_id == item]
        chosen = earlier[pick % len(earlier)] if earlier else None
        match op:
            case "copy" if chosen:
                user = chosen.user_id or ""
                log.review(chosen.source_id, chosen.text, item, user, at=chosen.timestamp_ms, retracts=chosen.retracts)
            case "edit" if chosen:
                log.review(f"r{n}", text, item, chosen.user_id or "", at=pick, retracts=chosen.source_id)
            case "erase":
                log.erase(f"u{which}", pick)
            case "remove" if chosen:
                log.add("removal", f"x{n}", item, retracts=chosen.source_id)
            case "remove early":
                log.add("removal", f"x{n}", item, retracts=f"r{n + 1 + pick % 3}")
            case "describe":
                log.add("description", item, item, text=text)
            case "undescribe":
                log.add("removal", item, item)
            case _:
                log.review(f"r{n}", text, item, f"u{(n + pick) % 3}", at=pick)
    return log


class CrashError(Exception):
    """The process dies here."""


class MortalStore(VectorStore):
    """Dies before or after its n-th write, counted over all writes of all calls."""

    deaths: frozenset[int] = frozenset()
    writes = 0

    async def _run(self, what: str, *arguments: Any, **more: Any) -> Any:
        if not what.startswith(("writing", "deleting")):
            return await super()._run(what, *arguments, **more)
        self.writes += 1
        if 2 * self.writes in self.deaths:
            raise CrashError
        answer = await super()._run(what, *arguments, **more)
        if 2 * self.writes + 1 in self.deaths:
            raise CrashError
        return answer


async def live(stage: Stage, log: Log, size: Callable[[int, int], int], rewind: Callable[[int], int]) -> int:
    """Feed the log in batches of `size(step, deaths)`, going back by `rewind(deaths)` after a death; returns the deaths."""
    start = deaths = step = 0
    while start < len(log.records):
        batch = log.records[start : start + size(step, deaths)]
        step += 1
        try:
            await stage.feed(batch)
            start += len(batch)
        except CrashError:  # the next process may begin earlier: acknowledgements are committed now and then
            start = max(0, start - rewind(deaths))
            deaths += 1
    return deaths


def everything() -> Log:
    """One item with all that can happen to it, close together."""
    log = Log()
    log.review("a", "warm tone", at=5)
    log.add("removal", "x1", retracts="a")  # nothing is said any more: the item's point goes
    log.review("b", "leaks", at=4)
    log.add("description", "i1", text="a guitar")
    log.review("c", "cheap strings", at=6, retracts="b")
    log.add("removal", "x2", retracts="b")  # again
    log.review("b", "leaks", at=4)  # a copy, after its end
    log.add("removal", "x3", retracts="e")  # before its beginning
    log.review("d", "lovely", user="u2", at=3)
    log.review("e", "sturdy", at=9)
    log.review("i", "sturdy strings", user="u2", at=8)
    log.review("f", "warm strings", user="ada", at=12)
    log.add("description", "i1", text="a better guitar")
    log.review("g", "leaks", user="ada", at=30)
    log.erase("ada", 20, partitions=(0,))  # both go, whatever their time
    log.review("h", "cheap", user="ada", at=15)  # late: stays out
    log.review("f", "warm strings", user="ada", at=12)  # a copy: stays away
    log.review("k", "lovely", user="ada", at=25)  # they came back
    log.add("removal", "x4", retracts="c")
    log.add("removal", "x5", retracts="i")  # what its account said before counts again
    log.review("l", "cheap tone", user="u2", at=31)  # and not any more
    return log


@pytest.mark.parametrize("size_before", [1, 2, 3, 12])
@pytest.mark.parametrize("size_after", [1, 2, 3, 12])
@pytest.mark.parametrize("rewind", [0, 3])
def test_death_at_every_write(size_before: int, size_after: int, rewind: int) -> None:
    """Before and after every single write, with other batches in the next life."""
    log = everything()

    async def play() -> None:
        moment, died = 2, True
        while died:
            stage = Stage(MortalStore(path=":memory:"))
            stage.store.deaths = frozenset([moment])  # type: ignore[attr-defined]
            died = bool(await live(stage, log, lambda _, deaths: size_after if deaths else size_before, lambda _: rewind))
            await check(stage, log)
            await stage.store.close()
            moment += 1
        assert moment > 8  # several writes were there to die at

    asyncio.run(play())


def test_two_deaths_around_a_repeated_removal() -> None:
    """The second copy of a removal must not hide from the next life what the first one has already taken out."""
    log = Log()
    log.review("a", "warm tone")
    log.review("b", "sturdy")
    log.add("removal", "x1", retracts="a")
    log.add("removal", "x2", retracts="a")

    async def play() -> None:
        for moments in combinations(range(2, 20), 2):
            stage = Stage(MortalStore(path=":memory:"))
            stage.store.deaths = frozenset(moments)  # type: ignore[attr-defined]
            await live(stage, log, lambda _, deaths: 1 if deaths else 2, lambda _: 0)
            await check(stage, log)
            await stage.store.close()

    asyncio.run(play())


def test_an_early_line_again_publishes_what_holds_now() -> None:
    log = Log()
    log.add("description", "i1", text="a guitar")
    log.review("a", "warm tone")
    log.add("description", "i1", text="a better guitar")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        await stage.feed(log.records[:1])
        await check(stage, log)
        await stage.feed(log.records[:2])
        await check(stage, log)

    on_stage(play)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    script=st.lists(ops, min_size=1, max_size=30),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=10),
    deaths=st.frozensets(st.integers(2, 60), max_size=6),
    unpublished=st.frozensets(st.integers(1, 12), max_size=3),
    rewinds=st.lists(st.integers(0, 30), min_size=1, max_size=6),
)
def test_state_is_that_of_one_pass(
    script: list[tuple[str, int, int]], sizes: list[int], deaths: frozenset[int], unpublished: frozenset[int], rewinds: list[int]
) -> None:
    """Copies, edits, removals before and after, batches of any size, deaths at any write, suffixes replayed: nothing shows."""
    log = make_log(script)

    async def play(stage: Stage) -> None:
        attempts = 0

        def die_sometimes() -> None:
            nonlocal attempts
            attempts += 1
            if attempts in unpublished:
                raise CrashError

        stage.store.deaths, stage.on_publish = deaths, die_sometimes  # type: ignore[attr-defined]
        await live(stage, log, lambda step, _: sizes[step % len(sizes)], lambda deaths: rewinds[deaths % len(rewinds)])
        stage.store.deaths, stage.on_publish = frozenset(), lambda: None  # type: ignore[attr-defined]
        await check(stage, log)
        await stage.feed(log.records)  # a rebuild from the beginning
        await check(stage, log)

    on_stage(play, store=MortalStore(path=":memory:"))


def test_a_day_of_one_item_in_batches_of_64(tmp_path: Path) -> None:
    """More lines than one step takes, on disk, opened again in the middle."""
    log = Log()
    for n in range(150):
        log.review(f"r{n}", f"word{n} word{n % 7}", user=f"u{n % 40}")
        if n % 5 == 4:
            log.add("removal", f"x{n}", retracts=f"r{n - 2}")

    async def main() -> None:
        first = Stage(VectorStore(path=str(tmp_path)))
        await first.feed(log.records[:100])
        await first.store.close()
        second = Stage(VectorStore(path=str(tmp_path)))
        second.words = first.words  # topics outlive whoever writes to them
        await second.feed(log.records[80:])
        await check(second, log)
        await second.store.close()

    asyncio.run(main())
