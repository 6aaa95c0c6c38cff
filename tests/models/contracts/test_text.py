from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models import Click, Config, ItemVector, Recommender
from tests.models.contracts.suite import SourceContract
from tests.models.naive import Naive, coarse, turned
from tests.models.state import scores


def vectors(count: int, dim: int = 12, seed: int = 1) -> dict[str, np.ndarray]:
    """Unit vectors that share a direction, as texts do; even and odd items differ."""
    rng = np.random.default_rng(seed)
    found = {}
    for k in range(count):
        v = rng.normal(0, 0.3, dim)
        v[0] += 3
        v[1 + k % 2] += 2
        found[f"i{k}"] = (v / np.linalg.norm(v)).astype(np.float32)
    return found


def entry(item: str, vector: np.ndarray, snippet: str = "", model: str = "m") -> ItemVector:
    return ItemVector(item_id=item, vector=vector.astype("<f4").tobytes(), texts=1, model=model, snippet=snippet)


VECTORS = vectors(20)


class TestText(SourceContract):
    registered = "text"
    tolerance = 1e-4  # float32
    absolute = 1e-5  # of the direction a number may be rounded to the other side, which is 1 / 32,767 of it

    def background(self) -> Iterable[ItemVector]:
        return [entry(item, vector) for item, vector in VECTORS.items()]

    def expected(self, naive: Naive, source: str, user: str) -> dict[str, float]:
        matrix = np.array(list(VECTORS.values()), np.float64)
        unit = matrix - matrix.mean(axis=0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        place = {item: k for k, item in enumerate(VECTORS)}
        taste = np.zeros(matrix.shape[1])
        for age, (j, weight) in enumerate(naive.profile(user)[::-1][: naive.config.text_items]):
            if j in place:
                taste += naive.config.text_decay**age * weight * unit[place[j]]
        if not taste.any():
            return {}
        taste = turned(taste / np.linalg.norm(taste))
        known = naive.known_items()
        unit = coarse(matrix) - matrix.mean(axis=0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        return {item: float(unit[k] @ taste) for item, k in place.items() if item in known}

    def test_checkerboard(self) -> None:
        """Texts know groups, not which of their items was withheld: even users get even items, odd users odd ones."""
        model = self.model(
            Click(event_id=f"{u}-{i}", user_id=f"u{u}", item_id=f"i{i}", timestamp_ms=1 + u)
            for u in range(10)
            for i in range(20)
            if i % 2 == u % 2 and i // 2 != u // 2
        )
        for user in range(10):
            assert next(iter(scores(model, "text", f"u{user}"))) == f"i{2 * (user // 2) + user % 2}"


def taken(model: Recommender, user: str, *items: str) -> None:
    for k, item in enumerate(items):
        model.learn(Click(event_id=f"{user}-{item}", user_id=user, item_id=item, timestamp_ms=k + 1))


def test_hits_of_an_outside_search_are_scored_like_a_scan() -> None:
    model = Recommender(Config(fusion="rrf"))
    for item, vector in VECTORS.items():
        model.learn(entry(item, vector))
    taken(model, "everybody", *VECTORS)
    taken(model, "ada", "i0", "i2")
    scanned = {line.item_id: line.sources for line in model.recommend("ada", 40)}
    near = [(item, 0.5) for item in VECTORS] + [("unknown", 0.9)]
    searched = {line.item_id: line.sources for line in model.recommend("ada", 40, near=near)}
    assert searched == scanned
    assert any("text" in sources for sources in scanned.values())
    assert not any("text" in line.sources for line in model.recommend("ada", 40, near=[]))


def test_the_reason_names_the_nearest_own_item_and_what_was_said() -> None:
    model = Recommender(Config(sources=("text",)))
    for item, vector in VECTORS.items():
        model.learn(entry(item, vector, snippet=f"about {item}"))
    taken(model, "everybody", *VECTORS)
    taken(model, "ada", "i0", "i1")
    top = model.recommend("ada", 1)[0]
    [why] = top.reasons
    assert why.item_id == ("i0" if int(top.item_id[1:]) % 2 == 0 else "i1")
    assert why.text == f"about {top.item_id}"
    assert why.text in model.explain(top)


def test_the_scan_looks_at_the_newest_vectors() -> None:
    model = Recommender(Config(sources=("text",), text_scan=6))
    for item, vector in VECTORS.items():
        model.learn(entry(item, vector))
    taken(model, "everybody", *VECTORS)
    taken(model, "ada", "i0")
    newest = {f"i{k}" for k in range(14, 20)}
    assert set(scores(model, "text", "ada")) <= newest
    model.learn(entry("i4", VECTORS["i5"]))
    model.learn(entry("i4", VECTORS["i4"]))
    assert "i4" in scores(model, "text", "ada")
