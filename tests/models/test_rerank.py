"""Rules, diversity and calibration against naive twins written from the formulas."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Click, Config, Recommender
from models.calibration import SMOOTHING, divergence, mix
from models.config import ConfigError
from models.events import Item, ItemVector, Recommended
from models.interning import key64
from tests.models.streams_of import shop

CATEGORIES = ["amps", "bows", "cables", "drums"]


def stocked(
    config: Config, *, seed: int = 3, items: int = 25, categories: Mapping[str, Sequence[str]] | None = None
) -> Recommender:
    """A shop with categories and text vectors."""
    rng = random.Random(seed)
    model = Recommender(config)
    for k in range(items):
        named = list(categories.get(f"i{k}", ())) if categories is not None else rng.sample(CATEGORIES, rng.randint(0, 2))
        model.learn(Item(item_id=f"i{k}", title=f"thing {k}", categories=named))
        if rng.random() < 0.8:
            vector = np.array([rng.gauss(0, 1) for _ in range(6)], "<f4")
            model.learn(ItemVector(item_id=f"i{k}", vector=vector.tobytes(), texts=1, model="m"))
    for event in shop(seed, 8, items, 120):
        model.learn(event)
    return model


def plain(**wishes: object) -> Config:
    """Few sources and a fusion without learning: fast, and the same whatever the wishes."""
    return Config(sources=("item_cf", "popularity", "content"), fusion="weighted", **wishes)  # type: ignore[arg-type]


def categories_of(model: Recommender, item: str) -> set[str]:
    row = model.catalogue.of_item.row(model.history.items.get(item))
    return {model.catalogue.categories.name(int(c)) for c in row}


# ------------------------------------------------------------------------------------------------ the naive twin
class Twin:
    """The formulas of the module docstrings over dicts of names."""

    def __init__(self, model: Recommender, user: str, config: Config) -> None:
        self.config = config
        self.scores = {line.item_id: line.score for line in model.recommend(user, 1000)}
        self.categories = {item: categories_of(model, item) for item in self.scores}
        profile = model.history.profile(model.history.users.get(user))["item"].tolist()
        taken = [categories_of(model, model.history.items.name(i)) for i in profile[-config.calibration_items :]]
        self.target = self._proportions(taken)
        self.unit = {}
        for item in self.scores:
            row = int(model.vectors.rows_of(np.array([model.history.items.get(item)], np.int32))[0])
            if row >= 0:
                centred = [float(x) for x in model.vectors.matrix[row] - model.vectors.mean()]
                self.unit[item] = [x / math.hypot(*centred) for x in centred]

    @staticmethod
    def _proportions(sets: list[set[str]]) -> dict[str, float]:
        known = [s for s in sets if s]
        return {g: math.fsum(1 / len(s) for s in known if g in s) / len(known) for g in set().union(*known)} if known else {}

    def similar(self, a: str, b: str) -> float:
        if self.config.diversity_by == "categories":
            union = self.categories[a] | self.categories[b]
            return len(self.categories[a] & self.categories[b]) / len(union) if union else 0.0
        if a not in self.unit or b not in self.unit:
            return 0.0
        return max(0.0, math.fsum(x * y for x, y in zip(self.unit[a], self.unit[b], strict=True)))

    def divergence(self, chosen: list[str]) -> float:
        if not self.target:
            return 0.0
        q = self._proportions([self.categories[i] for i in chosen])
        a = SMOOTHING
        return math.fsum(p * math.log(p / ((1 - a) * q.get(g, 0.0) + a * p)) for g, p in self.target.items())

    def value(self, item: str, chosen: list[str]) -> float:
        d, c = self.config.diversity, self.config.calibration
        nearest = max((self.similar(item, other) for other in chosen), default=0.0)
        change = self.divergence([*chosen, item]) - self.divergence(chosen)
        return (1 - d - c) * self.scores[item] / max(self.scores.values()) - d * nearest - c * change

    def may(self, item: str, chosen: list[str], n: int) -> bool:
        """Whether the price allows it: the best completion reaches the bound."""
        ranked = sorted(self.scores.values(), reverse=True)
        rest = sorted((s for i, s in self.scores.items() if i not in chosen and i != item), reverse=True)
        reached = math.fsum([*(self.scores[i] for i in [*chosen, item]), *rest[: n - len(chosen) - 1]])
        return reached >= (1 - self.config.rerank_price) * math.fsum(ranked[:n]) - 1e-9

    def check(self, items: list[str]) -> None:
        """Every place has the best allowed item, and of equal ones the one of the smallest key."""
        assert len(items) == min(8, len(self.scores))
        for place, item in enumerate(items):
            before = items[:place]
            values = {i: self.value(i, before) for i in self.scores if i not in before and self.may(i, before, len(items))}
            best = max(values.values())
            assert values[item] >= best - 1e-6  # vectors are float32
            if self.config.diversity_by == "categories" and not self.config.calibration:
                equal = [i for i, v in values.items() if abs(v - best) < 1e-12]
                assert item == min(equal, key=key64)


WISHES = [
    {"diversity": 0.3, "diversity_by": "categories", "rerank_price": 1.0},
    {"diversity": 0.6, "diversity_by": "categories", "rerank_price": 0.15},
    {"diversity": 0.5, "diversity_by": "vectors", "rerank_price": 1.0},
    {"diversity": 0.5, "diversity_by": "vectors", "rerank_price": 0.1},
    {"calibration": 0.5, "rerank_price": 1.0},
    {"calibration": 0.8, "rerank_price": 0.05},
    {"diversity": 0.3, "calibration": 0.4, "diversity_by": "categories", "rerank_price": 0.3},
]


@pytest.mark.parametrize("wishes", WISHES, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_place_has_the_item_that_the_formula_names(wishes: dict[str, object], seed: int) -> None:
    config = plain(**wishes)
    model, without = stocked(config, seed=seed), stocked(plain(), seed=seed)
    changed = 0
    for user in (f"u{k}" for k in range(5)):
        items = [line.item_id for line in model.recommend(user, 8)]
        Twin(without, user, config).check(items)
        changed += items != [line.item_id for line in without.recommend(user, 8)]
    assert changed  # else this test has shown nothing


@pytest.mark.parametrize("wishes", [*WISHES, {"boost": ("category:drums=3",), "pin": ("i7",), "cap": ("*=2",)}], ids=str)
def test_scores_shares_and_reasons_stay_those_of_the_fusion(wishes: dict[str, object]) -> None:
    model, without = stocked(plain(**wishes)), stocked(plain())
    for user in ("u0", "u1", "nobody"):
        scores = {line.item_id: line.score for line in without.recommend(user, 100)}
        lines = model.recommend(user, 8)
        assert [line.rank for line in lines] == list(range(1, len(lines) + 1))
        for line in lines:
            assert line.score == pytest.approx(scores.get(line.item_id, 0.0), abs=1e-12)
            assert sum(line.sources.values()) == pytest.approx(line.score, abs=1e-9)
            assert sum(reason.weight for reason in line.reasons) == pytest.approx(line.score, abs=1e-9)


def why(line: Recommended) -> set[str]:
    return {reason.kind for reason in line.reasons} & {"pinned", "rule", "variety"}


@pytest.mark.parametrize("wishes", [*WISHES, {"boost": ("category:drums=3", "item:i4=0.2")}], ids=str)
def test_a_line_above_a_higher_score_says_why_and_no_other_does(wishes: dict[str, object]) -> None:
    model, without = stocked(plain(**wishes)), stocked(plain())
    said = 0
    for user in (f"u{k}" for k in range(8)):
        scores = {line.item_id: line.score for line in without.recommend(user, 100)}
        lines = model.recommend(user, 8)
        for place, line in enumerate(lines):
            above = {x.item_id for x in lines[:place]}
            overtaken = any(score > line.score for item, score in scores.items() if item not in above)
            assert bool(why(line)) >= overtaken
            said += overtaken
            if why(line) == {"rule"}:
                assert overtaken
    assert said


def test_lists_do_not_change_where_nothing_is_wished() -> None:
    model = stocked(Config())
    scores = [line.score for line in model.recommend("u1", 10)]
    assert scores == sorted(scores, reverse=True)
    assert all(not why(line) for line in model.recommend("u1", 10))


# ------------------------------------------------------------------------------------------------ the price
@settings(max_examples=25)
@given(
    st.integers(0, 50), st.floats(0, 1), st.sampled_from([0.0, 0.02, 0.1, 0.3]), st.sampled_from([(), ("*=1",), ("amps=2",)]),
    st.integers(1, 12),
)  # fmt: skip
def test_the_price_is_kept_and_the_list_is_no_shorter(
    seed: int, diversity: float, price: float, cap: tuple[str, ...], n: int
) -> None:
    wished = stocked(plain(diversity=diversity, diversity_by="categories", rerank_price=price, cap=cap), seed=seed % 5, items=15)
    ruled = stocked(plain(cap=cap), seed=seed % 5, items=15)
    user = f"u{seed % 8}"
    lines, best = wished.recommend(user, n), ruled.recommend(user, n)
    assert len(lines) == len(best)
    assert sum(x.score for x in lines) >= (1 - price) * sum(x.score for x in best) - 1e-9


def test_the_price_of_a_list_by_hand() -> None:
    model = stocked(plain(diversity=0.7, diversity_by="categories", rerank_price=0.5))
    query = model.asking.query("u1", 6)
    union = model.asking.candidates(query, complete=True)
    ranked = model.rerank.rank(union.items, model.fusion.shares(union, query), query, 6)
    best = sum(line.score for line in stocked(plain()).recommend("u1", 6))
    assert 0 < ranked.price <= 0.5
    assert ranked.price == pytest.approx(1 - float(ranked.shares.sum()) / best, abs=1e-9)


# ------------------------------------------------------------------------------------------------ calibration
def test_divergence_by_hand() -> None:
    # half of what was taken is g0, half g1; the list is all g0: q' = (.99 + .005, .005)
    expected = 0.5 * math.log(0.5 / 0.995) + 0.5 * math.log(0.5 / 0.005)
    assert divergence(np.array([0.5, 0.5]), np.array([3.0, 0.0]), 3) == pytest.approx(expected, abs=1e-12)
    assert divergence(np.array([0.5, 0.5]), np.array([1.0, 1.0]), 2) == pytest.approx(0.0, abs=1e-12)
    assert divergence(np.array([0.5, 0.5]), np.zeros(2), 0) == pytest.approx(math.log(1 / SMOOTHING), abs=1e-12)


def test_mix_by_hand() -> None:
    model = Recommender(plain())
    for item, categories in {"a": ["x"], "b": ["x", "y"], "c": []}.items():
        model.learn(Item(item_id=item, categories=categories))
    index = [model.history.items.get(i) for i in "abc"]
    made = mix(model.catalogue, np.array([index[1], index[2]], np.int32), np.array(index, np.int32))
    names = [model.catalogue.categories.name(int(c)) for c in made.categories]
    assert sorted(names) == ["x", "y"]
    assert dict(zip(names, made.target.tolist(), strict=True)) == {"x": 0.75, "y": 0.25}  # (1 + .5) / 2, .5 / 2
    assert made.starts.tolist() == [0, 2, 2]
    assert [names[m] for m in made.members] == ["x", "y"]


def test_a_list_comes_nearer_to_the_users_own_mix() -> None:
    categories = {f"i{k}": ["amps"] if k < 15 else ["drums"] for k in range(25)}
    model = stocked(plain(calibration=0.9, rerank_price=1.0), categories=categories)
    without = stocked(plain(), categories=categories)
    for user in ("u0", "u1", "u2", "u3"):
        twin = Twin(without, user, plain())
        before = twin.divergence([line.item_id for line in without.recommend(user, 8)])
        after = twin.divergence([line.item_id for line in model.recommend(user, 8)])
        assert after <= before + 1e-12


def test_a_stranger_has_no_mix() -> None:
    model, without = stocked(plain(calibration=1.0, rerank_price=1.0)), stocked(plain())
    assert [x.item_id for x in model.popular(8)] == [x.item_id for x in without.popular(8)]


def test_lists_do_not_depend_on_the_order_in_which_the_catalogue_came() -> None:
    wishes = plain(diversity=0.4, calibration=0.4, diversity_by="categories")
    named = {f"i{k}": [CATEGORIES[k % 4], CATEGORIES[(k // 4) % 4]] for k in range(25)}

    def made(order: list[str]) -> list[str]:
        model = Recommender(wishes)
        for item in order:
            model.learn(Item(item_id=item, categories=named[item]))
        for event in shop(1, 8, 25, 120):
            model.learn(event)
        return [line.item_id for line in model.recommend("u1", 10)]

    assert made(sorted(named)) == made(sorted(named, reverse=True))


# ------------------------------------------------------------------------------------------------ rules
def test_blocked_items_and_categories_are_never_shown() -> None:
    model = stocked(plain(block=("item:i0", "category:drums")))
    for user in ("u0", "u1", "u2", "nobody"):
        items = [line.item_id for line in model.recommend(user, 25)]
        assert items
        assert "i0" not in items
        assert not any("drums" in categories_of(model, item) for item in items)
        assert not any("drums" in categories_of(model, item) for item in model.lists(user, 25)["fused"])


def test_pinned_items_stand_on_top_for_those_who_may_see_them() -> None:
    model = stocked(plain(pin=("i9", "unknown", "i3")))
    model.learn(Click(event_id="x", user_id="ann", item_id="i9", timestamp_ms=10**13))
    lines = model.recommend("bob", 5)
    assert [line.item_id for line in lines[:2]] == ["i9", "i3"]
    assert "the shop has put it on top" in model.explain(Recommended(**{**as_dict(lines[0]), "reasons": lines[0].reasons[-1:]}))
    assert model.recommend("ann", 5, repeats=False)[0].item_id == "i3"  # ann has i9
    model.remove_item("i3")
    assert "i3" not in [line.item_id for line in model.recommend("bob", 25)]
    assert [line.item_id for line in model.recommend("bob", 1)] == ["i9"]


def as_dict(line: Recommended) -> dict[str, object]:
    return {name: getattr(line, name) for name in line.__struct_fields__}


def test_boosts_order_by_score_times_factors() -> None:
    without = stocked(plain())
    model = stocked(plain(boost=("category:drums=2.5", "item:i4=0.1", "category:amps=0.5")))
    for user in ("u0", "u1", "u2"):
        scores = {line.item_id: line.score for line in without.recommend(user, 100)}
        value = {}
        for item, score in scores.items():
            named = categories_of(model, item)
            value[item] = (
                score * (2.5 if "drums" in named else 1) * (0.5 if "amps" in named else 1) * (0.1 if item == "i4" else 1)
            )
        expected = sorted(value, key=lambda i: (-value[i], key64(i)))[:10]
        assert [line.item_id for line in model.recommend(user, 10)] == expected


def test_caps_are_kept_and_the_best_that_fits_is_taken() -> None:
    model, without = stocked(plain(cap=("drums=1", "*=2"))), stocked(plain())
    for user in ("u0", "u1", "u2"):
        ranked = [line.item_id for line in without.recommend(user, 100)]
        expected: list[str] = []
        for item in ranked:
            held = [g for other in expected for g in categories_of(model, other)]
            if len(expected) < 8 and all(held.count(g) < (1 if g == "drums" else 2) for g in categories_of(model, item)):
                expected.append(item)
        assert [line.item_id for line in model.recommend(user, 8)] == expected


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"pin": ("a", "a")}, "pin: 'a' is named twice"),
        ({"pin": ("a",), "block": ("item:a",)}, "item 'a' is pinned and blocked"),
        ({"block": ("a",)}, "'a': write item:ID or category:NAME"),
        ({"block": ("",)}, "an empty text"),
        ({"boost": ("item:a",)}, "write NAME=NUMBER"),
        ({"boost": ("item:a=x",)}, "'x' is no number"),
        ({"boost": ("item:a=0",)}, "a factor from 0.001 to 1000 is needed"),
        ({"boost": ("item:a=nan",)}, "a factor from 0.001 to 1000 is needed"),
        ({"boost": ("item:a=2", "item:a=3")}, "named twice"),
        ({"cap": ("x=-1",)}, "a whole number from 0 to 1000"),
        ({"cap": ("x=1", "x=2")}, "cap: 'x' is named twice"),
        ({"pin": tuple(f"i{k}" for k in range(257))}, "257 rules of the kind 'pin': at most 256"),
        ({"diversity": 0.6, "calibration": 0.5}, "at most 1 together"),
        ({"diversity": 1.5}, "diversity=1.5: must be at most 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(wishes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        plain(**wishes)
