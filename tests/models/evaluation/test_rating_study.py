"""The comparison of rating predictors: tested before it is learned, counted right, and river's figures are river's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from models import Config, Review
from models.evaluation.rating_errors import Errors, Median
from models.evaluation.rating_study import BASELINES, Predictors, StudyProtocol, river_baseline, river_biased_mf, study
from tests.models.streams_of import shop
from tests.public_data import DATA, needs_data

ML = DATA / "movielens-100k" / "u.data.gz"


def review(k: int, user: str, item: str, rating: float | None, retracts: str | None = None, text: str = "") -> Review:
    return Review(
        event_id=f"r{k}", user_id=user, item_id=item, timestamp_ms=k + 1, rating=rating, retracts=retracts, text=text
    )  # fmt: skip


def reviews(events: int = 300) -> list[Review]:
    return [event for event in shop(2, 9, 8, events) if isinstance(event, Review)]


def report(events: list[Review], **protocol: Any) -> dict[str, Any]:
    return study(events, StudyProtocol(**protocol), Config(), text=None).report()


# ------------------------------------------------------------------------------------------------ what is counted
def test_errors_by_hand() -> None:
    """Ada is wrong by 1 and 0, Bob by 2 (7 is clipped to 5). MAE 1; by user (1 - 2) and (2 - 1): se sqrt(2) / 3."""
    errors = Errors(["p", "q"])
    assert errors.table() == {}
    errors.add("ada", 4.0, np.array([5.0, 4.0]))
    errors.add("ada", 2.0, np.array([2.0, 2.0]))
    errors.add("bob", 3.0, np.array([7.0, 3.0]))
    table = errors.table()
    assert table["p"] == pytest.approx({"mae": 1.0, "mae_se": math.sqrt(2) / 3, "rmse": math.sqrt(5 / 3)})
    assert table["q"] == {"mae": 0.0, "mae_se": 0.0, "rmse": 0.0}


def test_running_median() -> None:
    median, ratings, rng = Median(), [], np.random.default_rng(0)
    assert median.value() == 3.0
    for _ in range(60):
        ratings.append(float(rng.choice([1, 2, 3.5, 4, 5])))
        median.learn(ratings[-1])
        assert median.value() == sorted(ratings)[(len(ratings) - 1) // 2]


def test_every_rating_is_predicted_from_those_before_it() -> None:
    """5, 1, 5 by one user for one item: the constants and means know only what came before."""
    found = report([review(k, "ada", "x", r) for k, r in enumerate([5, 1, 5])], warmup=0, ks=(3,))
    assert (found["reviews"], found["tested"]) == (3, 3)
    assert found["baselines"]["always the median"]["mae"] == pytest.approx((2 + 4 + 4) / 3)  # 3, then 5, then 1
    assert found["baselines"]["user mean"]["mae"] == pytest.approx((2 + 4 + 4) / 3)  # only the newest opinion of an item counts
    assert found["systems"]["UserCF cosine"] == {
        "with_neighbour": 0.0, "by_k": {"3": found["baselines"]["user mean"]}
    }  # fmt: skip


def test_warm_up_and_limit() -> None:
    events = reviews()
    assert report(events, limit=50, warmup=0.2)["tested"] == 40
    assert report(events, limit=50, warmup=45)["tested"] == 5
    nothing = report(events, limit=50, warmup=50)
    assert (nothing["tested"], nothing["baselines"], nothing["systems"]["ItemCF cosine"]["by_k"]) == (0, {}, {})


def test_repeated_ids_and_deletions_are_no_tests() -> None:
    events = [review(0, "ada", "x", 5), review(0, "ada", "x", 5), review(1, "bob", "x", 3), review(2, "ada", "x", None, "r0")]
    found = report([*events, review(3, "cyd", "x", 4)], warmup=0)
    assert (found["reviews"], found["tested"]) == (4, 3)
    predictors = Predictors(Config(), StudyProtocol(), text=False)
    for event in events:
        predictors.learn(event, None)
    simple, _ = predictors.ask("cyd", "x")
    assert simple[BASELINES.index("item mean")] == pytest.approx(3.0)


@pytest.mark.parametrize(
    "wrong", [{"ks": ()}, {"ks": (0, 5)}, {"ks": (5, 5)}, {"text_share": 0.0}, {"text_share": 1.5}, {"warmup": -1.0}]
)
def test_protocols_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"neighbours|text share|warm-up"):
        StudyProtocol(**wrong)


# ------------------------------------------------------------------------------------------------ words
def direction(event: Review) -> np.ndarray | None:
    return {"up": np.array([1, 0], np.float32), "down": np.array([0, 1], np.float32)}.get(event.text)


def test_words_find_neighbours_where_ratings_cannot() -> None:
    """Ada and Bob have rated nothing in common but write alike; Cyd writes otherwise."""
    events = [review(0, "ada", "a", 4, text="up"), review(1, "bob", "b", 1, text="up"), review(2, "bob", "x", 5, text="up"),
              review(3, "cyd", "c", 5, text="down"), review(4, "cyd", "x", 1, text="down")]  # fmt: skip
    predictors = Predictors(Config(), StudyProtocol(ks=(5,)), text=True)
    for event in events:
        predictors.learn(event, direction(event))
    _, near = predictors.ask("ada", "x")
    found = {system.name: prediction for system, prediction in zip(predictors.systems, near, strict=True)}
    assert found["UserCF cosine"].neighbours == 0
    assert found["T-UserCF cosine"].neighbours == 1
    assert found["T-UserCF cosine"].values == pytest.approx([4 + (5 - 3)])


def test_words_of_a_replaced_review_are_taken_back_once() -> None:
    """Bob edits his words away, and somebody else's attempt to retract them does nothing: he writes as Cyd now."""
    edit = review(5, "bob", "x", 5, retracts="r2", text="down")
    events = [review(0, "ada", "a", 4, text="up"), review(1, "cyd", "c", 3, text="down"), review(2, "bob", "x", 5, text="up"),
              review(3, "dan", "d", 3, retracts="r0"), edit, review(6, "bob", "y", 5, retracts="r2")]  # fmt: skip
    seen: list[str] = []

    def read(event: Review) -> np.ndarray | None:
        seen.append(event.event_id)
        return direction(event)

    result = study(events, StudyProtocol(ks=(5,), warmup=0), Config(), text=read)
    assert result.errors.n == 6
    assert seen.count("r0") == 1
    predictors = Predictors(Config(), StudyProtocol(ks=(5,)), text=True)
    assert predictors.texts is not None
    for event in events[:3]:
        predictors.learn(event, direction(event), retractable=True)
    for _ in range(2):
        predictors.take_back(events[2], direction(events[2]))
    assert predictors.texts.sizes()["text_users"][0] == 2


