"""Does a better recommender get more clicks? The simulated shop (`streams.shop`) with each recommender in a world of its own.

Kafka is left out, nothing else: events are learned in their order, and a visitor is shown what the pipeline would show, the list
made after their own last event, or the strangers' list, which is renewed now and then. Worlds of one seed have the same catalogue
and begin with the same people; what happens then depends on the lists. Nothing of a shopper's taste is known to a recommender.

Arms: `popularity`, the most taken items that the visitor does not have; `rrf`, `weighted` and `learned`, every source under the
fusion of that name. `tastes` is no recommender but the ceiling: the items that interest the visitor most, read from their mind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models import Config, Recommender
from models.evaluation.metrics import Estimate
from models.evaluation.rates import over_worlds, ratio
from models.events import Click, Event, Impression, Item, ItemVector
from streams.at_once import Told, at_once
from streams.shop import Shop, ShopOptions, Shopper, Shown
from streams.text_encoder import create_encoder
from streams.text_vectors import TextFeed, TextVectors, environment_cache

ARMS: Final[dict[str, Config | None]] = {
    "popularity": Config(sources=("popularity",), fusion="rrf"),
    "rrf": Config(fusion="rrf"),
    "weighted": Config(fusion="weighted"),
    "learned": Config(fusion="learned"),
    "tastes": None,
}
PARTS: Final = 20
"""Parts of a run whose rates are told apart."""
STRANGERS_EVERY: Final = 50
"""Visits after which the strangers' list is renewed."""
_OPENING_MS: Final = 1_700_000_000_000
_DAY_MS: Final = 86_400_000


