"""A newcomer's place: when it is given, what it may cost, what it leaves alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from models import Click, Config, Recommender
from models.events import encode
from models.newcomers import NOTE, Newcomers, _lot
from models.rerank import Reranked
from tests.models.streams_of import shop as random_shop

N = 5


def shop(newcomer_events: int = 2, **parameters: object) -> Recommender:
    """Ten items taken ten times each, item `new` as often as is said; ada knows none of them."""
    model = Recommender(Config(**parameters))  # type: ignore[arg-type]
    log = ["new"] * newcomer_events + [f"i{k % 10}" for k in range(100)]
    for k, item in enumerate(log):
        model.learn(Click(event_id=f"e{k}", user_id=f"u{k}", item_id=item, timestamp_ms=k + 1))
    return model


def seated(model: Recommender, probability: dict[str, float], n: int = N, note: str = "") -> Reranked:
    """The list of the most probable, with or without a newcomer. One source; the last line carries `note`."""
    index = model.history.items.get
    items = np.array([index(item) for item in probability], np.int32)
    shares = np.array([list(probability.values())])
    order = np.argsort(-shares[0], kind="stable")[:n]
    ranked = Reranked(items[order], shares[:, order], [""] * (len(order) - 1) + [note], 0.0)
    return Newcomers(model.config, model.history).seat(ranked, items, shares, model.asking.query("ada", n), n)


def names(model: Recommender, ranked: Reranked) -> list[str]:
    return [model.history.items.name(i) for i in ranked.items.tolist()]


KNOWN = {f"i{k}": 0.2 - 0.01 * k for k in range(5)}  # .20 .19 .18 .17 .16: together .90, the last place is worth .16


@pytest.mark.parametrize(("p", "given"), [(0.143, True), (0.141, False)])
def test_the_place_is_given_up_to_its_price(p: float, given: bool) -> None:
    """.02 of .90 is .018: from .142 on the newcomer is close enough."""
    model = shop()
    found = seated(model, KNOWN | {"new": p})
    assert (names(model, found)[-1] == "new") is given
    assert found.notes == [""] * (N - 1) + [NOTE if given else ""]
    assert names(model, found)[: N - 1] == ["i0", "i1", "i2", "i3"]
    assert found.shares[0].sum() == pytest.approx(0.74 + (p if given else 0.16))


def test_the_most_probable_newcomer_gets_it() -> None:
    model = shop()
    model.learn(Click(event_id="x", user_id="x", item_id="newer", timestamp_ms=200))
    assert names(model, seated(model, KNOWN | {"new": 0.15, "newer": 0.155}))[-1] == "newer"


def test_a_list_that_holds_a_newcomer_stays_as_it_is() -> None:
    model = shop()
    model.learn(Click(event_id="x", user_id="x", item_id="newer", timestamp_ms=200))
    found = seated(model, {"new": 0.3} | KNOWN | {"newer": 0.155})
    assert names(model, found) == ["new", "i0", "i1", "i2", "i3"]
    assert found.notes[-1] == ""


def test_who_has_enough_events_is_no_newcomer() -> None:
    model = shop(newcomer_events=5)
    assert names(model, seated(model, KNOWN | {"new": 0.159}))[-1] == "i4"


def test_what_the_user_knows_is_not_new_to_them() -> None:
    model = shop()
    model.learn(Click(event_id="x", user_id="ada", item_id="new", timestamp_ms=200))
    assert names(model, seated(model, KNOWN | {"new": 0.159}))[-1] == "i4"


def test_short_lists_and_places_given_by_rules_stay() -> None:
    model = shop()
    assert "new" not in names(model, seated(model, KNOWN | {"new": 0.159}, n=4))
    assert "new" not in names(model, seated(model, KNOWN | {"new": 0.159}, note="pinned"))
    assert "new" not in names(model, seated(shop(newcomer_price=0.0), KNOWN | {"new": 0.159}))


def test_in_lists_newcomers_say_so_and_sums_hold() -> None:
    model = Recommender(Config(newcomer_price=1.0))
    for event in random_shop(1, users=20, items=60, events=600):
        model.learn(event)
    marked = 0
    for k in range(20):
        lines = model.recommend(f"u{k}", N)
        assert model.lists(f"u{k}", N)["fused"] == [line.item_id for line in lines]
        for line in lines:
            assert sum(reason.weight for reason in line.reasons) == pytest.approx(line.score, abs=1e-9)
            if line.reasons[-1].kind != NOTE:
                continue
            marked += 1
            assert line.rank == N
            assert line.reasons[-1].weight == 0.0
            assert model.history.item_events[model.history.items.get(line.item_id)] < 5
    assert marked > 0


def test_places_are_drawn_as_often_as_their_propensities_say() -> None:
    """Three are close enough; of 4,000 requests at different times each gets its part, within 4 standard deviations."""
    model = shop(newcomer_draw=0.5)
    for k, item in enumerate(("newer", "newest", "far")):
        model.learn(Click(event_id=f"x{k}", user_id=f"x{k}", item_id=item, timestamp_ms=200))
    p = {"new": 0.15, "newer": 0.155, "newest": 0.145}
    expected = {item: 0.5 * (item == "newer") + 0.5 * p[item] / sum(p.values()) for item in p}
    index = model.history.items.get
    probability = KNOWN | p | {"far": 0.05}
    items, shares = np.array([index(i) for i in probability], np.int32), np.array([list(probability.values())])
    ranked = Reranked(items[:N], shares[:, :N], [""] * N, 0.0)
    newcomers, requests = Newcomers(model.config, model.history), 4_000
    given: Counter[str] = Counter()
    for at_ms in range(requests):
        query = model.asking.query("ada", N, at_ms=at_ms)
        seated, again = (newcomers.seat(ranked, items, shares, query, N) for _ in range(2))
        item = names(model, seated)[-1]
        assert seated.items.tolist() == again.items.tolist(), "the same request in the same state"
        assert seated.propensity == pytest.approx(expected[item])
        given[item] += 1
    assert set(given) == set(p)
    for item, part in expected.items():
        assert abs(given[item] / requests - part) < 4 * (part * (1 - part) / requests) ** 0.5


def plain_lot(user: int, at_ms: int, events: int) -> float:
    """As `_lot`, in whole numbers without a bound."""
    bits = 0
    for more in (user, at_ms, events):
        bits = (bits + more) % 2**64
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
        bits ^= bits >> 31
    return (bits >> 11) / 2.0**53


def test_the_lot_is_a_hash_and_falls_evenly() -> None:
    """For people, times and numbers of events that follow each other, as they do, each alone."""
    for user, at_ms, events in [(0, 0, 0), (2**64 - 1, 2**62, 10**9), (12_345, -1, 7)]:
        assert _lot(np.uint64(user), at_ms, events) == plain_lot(user, at_ms, events)
    for lots in (
        [_lot(np.uint64(k), 1_700_000_000_000, 1_000) for k in range(20_000)],
        [_lot(np.uint64(5), 1_700_000_000_000 + k, 1_000) for k in range(20_000)],
        [_lot(np.uint64(5), 1_700_000_000_000, k) for k in range(20_000)],
    ):
        parts = np.bincount((np.array(lots) * 20).astype(int), minlength=20)
        assert ((parts - 1_000) ** 2 / 1_000).sum() < 45, "chi square with 19 degrees of freedom: one in a thousand is above 44"
        assert abs(np.corrcoef(lots[:-1], lots[1:])[0, 1]) < 0.03


def test_without_a_draw_the_best_is_certain() -> None:
    found = seated(shop(newcomer_draw=0.0), KNOWN | {"new": 0.155})
    assert found.propensity == 1.0
    assert seated(shop(), KNOWN).propensity is None


def test_lines_log_the_propensity_and_others_do_not_have_one() -> None:
    model = Recommender(Config(newcomer_price=1.0, newcomer_draw=0.5))
    for event in random_shop(1, users=20, items=60, events=600):
        model.learn(event)
    lists = [model.recommend(f"u{k}", N) for k in range(20)]
    drawn = [line for lines in lists for line in lines if line.reasons[-1].kind == NOTE]
    assert drawn
    assert all(line.propensity is not None and 0 < line.propensity <= 1 for line in drawn)
    assert b"propensity" in encode(drawn[0])
    assert not any(b"propensity" in encode(line) for lines in lists for line in lines if line not in drawn)
