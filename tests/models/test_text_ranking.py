"""Texts for a ranker, and what its scores do to a list."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from models import Click, Recommender
from models.events import Evidence, Item, ItemVector, Recommended
from models.text_ranking import ItemTexts, recent, reordered, scores


class Length:
    """The longer a text, the better."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def rank(self, query_text: str, candidate_texts: Sequence[str]) -> list[float]:
        self.asked.append((query_text, list(candidate_texts)))
        return [float(len(text)) for text in candidate_texts]


def line(item: str, rank: int, score: float, *kinds: str) -> Recommended:
    reasons = [Evidence(kind="popular", weight=score), *(Evidence(kind=kind, weight=0.0) for kind in kinds)]
    return Recommended(item_id=item, rank=rank, score=score, sources={"popularity": score}, reasons=reasons)


LINES = [line("a", 1, 0.4), line("b", 2, 0.3), line("c", 3, 0.2), line("d", 4, 0.1)]


def test_texts_have_the_title_and_the_newest_line() -> None:
    texts = ItemTexts()
    texts.entry(Item(item_id="i", title=" A  drum ", description="round\nthing"))
    assert texts.of("i") == "A drum. round thing"
    texts.vector(ItemVector(item_id="i", vector=b"0000", texts=1, model="m", snippet="loud!"))
    assert texts.of("i") == "A drum. loud!"
    texts.vector(ItemVector(item_id="i", vector=b"", texts=0, model="m"))  # what was said is taken back
    assert texts.of("i") == "A drum. round thing"
    texts.remove("i")
    assert texts.of("i") == ""
    texts.say("j", "y" * 1000)
    assert len(texts.of("j")) == 250
    assert texts.query(["i", "j"]) == "y" * 250


def test_texts_are_bounded_and_the_newest_stay() -> None:
    texts = ItemTexts(max_items=2)
    for item in "abac":
        texts.say(item, f"about {item}")
    assert [texts.of(item) for item in "abc"] == ["about a", "", "about c"]
    assert texts.sizes() == {"ranker_texts": (2, 2)}


def test_recent_items_are_the_newest_first() -> None:
    model = Recommender()
    for k, item in enumerate(["a", "b", "c", "a"]):
        model.learn(Click(event_id=f"e{k}", user_id="u", item_id=item, timestamp_ms=k + 1))
    assert recent(model.history, "u", 2) == ["a", "c"]
    assert recent(model.history, "u", 9) == ["a", "c", "b"]
    assert recent(model.history, "nobody", 2) == []


def test_candidates_without_text_get_the_mean() -> None:
    ranker = Length()
    assert scores(ranker, "q", ["xxxx", "", "xx"]) == [4.0, 3.0, 2.0]
    assert ranker.asked == [("q", ["xxxx", "xx"])]


@pytest.mark.parametrize(("query", "texts"), [("", ["x", "y"]), ("q", ["x", ""]), ("q", [])])
def test_without_texts_nothing_is_asked(query: str, texts: list[str]) -> None:
    ranker = Length()
    assert scores(ranker, query, texts) is None
    assert not ranker.asked


@pytest.mark.parametrize("answer", [[1.0], [1.0, math.nan], [1.0, math.inf], [1.0, 2.0, 3.0]])
def test_unusable_answers_are_refused(answer: list[float]) -> None:
    class Broken:
        def rank(self, query_text: str, candidate_texts: Sequence[str]) -> list[float]:
            return answer

    with pytest.raises(ValueError, match="scores for 2 texts"):
        scores(Broken(), "q", ["x", "y"])


def test_the_order_is_that_of_log_score_plus_weight_times_ranker_score() -> None:
    # log .4, .3, .2, .1 = -.916, -1.204, -1.609, -2.303; with w = .5 and f = (0, 1, 0, 3): -.916, -.704, -1.609, -.803
    out = reordered(LINES, [0.0, 1.0, 0.0, 3.0], 0.5, 3)
    assert [(x.item_id, x.rank, x.score) for x in out] == [("b", 1, 0.3), ("d", 2, 0.1), ("a", 3, 0.4)]


def test_a_line_above_a_higher_score_says_why_and_sums_hold() -> None:
    out = reordered([*LINES[:3], line("d", 4, 0.1, "variety")], [0.0, 1.0, 0.0, 3.0], 0.5, 4)
    assert [[r.kind for r in x.reasons] for x in out] == [
        ["popular", "language"],
        ["popular", "language"],
        ["popular"],
        ["popular"],
    ]
    for x in out:
        assert sum(r.weight for r in x.reasons) == x.score == sum(x.sources.values())


def test_weight_zero_and_equal_scores_leave_the_order_alone() -> None:
    assert reordered(LINES, [0.0, 5.0, 1.0, 9.0], 0.0, 4) == LINES
    assert reordered(LINES, [7.0] * 4, 100.0, 2) == LINES[:2]


def test_pinned_items_stay_on_top() -> None:
    out = reordered([line("p", 1, 0.0, "pinned"), *LINES], [0.0, 0.0, 0.0, 0.0, 50.0], 1.0, 3)
    assert [x.item_id for x in out] == ["p", "d", "a"]
    assert [r.kind for r in out[0].reasons] == ["popular", "pinned"]


def test_every_line_needs_a_score() -> None:
    with pytest.raises(ValueError, match="3 scores for 4 lines"):
        reordered(LINES, [1.0, 2.0, 3.0], 1.0, 2)
