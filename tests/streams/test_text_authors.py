"""One account, one voice in the mean of an item, whatever it writes and takes back."""

from __future__ import annotations

import numpy as np
import pytest

from streams.text_authors import MOST_TAGS, Voice, last, may_count, tag, tagged
from streams.text_points import ItemPoint, Position, ReviewPoint, item_point_id
from streams.vector_store import VectorStore
from tests.streams.embed_stage import DIM, ENCODER, Log, Stage, check, on_stage


def direction(stage: Stage) -> np.ndarray:
    return np.frombuffer(stage.published["i1"].vector, "<f4")


def honest(log: Log, people: int) -> None:
    for n in range(people):
        log.review(f"honest{n}", f"warm tone number{n}", user=f"honest{n}")


@pytest.mark.parametrize("batch", [1, 5, 200])
def test_a_hundred_reviews_of_one_account_move_an_item_no_further_than_one(batch: int) -> None:
    log = Log()
    honest(log, 9)
    for n in range(100):
        log.review(f"pushed{n}", f"lovely lovely {n}", user="mallory")

    async def play(stage: Stage) -> None:
        await stage.feed(*(log.records[k : k + batch] for k in range(0, len(log.records), batch)))
        await check(stage, log)
        texts = [f"warm tone number{n}" for n in range(9)]
        alone = ENCODER.encode([*texts, "lovely lovely 99"]).mean(axis=0)
        np.testing.assert_allclose(direction(stage), alone / np.linalg.norm(alone), atol=1e-5)
        assert stage.published["i1"].texts == 10
        assert (await stage.store.counts())["reviews"] == 109  # all of them stay evidence

    on_stage(play)


def test_what_was_said_before_counts_again_when_the_later_is_taken_back() -> None:
    log = Log()
    honest(log, 2)
    for word in ("leaks", "sturdy", "cheap"):
        log.review(word, word, user="ada")
    log.add("removal", "x1", retracts="sturdy")  # of the middle: nothing changes
    log.add("removal", "x2", retracts="cheap")  # of the last: the first is back
    log.add("removal", "x3", retracts="leaks")

    async def play(stage: Stage) -> None:
        seen = []
        for k in range(4, len(log.records)):
            await stage.feed(log.records[:k] if k == 4 else log.records[k - 1 : k])
            seen.append((stage.published["i1"].texts, direction(stage)))
        assert [texts for texts, _ in seen] == [3, 3, 3, 3]
        await stage.feed(log.records[-1:])
        await check(stage, log)
        assert stage.published["i1"].texts == 2
        leaks = ENCODER.encode(["warm tone number0", "warm tone number1", "leaks"]).mean(axis=0)
        np.testing.assert_allclose(seen[-1][1], leaks / np.linalg.norm(leaks), atol=1e-5)
        np.testing.assert_allclose(seen[1][1], seen[2][1], atol=1e-6)

    on_stage(play)


def test_a_bare_rating_silences_nobody() -> None:
    log = Log()
    log.review("words", "a warm tone")
    log.review("stars", "  ")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        await check(stage, log)
        assert stage.published["i1"].texts == 1

    on_stage(play)


def test_an_item_with_more_accounts_than_tags_still_hears_each_once() -> None:
    log = Log()
    honest(log, MOST_TAGS + 20)
    for n in range(0, MOST_TAGS + 20, 9):
        log.review(f"again{n}", f"leaks {n}", user=f"honest{n}")
    for n in range(0, MOST_TAGS + 20, 18):
        log.add("removal", f"x{n}", retracts=f"again{n}")

    async def play(stage: Stage) -> None:
        await stage.feed(log.records)
        await check(stage, log)
        item = (await stage.store.read_items([item_point_id("i1")]))["i1"]
        assert (item.tags, item.texts) == (None, MOST_TAGS + 20)

    on_stage(play)


def test_the_store_is_asked_for_those_alone_who_may_have_spoken() -> None:
    class Asked(VectorStore):
        questions = 0

        async def last_review(self, *arguments: object, **more: object) -> ReviewPoint | None:
            self.questions += 1
            return await super().last_review(*arguments, **more)  # type: ignore[arg-type]

    log = Log()
    honest(log, 30)
    log.review("again", "leaks", user="honest3")

    async def play(stage: Stage) -> None:
        for line in log.records:
            await stage.feed([line])
        assert isinstance(stage.store, Asked)
        assert stage.store.questions == 2  # before and after, of the one who spoke twice

    on_stage(play, store=Asked(path=":memory:"))


def review(user: str, offset: int, counted: bool = True) -> ReviewPoint:
    return ReviewPoint("i1", f"{user}{offset}", user, 4.0, 0, "text", counted, Position(0, offset), np.ones(DIM, np.float32))


def test_two_accounts_with_one_tag_leave_one_by_one() -> None:
    known = {}
    for n in range(70_000):
        first = known.setdefault(tag(f"u{n}"), f"u{n}")
        if first != f"u{n}":
            break
    a, b = first, f"u{n}"
    assert a != b
    assert tag(a) == tag(b)
    both = tagged((), [Voice(a, None, review(a, 1)), Voice(b, None, review(b, 2))])
    assert both == (tag(a), tag(a))
    left = tagged(both, [Voice(a, review(a, 1), None)])
    item = ItemPoint("i1", 1, 1.0, np.ones(DIM, np.float32), Position(0, 3), tags=left)
    assert may_count(item, b)
    assert tagged(left, [Voice(b, review(b, 2), review(b, 4))]) == (tag(b),)
    assert tagged(left, [Voice(b, review(b, 2), None)]) == ()


def test_the_last_has_words_and_is_last_in_the_log() -> None:
    assert last([]) is None
    chosen = last([review("a", 3), review("a", 7), review("a", 9, counted=False), review("a", 5)])
    assert chosen is not None
    assert chosen.position.offset == 7
