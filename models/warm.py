"""Compile every kernel before the first event needs it: seconds once per version, then read from the disk cache."""

from __future__ import annotations

import numpy as np
from msgspec import structs

from models.config import Config
from models.events import Click, Erasure, Item, ItemVector, Purchase, Review, ReviewVector
from models.newcomers import SHORTEST, Newcomers
from models.recommender import Recommender
from models.rerank import Reranked

_DIM = 8
_ITEMS = 40


def warm_up(config: Config | None = None) -> None:
    """Take a throw-away recommender through everything that can happen to one. Nothing is kept but compiled code."""
    model = Recommender(config)
    model.recommend("nobody", 5)  # empty arrays are of another type
    rng = np.random.default_rng(0)
    for k in range(_ITEMS):
        vector = rng.normal(size=_DIM).astype("<f4")
        model.learn(Item(item_id=f"i{k}", title="t", categories=[f"c{k % 3}"]))
        model.learn(ItemVector(item_id=f"i{k}", vector=vector.tobytes(), texts=1, model="warm"))
    for k in range(160):  # nine users with a common taste, none of whom has taken everything
        user, item, time = f"u{k % 9}", f"i{k % 9 + rng.integers(12)}", 1 + k * 3_600_000
        model.learn(Click(event_id=f"c{k}", user_id=user, item_id=item, timestamp_ms=time, context={"device": "phone"}))
        if k % 4 == 0:
            model.learn(Review(event_id=f"r{k}", user_id=user, item_id=item, timestamp_ms=time, rating=float(1 + k % 5)))
            said = rng.normal(size=_DIM).astype("<f4").tobytes()
            model.learn(ReviewVector(event_id=f"r{k}", user_id=user, vector=said, model="warm", timestamp_ms=time))
        if k % 5 == 0:
            model.learn(Purchase(event_id=f"p{k}", user_id=user, item_id=item, timestamp_ms=time))
    model.learn(Click(event_id="x", user_id="u1", item_id="i1", timestamp_ms=9, retracts="c1"))
    for user in ("u1", "u2", "nobody"):
        model.recommend(user, 5)
        model.recommend(user, 5, near=[("i1", 0.5)], context={"device": "phone"})
        model.taste(user)
        model.predict(user, "i1")
        model.similar_users(user)
        model.has(user, "i1")
    query = model.asking.query("u1", 5)
    items = model.asking.candidates(query, complete=True).items
    model.explainer.explained(items, np.full((len(model.sources), len(items)), 0.1), query)  # asks all, who have a share or not
    _draw(model)
    model.popular(5)
    model.similar_items("i1")
    model.remove_item("i2")
    model.learn(Erasure(request_id="q", user_id="u2", timestamp_ms=10**10))
    history = model.history
    for pool in (history.windows, history.profiles, history.users_of.pool, model.together.pairs.pool):
        pool.move_together(len(pool.data))
    model.save()
    model.digest()
    model.sizes()


def _draw(model: Recommender) -> None:
    """A place for a newcomer is drawn for, which comes about by chance, and seldom."""
    history, n = model.history, SHORTEST
    willing = structs.replace(model.config, newcomer_price=1.0, newcomer_draw=1.0, newcomer_events=1)
    known = np.argsort(-history.item_events[:_ITEMS], kind="stable")[:n].astype(np.int32)  # the last of the others nobody took
    shares = np.full((len(model.sources), _ITEMS + 1), 0.1)
    ranked = Reranked(known, shares[:, :n].copy(), [""] * n, 0.0)
    items = np.arange(_ITEMS, dtype=np.int32)
    Newcomers(willing, history).seat(ranked, items, shares[:, :_ITEMS], model.asking.query("nobody", n), n)
