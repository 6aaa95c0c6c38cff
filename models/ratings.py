"""Expected ratings: shrunk biases from exact sums, and factors learned online by river.

r(u, i) = mu + b_i + b_u                                     (Koren, 2010, eq. 2.1, with shrinkage)
b_i = sum of (r - mu) over the item's ratings / (n_i + item_shrink)
b_u = sum of (r - mu - b_i) over the user's ratings / (n_u + user_shrink)

Sums are integers (thousandths of a star) over the ratings in the windows: order does not matter and a rating can be taken back.
`reco.BiasedMF` (Koren, Bell, Volinsky, 2009) goes by gradient steps: it depends a little on the order of ratings, cannot take one
back and is no part of the digest. It knows at most `max_factor_rows` users and items, and is never asked about others, because
its `predict_one` makes rows for whom it does not know.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from river import optim, reco
from river.optim import initializers

from models.config import Config
from models.history import REVIEW, History, Step
from models.rows import grown

UNKNOWN = 3.0
"""The middle of the scale: what is expected before the first rating."""


class Ratings:
    """Follows the steps of the history (see `fold.Follower`)."""

    def __init__(self, config: Config, history: History) -> None:
        self.config, self.history = config, history
        self.total = 0
        self.count = 0
        self.item_sum: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.item_count: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.factors = Factors(config) if config.factors else None

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many items."""
        self.item_sum = grown(self.item_sum, items)
        self.item_count = grown(self.item_count, items)

    def before(self, step: Step) -> None:
        """Nothing depends on the state before a step."""

    def after(self, step: Step) -> None:
        """Count a review in or out."""
        if step.kind == REVIEW:
            self.total += step.sign * step.rating
            self.count += step.sign
            self.item_sum[step.item] += step.sign * step.rating
            self.item_count[step.item] += step.sign

    def taught(self, step: Step) -> None:
        """A new rating: one gradient step."""
        if step.kind == REVIEW and self.factors is not None:
            self.factors.learn(step.user, step.item, step.rating / 1000)

    def forget_user(self, user: int) -> None:
        """The user's factors go too."""
        if self.factors is not None:
            self.factors.forget_user(user)

    def forget_item(self, item: int) -> None:
        """The item's factors go too."""
        if self.factors is not None:
            self.factors.forget_item(item)

    def biases(self, user: int, item: int) -> float:
        """mu + b_i + b_u, not clipped; -1 stands for an unknown user or item."""
        if not self.count:
            return UNKNOWN
        mean = self.mean()
        return mean + self._item_bias(item, mean) + self.user_bias(user, mean)

    def mean(self) -> float:
        """mu: the mean of all ratings; the middle of the scale without any."""
        return self.total / self.count / 1000 if self.count else UNKNOWN

    def item_biases(self, items: npt.NDArray[np.int32], mean: float) -> npt.NDArray[np.float64]:
        """b_i of items that are rated, (n,), beside that mean of all ratings."""
        count = self.item_count[items]
        biases: npt.NDArray[np.float64] = (self.item_sum[items] / 1000 - count * mean) / (count + self.config.item_shrink)
        return biases

    def predict(self, user: int, item: int) -> float:
        """Expected rating, 1..5; -1 stands for an unknown user or item."""
        expected = self.biases(user, item)
        if self.factors is not None and self.factors.knows(user, item):
            expected = (expected + self.factors.predict(user, item)) / 2
        return min(5.0, max(1.0, expected))

    def _item_bias(self, item: int, mean: float) -> float:
        if item < 0:
            return 0.0
        count = int(self.item_count[item])
        over = float(self.item_sum[item]) / 1000 - count * mean
        return over / (count + self.config.item_shrink) if count else 0.0

    def user_bias(self, user: int, mean: float) -> float:
        """b_u beside that mean of all ratings; 0 for somebody who has rated nothing."""
        if user < 0:
            return 0.0
        window = self.history.window(user)
        rated = window[window["rating"] > 0]
        if not len(rated):
            return 0.0
        over = rated["rating"] / 1000 - mean - self.item_biases(rated["item"], mean)
        return float(over.sum()) / (len(rated) + self.config.user_shrink)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        if self.factors is None:
            return {}
        bound = self.factors.bound
        return {"factor_users": (len(self.factors.users), bound), "factor_items": (len(self.factors.items), bound)}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The exact part, by name."""
        span = self.history.items.span
        sums = {"item_sum": self.item_sum[:span], "item_count": self.item_count[:span]}
        return {**sums, "total": np.array([self.total, self.count])}


class Factors:
    """river's BiasedMF with bounds."""

    def __init__(self, config: Config) -> None:
        self.bound = config.max_factor_rows
        self.users: set[int] = set()
        self.items: set[int] = set()
        self.model = reco.BiasedMF(
            n_factors=config.factors,
            bias_optimizer=optim.SGD(0.025),
            latent_optimizer=optim.SGD(0.05),
            weight_initializer=initializers.Zeros(),
            latent_initializer=initializers.Normal(mu=0.0, sigma=0.1, seed=config.seed),
            l2_bias=0.0,
            l2_latent=0.0,
        )

    def learn(self, user: int, item: int, rating: float) -> None:
        """One gradient step, unless a bound keeps a newcomer out."""
        for known, index in ((self.users, user), (self.items, item)):
            if index not in known and len(known) >= self.bound:
                return
        self.users.add(user)
        self.items.add(item)
        self.model.learn_one(user=user, item=item, y=rating)

    def knows(self, user: int, item: int) -> bool:
        """Whether both have factors: only then may river be asked."""
        return user in self.users and item in self.items

    def predict(self, user: int, item: int) -> float:
        """Expected rating of a known user and item."""
        return float(self.model.predict_one(user=user, item=item))

    def forget_user(self, user: int) -> None:
        """Drop a user's bias and factors."""
        self.users.discard(user)
        self.model.u_biases.pop(user, None)
        self.model.u_latents.pop(user, None)

    def forget_item(self, item: int) -> None:
        """Drop an item's bias and factors."""
        self.items.discard(item)
        self.model.i_biases.pop(item, None)
        self.model.i_latents.pop(item, None)

    def checksum(self) -> str:
        """Fingerprint of what was learned by gradient steps."""
        sha = hashlib.sha256()
        for biases, latents in ((self.model.u_biases, self.model.u_latents), (self.model.i_biases, self.model.i_latents)):
            for index in sorted(biases):
                sha.update(np.array([index, biases[index]]).tobytes() + np.asarray(latents[index], np.float64).tobytes())
        return sha.hexdigest()
