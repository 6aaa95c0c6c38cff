"""The plan of `docs/scale.md`, tried: the state in shards by user, lists by asking all of them, against one replica.

Each shard is a `Recommender` that has learned the events of its users and of nobody else. It runs the code that a worker runs;
what is new is done here: the *totals* (per item, what all shards have counted, exchanged every so many events) and the *asking*
(the user's newest items go to every shard, the best of each source come back, equal items are added up). All counts are integers
that add up, so with totals of the moment and all candidates the sums are those of one replica (`tests/test_sharded.py`); what
differs is the cut of each answer, the age of the totals, and neighbours, of whom each shard names its part.

What gradient steps learn is left out on both sides (one trainer, everybody adopts its weights: it does not change with shards),
and so are texts: lists are fused by reciprocal ranks.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models import Click, Config, Recommender
from models.interning import key64
from models.sources.base import Found, Query
from models.sources.order import Order
from models.sources.peers import Peers
from models.sources.popularity import Trending
from models.sources.sequence import Sequence as Ordered
from models.window import EVENT, PROFILE

Row = tuple[str, str, str]
N: Final = 10
SOURCES: Final = ("item_cf", "user_cf", "neighbours", "sequence", "popularity", "trending")
_BEGIN_MS: Final = 1_700_000_000_000
_ID: Final = 8
"""Bytes of an id on the wire: its 64-bit hash."""
_ANSWER: Final = _ID + 4
"""An item and its score."""
_TOTAL: Final = 4
"""One number of an item's totals."""
_ASKED: Final = 50
"""Newest items of a profile that any source looks at."""