class World(Struct, frozen=True, kw_only=True):
    """One recommender in one shop. The shoppers come once a day each; new items come in all the time."""

    arm: str
    seed: int
    visits: int = 20_000
    n: int = 10
    text: bool = True
    shoppers: int = 1_500
    items: int = 480
    max_items: int = 600

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise ValueError(f"no arm {self.arm!r}: choose from {', '.join(ARMS)}")
        if self.visits < PARTS or not 1 <= self.n <= 100:
            raise ValueError(f"at least {PARTS} visits and lists of 1 to 100 items, not {self.visits} and {self.n}")

    @property
    def visit_every_ms(self) -> int:
        return max(1, _DAY_MS // self.shoppers)

    def options(self) -> ShopOptions:
        """The shop as `freshet demo` opens it, at another pace."""
        new = max(1, self.max_items - self.items)
        return ShopOptions(
            items=self.items, max_items=self.max_items, shoppers=self.shoppers,
            item_every_ms=max(1, self.visits * self.visit_every_ms // (new + 1)),
        )  # fmt: skip


class Played(Struct, frozen=True):
    """What the front end counted. `shown`, `clicked`: (PARTS, shoppers), items on lists and clicks on them."""

    world: World
    shown: npt.NDArray[np.float64]
    clicked: npt.NDArray[np.float64]

    def rate(self, first: int = 0) -> Estimate:
        """The click-through rate from part `first` on."""
        return ratio(self.clicked[first:].sum(axis=0), self.shown[first:].sum(axis=0))


class _Counts:
    def __init__(self) -> None:
        self._of: dict[str, npt.NDArray[np.float64]] = {}

    def add(self, user: str, part: int, shown: int, clicked: int) -> None:
        cells = self._of.setdefault(user, np.zeros((2, PARTS)))
        cells[:, part] += (shown, clicked)

    def played(self, world: World) -> Played:
        cells = np.array(list(self._of.values())) if self._of else np.zeros((0, 2, PARTS))
        return Played(world, cells[:, 0].T.copy(), cells[:, 1].T.copy())


# ------------------------------------------------------------------------------------------------ recommenders
class _Served:
    """What the pipeline would have on its output topic: the list after a user's last event, and the strangers' list."""

    def __init__(self, config: Config, n: int, vector: Callable[[Event | Item], ItemVector | None]) -> None:
        self._model, self._n, self._vector = Recommender(config), n, vector
        self._lists: dict[str, tuple[str, ...]] = {}
        self._strangers: tuple[str, ...] = ()

    def learn(self, event: Event | Item) -> None:
        self._model.learn(event)
        if (vector := self._vector(event)) is not None:
            self._model.learn(vector)

    def acted(self, shopper: Shopper) -> None:
        """All events of a visit are learned: a new list."""
        lines = self._model.recommend(shopper.shopper_id, self._n)
        self._lists[shopper.shopper_id] = tuple(line.item_id for line in lines)

    def renew(self) -> None:
        """The strangers' list as it is now."""
        self._strangers = tuple(line.item_id for line in self._model.popular(self._n))

    def shown_to(self, shopper: Shopper) -> tuple[str, ...]:
        return self._lists.get(shopper.shopper_id) or self._strangers


class _Tastes:
    """Reads minds."""

    def __init__(self, shop: Shop, n: int) -> None:
        self._shop, self._n = shop, n
        self._names: list[str] = []

    def learn(self, event: Event | Item) -> None:
        if isinstance(event, Item):
            self._names.append(event.item_id)

    def acted(self, shopper: Shopper) -> None:
        """Nothing to remember."""

    def renew(self) -> None:
        """Nobody is a stranger."""

    def shown_to(self, shopper: Shopper) -> tuple[str, ...]:
        interest = self._shop.interest(shopper).copy()
        interest[list(shopper.taken)] = -1.0
        return tuple(self._names[i] for i in np.argsort(-interest, kind="stable")[: self._n].tolist())


# ------------------------------------------------------------------------------------------------ one world
def play(world: World, told: Told) -> Played:
    """Open the shop and let everybody in."""
    vectors = TextVectors(create_encoder(), environment_cache()) if world.text and ARMS[world.arm] is not None else None
    try:
        feed = TextFeed(vectors) if vectors is not None else None
        return _play(world, feed.vector if feed is not None else _no_vector, told)
    finally:
        if vectors is not None:
            vectors.close()


def _no_vector(event: Event | Item) -> ItemVector | None:
    return None


def _play(world: World, vector: Callable[[Event | Item], ItemVector | None], told: Told) -> Played:
    shop = Shop(world.seed, world.options())
    config = ARMS[world.arm]
    served = _Tastes(shop, world.n) if config is None else _Served(config, world.n, vector)
    counts = _Counts()
    for item in shop.catalogue():
        served.learn(item)
    for visit in range(world.visits):
        now_ms = _OPENING_MS + visit * world.visit_every_ms
        for item in shop.novelties(now_ms):
            served.learn(item)
        if visit % STRANGERS_EVERY == 0:
            served.renew()
            told(visit / world.visits)
        _visit(shop, served, counts, visit, visit * PARTS // world.visits, now_ms)
    return counts.played(world)


def _visit(shop: Shop, served: _Served | _Tastes, counts: _Counts, visit: int, part: int, now_ms: int) -> None:
    shopper = shop.visitor()
    items = served.shown_to(shopper)
    happened = shop.step(shopper, Shown(f"list-{visit}", items) if items else None, now_ms)
    for event in happened:
        if isinstance(event, Impression):
            counts.add(shopper.shopper_id, part, len(event.items), 0)
            continue
        served.learn(event)
        if isinstance(event, Click) and event.list_id is not None:
            counts.add(shopper.shopper_id, part, 0, 1)
    if any(not isinstance(event, Impression) for event in happened):
        served.acted(shopper)


# ------------------------------------------------------------------------------------------------ many worlds
def experiment(worlds: Sequence[World], *, jobs: int = 1, progress: Told = lambda done: None) -> Iterator[Played]:
    """Every world, as it is done."""
    for _, played in at_once(play, worlds, jobs=jobs, progress=progress):
        yield played


def report(played: Sequence[Played]) -> dict[str, Any]:
    """Plain data: `rates` arm -> by seed and over the seeds, of the whole run and of its second half; `differences` of all pairs
    of arms (the later one less the earlier one, in the order of `ARMS`) with intervals over the seeds; `curves` arm -> rates of
    the parts of the run. Intervals need two seeds."""
    arms = [arm for arm in ARMS if any(one.world.arm == arm for one in played)]
    seeds = sorted({one.world.seed for one in played})
    by = {(one.world.arm, one.world.seed): one for one in played}
    spans = {"whole run": 0, "second half": PARTS // 2}
    rates = {
        arm: {span: _rates([by[arm, seed].rate(first) for seed in seeds], seeds) for span, first in spans.items()} for arm in arms
    }
    found = {
        f"{better} - {worse}": {
            span: _interval([by[better, seed].rate(first).mean - by[worse, seed].rate(first).mean for seed in seeds])
            for span, first in spans.items()
        }
        for worse, better in itertools.combinations(arms, 2)
    }
    return {
        "world": msgspec.to_builtins(msgspec.structs.replace(played[0].world, arm=arms[0], seed=seeds[0])),
        "seeds": seeds,
        "rates": rates,
        "differences": found,
        "curves": {arm: _curve([by[arm, seed] for seed in seeds]) for arm in arms},
    }


def _rates(estimates: Sequence[Estimate], seeds: Sequence[int]) -> dict[str, Any]:
    by_seed = {str(seed): msgspec.structs.asdict(estimate) for seed, estimate in zip(seeds, estimates, strict=True)}
    return {"by_seed": by_seed, "all": _interval([estimate.mean for estimate in estimates])}


def _interval(values: Sequence[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"mean": values[0]}
    return msgspec.structs.asdict(over_worlds(values))


def _curve(played: Sequence[Played]) -> list[float]:
    shown = sum(one.shown.sum(axis=1) for one in played)
    clicked = sum(one.clicked.sum(axis=1) for one in played)
    return [float(c / s) if s else 0.0 for c, s in zip(np.atleast_1d(clicked), np.atleast_1d(shown), strict=True)]
