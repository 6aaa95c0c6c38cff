from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest

from models import Click, Config, ItemVector, Recommender
from models.config import ConfigError
from tests.models.contracts.suite import SourceContract
from tests.models.contracts.test_text import VECTORS, entry, taken
from tests.models.naive import Naive
from tests.models.state import scores


class TestTextItemCF(SourceContract):
    registered = "text_item_cf"
    tolerance = 1e-4  # vectors are float32
    absolute = 1e-7  # a cosine of 0.00002 has no more digits than that
    config = Config(text_item_share=0.3)

    def background(self) -> Iterable[ItemVector]:
        return [entry(item, vector) for item, vector in list(VECTORS.items())[3:]]  # of three nothing is said

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        said = list(VECTORS)[3:]
        matrix = np.array([VECTORS[item] for item in said], np.float64)
        unit = matrix - matrix.mean(axis=0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        vector = dict(zip(said, unit, strict=True))
        takers, share = naive.takers(), naive.config.text_item_share
        result: dict[str, float] = defaultdict(float)
        known = naive.known_items()
        for age, (j, weight) in enumerate(naive.profile(user)[::-1][: naive.config.item_cf_items]):
            for i in known - {j}:
                both = len(takers.get(i, set()) & takers[j])
                sim = (1 - share) * both / math.sqrt(len(takers[i]) * len(takers[j])) if both else 0.0
                if i in vector and j in vector:
                    sim += share * float(vector[i] @ vector[j])
                result[i] += naive.config.item_cf_decay**age * weight * sim
        return dict(result)


def test_without_a_share_of_text_it_is_item_cf() -> None:
    model = Recommender(Config(sources=("item_cf", "text_item_cf"), text_item_share=0.0, fusion="rrf"))
    for user, items in {"x": "abc", "y": "abd", "z": "bd", "ada": "a"}.items():
        taken(model, user, *items)
    assert scores(model, "text_item_cf", "ada") == pytest.approx(scores(model, "item_cf", "ada"))


def test_it_is_in_use_only_where_it_is_asked_for() -> None:
    assert "text_item_cf" not in {source.name for source in Recommender().sources}
    assert {"text_item_cf", "item_cf"} <= {source.name for source in Recommender(Config(also=("text_item_cf",))).sources}
    with pytest.raises(ConfigError, match="also: text_itm_cf unknown, choose from"):
        Recommender(Config(also=("text_itm_cf",)))


def test_the_reason_names_the_own_items_that_are_most_alike() -> None:
    model = Recommender(Config(sources=("text_item_cf",), text_item_share=0.5))
    for item, vector in VECTORS.items():
        model.learn(entry(item, vector))
    for k, item in enumerate(VECTORS):
        model.learn(Click(event_id=f"e{k}", user_id=f"u{k}", item_id=item, timestamp_ms=1))
    taken(model, "ada", "i0", "i1")
    for line in model.recommend("ada", 6):
        assert line.reasons[0].item_id == ("i0" if int(line.item_id[1:]) % 2 == 0 else "i1")
        assert math.isclose(sum(reason.weight for reason in line.reasons), line.score)
        assert f"it is like {line.reasons[0].item_id}" in model.explain(line)