def test_without_words_there_are_no_text_systems() -> None:
    assert not any(name.startswith("T-") for name in report(reviews(), ks=(5,))["systems"])


# ------------------------------------------------------------------------------------------------ published figures
@needs_data
def test_river_is_measured_as_river_measures_itself() -> None:
    """The first 20,000 ratings of MovieLens 100K against a loop of its own over river's documented models."""
    from streams.convert import EventFile

    count = 20_000
    events = [event for event in EventFile(ML) if isinstance(event, Review)]
    found = report(events, limit=count, warmup=0, ks=(10, 30))
    for name, model in (("river Baseline", river_baseline()), ("river BiasedMF", river_biased_mf())):
        errors = []
        for event in events[:count]:
            user, item, rating = event.user_id, event.item_id, event.rating
            errors.append(min(5.0, max(1.0, model.predict_one(user=user, item=item))) - rating)
            model.learn_one(user=user, item=item, y=rating)
        measured = found["baselines"][name]
        assert measured["mae"] == pytest.approx(np.mean(np.abs(errors)), abs=1e-9)
        assert measured["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), abs=1e-9)
    best = min(row["rmse"] for row in found["baselines"].values())
    assert found["baselines"]["predict"]["rmse"] < best * 1.01
    assert found["systems"]["UserCF Pearson"]["with_neighbour"] > 0.5
    assert found["systems"]["UserCF Pearson"]["by_k"]["30"]["mae"] < found["baselines"]["user mean"]["mae"]