# ------------------------------------------------------------------------------------------------ the stream
def clicks(events: int, users: int, items: int, seed: int) -> list[Click]:
    """People and items by Zipf's law; everybody has a taste, in which things are taken one after the other half of the time."""
    rng = random.Random(seed)
    tastes = max(4, items // 100)
    active = list(accumulate(1 / (k + 10) for k in range(users)))
    liked = list(accumulate(1 / (k + 3) for k in range(items // tastes)))
    last: dict[int, int] = {}
    log = []
    for k in range(events):
        user = rng.choices(range(users), cum_weights=active)[0]
        taste = (user * 7919 + (rng.random() < 0.2) * rng.randrange(tastes)) % tastes
        place = rng.choices(range(len(liked)), cum_weights=liked)[0]
        if user in last and rng.random() < 0.5:
            place, taste = (last[user] // tastes + rng.randrange(1, 4)) % len(liked), last[user] % tastes
        last[user] = place * tastes + taste
        log.append(Click(event_id=f"e{k}", user_id=f"u{user}", item_id=f"i{last[user]}", timestamp_ms=_BEGIN_MS + 1000 * k))
    return log


# ------------------------------------------------------------------------------------------------ one shard
class Asked(NamedTuple):
    """What is sent along with a question: the user's newest items and what they know."""

    profile: list[tuple[str, int, int]]
    seen: list[str]
    at_ms: int


class Shard:
    """The state of some users, and the totals of all shards as they were when they were exchanged last."""

    def __init__(self, shards: int) -> None:
        self.model = Recommender(Config(sources=SOURCES, fusion="rrf", factors=0, repeats="never"))
        self.totals: dict[str, npt.NDArray[Any]] = {}
        """By item index of this shard."""
        self.all_events = 0
        self.order: Order = next(s for s in self.model.sources if isinstance(s, Ordered)).order
        self.peers: Peers = next(s for s in self.model.sources if s.name == "user_cf").peers  # type: ignore[attr-defined]
        for lane in self.peers._lanes:  # each shard names its part of the nearest
            lane.peers = -(-lane.peers // shards)
        self.peers._tabulate()

    def own(self) -> dict[str, npt.NDArray[np.int64]]:
        """What this shard has counted of each item, by index."""
        history, trends = self.model.history, [s for s in self.model.sources if isinstance(s, Trending)]
        found = {
            "takers": history.takers, "ahead": self.order.ahead, "behind": self.order.behind,
            **{trend.name: trend.counts for trend in trends},
        }  # fmt: skip
        return {name: np.asarray(column[: history.items.span], np.int64) for name, column in found.items()}

    def asked(self, user_id: str) -> Asked:
        """What the others have to be told of a user of this shard."""
        history, name = self.model.history, self.model.history.items.name
        user = history.users.get(user_id)
        if user < 0:
            return Asked([], [], history.now_ms)
        newest = history.profile(user)[-_ASKED:].tolist()
        seen = {int(item) for item in history.window(user)["item"] if item >= 0}
        return Asked([(name(i), weight, count) for i, weight, count in newest], [name(i) for i in seen], history.now_ms)

    def find(self, asked: Asked, user_id: str | None) -> dict[str, dict[str, float]]:
        """The best of every source by what this shard knows: source -> item -> score."""
        query = self._query(asked, user_id)
        with_totals = self._with_totals()
        try:
            return {source.name: self._best(source, query) for source in self.model.sources}
        finally:
            self._with_own(with_totals)

    def _query(self, asked: Asked, user_id: str | None) -> Query:
        asking, items = self.model.asking, self.model.history.items
        if user_id is not None:
            return asking.query(user_id, N, at_ms=asked.at_ms)
        # an item that nobody here has must have an index too: it has a place among the newest
        profile = [(self.model.fold.item(name), weight, count) for name, weight, count in asked.profile]
        stranger = asking.query(None, N, at_ms=asked.at_ms)
        for name in asked.seen:
            if items.get(name) >= 0:
                stranger.seen[items.get(name)] = stranger.stamp
        stranger.profile = np.array(profile, PROFILE)
        return stranger

    def _best(self, source: Any, query: Query) -> dict[str, float]:
        found = Found(np.zeros(query.k, np.int32), np.zeros(query.k))
        count = source.find(query, found)
        names = [self.model.history.items.name(i) for i in found.items[:count].tolist()]
        return dict(zip(names, found.scores[:count].tolist(), strict=True))

    def _with_totals(self) -> Any:
        """Similarities go by the totals while a question is answered; returns what was there before."""
        history, order = self.model.history, self.order
        own = (history.takers, history.inverse_root, history.events, order.ahead, order.behind)
        if self.totals:
            history.takers = np.maximum(1, self._at_least(self.totals["takers"], history.takers))  # who asks has the item
            history.inverse_root = 1.0 / np.sqrt(history.takers)
            history.events = max(self.all_events, history.events)
            order.ahead = self._at_least(self.totals["ahead"], order.ahead)
            order.behind = self._at_least(self.totals["behind"], order.behind)
        return own

    def _with_own(self, own: Any) -> None:
        self.model.history.takers, self.model.history.inverse_root, self.model.history.events = own[:3]
        self.order.ahead, self.order.behind = own[3:]

    @staticmethod
    def _at_least(totals: npt.NDArray[Any], own: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Totals, and own counts where they have gone beyond."""
        out = own.copy()
        out[: len(totals)] = np.maximum(out[: len(totals)], totals)
        return out


# ------------------------------------------------------------------------------------------------ all shards
class Traffic(Struct):
    """What went over the wire, bytes and messages."""

    totals: int = 0
    questions: int = 0
    answers: int = 0
    messages: int = 0
    lists: int = 0


class System:
    """Shards by hash of the user. A list asks its own shard and `others` more, each time the next ones (None: all). With `alone`
    no shard asks another, and no totals are exchanged."""

    def __init__(self, shards: int, exchange_every: int, *, others: int | None = None, alone: bool = False) -> None:
        self.others = shards - 1 if others is None else others
        self.shards = [Shard(1 if alone else 1 + self.others) for _ in range(shards)]
        self.every, self.alone = exchange_every, alone or shards == 1
        self._next = 0
        self.events: Counter[int] = Counter()
        self.traffic = Traffic()
        self.asking_s = 0.0
        self._told: list[dict[str, tuple[int, ...]]] = [{} for _ in self.shards]
        self.popular: dict[str, dict[str, float]] = {}

    def home(self, user_id: str) -> int:
        return key64(user_id) % len(self.shards)

    def learn(self, event: Click) -> None:
        home = self.home(event.user_id)
        self.shards[home].model.learn(event, train=False)
        self.events[home] += 1
        if not self.alone and sum(self.events.values()) % self.every == 0:
            self.exchange()

    def exchange(self) -> None:
        """Every shard tells the totals that have changed, through a compacted topic; everybody adds up."""
        told = 0
        for shard, before in zip(self.shards, self._told, strict=True):
            own, items = shard.own(), shard.model.history.items
            for i in items.indices().tolist():
                line = tuple(int(column[i]) for column in own.values())
                name = items.name(i)
                if before.get(name) != line:
                    before[name] = line
                    told += 1
        columns = list(self.shards[0].own())
        sums: dict[str, tuple[int, ...]] = {}
        for before in self._told:
            for name, line in before.items():
                sums[name] = tuple(a + b for a, b in zip(sums[name], line, strict=True)) if name in sums else line
        self.traffic.totals += told * (_ID + _TOTAL * len(columns)) * len(self.shards)
        everything = sum(shard.model.history.events for shard in self.shards)
        for shard in self.shards:
            names = [shard.model.history.items.name(i) for i in range(shard.model.history.items.span)]
            table = np.array([sums[name] for name in names], np.int64).reshape(-1, len(columns))
            shard.totals = {column: table[:, k] for k, column in enumerate(columns)}
            shard.all_events = everything
        self._rank(columns, sums)

    def _rank(self, columns: Sequence[str], sums: dict[str, tuple[int, ...]]) -> None:
        """Popularity and trends by the totals: everybody has them, nobody needs to ask."""
        names, table = [*sums], np.array([*sums.values()], np.int64)
        for column in columns:
            if column in ("ahead", "behind"):
                continue
            source, counts = "popularity" if column == "takers" else column, table[:, columns.index(column)]
            best = np.argsort(-counts, kind="stable")[: self.shards[0].model.config.board_items]
            self.popular[source] = {names[x]: float(counts[x]) for x in best.tolist() if counts[x] > 0}

    def recommend(self, user_id: str) -> list[str]:
        home = self.shards[self.home(user_id)]
        others = [] if self.alone else self._turn(home)
        begin = time.process_time()
        asked = home.asked(user_id)
        answers = [home.find(asked, user_id), *(shard.find(asked, None) for shard in others)]
        self.asking_s += time.process_time() - begin
        self.traffic.lists += 1
        self.traffic.messages += 2 * len(others)
        self.traffic.questions += len(others) * (_ID * (len(asked.profile) + len(asked.seen)) + 2 * len(asked.profile))
        self.traffic.answers += sum(
            _ANSWER * len(items) for answer in answers[1:] for source, items in answer.items() if source not in self.popular
        )
        return fused(home.model, self._merged(answers, set(asked.seen)))

    def _turn(self, home: Shard) -> list[Shard]:
        """Whom to ask this time."""
        rest = [shard for shard in self.shards if shard is not home]
        self._next += self.others
        return [rest[(self._next + k) % len(rest)] for k in range(self.others)]

    def _merged(self, answers: list[dict[str, dict[str, float]]], seen: set[str]) -> dict[str, list[str]]:
        """Equal items of a source are added up; the best come first."""
        found = {}
        for source in answers[0]:
            if source in self.popular:
                scores = {name: s for name, s in self.popular[source].items() if name not in seen}
            else:
                scores = defaultdict[str, float](float)
                for answer in answers:
                    for name, score in answer[source].items():
                        scores[name] += score
            k = self.shards[0].model.config.candidates
            found[source] = sorted(scores, key=lambda name: (-scores[name], key64(name)))[:k]
        return found


def fused(model: Recommender, found: dict[str, list[str]]) -> list[str]:
    """Reciprocal rank fusion, with the weights of the model's own."""
    scores: dict[str, float] = defaultdict(float)
    weights = model.fusion.weights.tolist()  # type: ignore[attr-defined]
    for source, weight in zip(model.sources, weights, strict=True):
        for rank, name in enumerate(found[source.name], start=1):
            scores[name] += weight / (model.config.rrf_k + rank)
    return sorted(scores, key=lambda name: (-scores[name], key64(name)))[:N]


# ------------------------------------------------------------------------------------------------ measured
def held(model: Recommender) -> int:
    """Bytes of what is in use: events, profiles, pairs of both kinds, users of items."""
    history, sizes = model.history, model.sizes()
    cells = sizes["pair_cells"][0] + sizes["sequence_cells"][0]
    return (
        history.windows.used * EVENT.itemsize + history.profiles.used * PROFILE.itemsize + 8 * cells
        + 4 * history.users_of.pool.used
    )  # fmt: skip


def spread(loads: Sequence[float]) -> str:
    """The busiest over the mean."""
    return f"{max(loads) / (sum(loads) / len(loads)):.2f}"


class Figures(Struct):
    """Of one system, over the lists that were tested."""

    hits: list[bool] = []
    alike: list[float] = []


def sharded(
    events: int = 60_000, users: int = 6_000, items: int = 3_000, lists: int = 1_500, layouts: Sequence[int] = (4, 16),
    exchange_every: int = 500, seed: int = 1,
) -> Iterator[Row]:  # fmt: skip
    """Rows for the table: test, then learn, over the last third of the stream."""
    log = clicks(events, users, items, seed)
    one = System(1, exchange_every)
    systems = {f"{n} shards": System(n, exchange_every) for n in layouts}
    most = max(layouts)
    systems[f"{most} shards, totals {10 * exchange_every:,} events apart"] = System(most, 10 * exchange_every)
    systems[f"{most} shards, {most // 4} of them asked"] = System(most, exchange_every, others=most // 4 - 1)
    systems |= {f"{n} shards that do not ask": System(n, exchange_every, alone=True) for n in layouts}
    rng, figures = random.Random(seed), {name: Figures() for name in ("one replica", *systems)}
    begin = events * 2 // 3
    wanted = set(rng.sample(range(begin, events), min(4 * lists, events - begin)))
    for k, event in enumerate(log):
        if k in wanted and one.traffic.lists < lists and _is_test(one, event):
            whole = one.recommend(event.user_id)
            figures["one replica"].hits.append(event.item_id in whole)
            for name, system in systems.items():
                found = system.recommend(event.user_id)
                figures[name].hits.append(event.item_id in found)
                figures[name].alike.append(len(set(found) & set(whole)) / len(whole))
        for system in (one, *systems.values()):
            system.learn(event)
    size = f"{events:,} events, {users:,} users, {items:,} items by Zipf; {one.traffic.lists:,} lists"
    hits = np.array(figures["one replica"].hits, float)
    yield "one replica: hit rate of 10", f"{hits.mean():.4f}", size
    whole_bytes, per_list = held(one.shards[0].model), one.asking_s / one.traffic.lists
    for name, system in systems.items():
        yield from _compared(name, system, figures[name], hits, whole_bytes, per_list)
    yield from _by_item(one.shards[0].model, layouts)


def _is_test(system: System, event: Click) -> bool:
    """Whether somebody who is known takes something new to them, which others have."""
    model = system.shards[0].model
    return model.history.users.get(event.user_id) >= 0 and not model.has(event.user_id, event.item_id)


def _compared(
    name: str, system: System, figures: Figures, hits: npt.NDArray[np.float64], whole_bytes: int, per_list: float
) -> Iterator[Row]:
    own = np.array(figures.hits, float)
    error = float((own - hits).std() / np.sqrt(len(hits)))
    yield f"{name}: hit rate", f"{own.mean():.4f} ({own.mean() - hits.mean():+.4f} ± {error:.4f})", "beside one replica"
    yield f"{name}: lines as in one replica's lists", f"{np.mean(figures.alike):.1%}", f"of {N}"
    shares = [held(shard.model) / whole_bytes for shard in system.shards]
    yield f"{name}: state of a shard", f"{np.mean(shares):.1%}, at most {max(shares):.1%}", "of one replica's"
    loads = [float(system.events[k]) for k in range(len(system.shards))]
    yield f"{name}: events of the busiest shard over the mean", spread(loads), "users by Zipf"
    if system.alone:
        return
    traffic, count = system.traffic, sum(system.events.values())
    yield f"{name}: messages for a list", f"{traffic.messages / traffic.lists:.0f}", "questions and answers"
    asked, answered = traffic.questions / traffic.lists / 1000, traffic.answers / traffic.lists / 1000
    yield f"{name}: bytes for a list", f"{asked + answered:.1f} kB", f"{asked:.1f} asked, {answered:.1f} answered"
    yield f"{name}: bytes of totals", f"{traffic.totals / count:.0f} an event", f"every {system.every:,} events, to all shards"
    times = system.asking_s / traffic.lists / per_list
    yield f"{name}: CPU of finding candidates", f"{times:.1f} times, {times / len(system.shards):.2f} a shard", "one replica's"


def _by_item(model: Recommender, layouts: Sequence[int]) -> Iterator[Row]:
    """The other way to cut: rows of pairs by their item. How often the busiest shard would be written to."""
    pairs, history = model.together.pairs, model.history
    writes = {history.items.name(i): float(pairs.row(i)["count"].sum()) for i in history.items.indices().tolist()}
    joined = float(history.takers.sum())
    for shards in layouts:
        loads = [0.0] * shards
        for name, count in writes.items():
            loads[key64(name) % shards] += count
        yield (
            f"{shards} shards by item instead: writes of the busiest over the mean", spread(loads),
            f"{sum(writes.values()) / joined:.0f} writes to other shards for each item that somebody takes",
        )  # fmt: skip
