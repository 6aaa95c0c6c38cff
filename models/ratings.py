"""Expected ratings: shrunk biases from exact sums, and factors learned online by river.

r(u, i) = mu + b_i + b_u                                     (Koren, 2010, eq. 2.1, with shrinkage)
b_i = sum of (r - mu) over the item's ratings / (n_i + item_shrink)
b_u = sum of (r - mu - b_i) over the user's ratings / (n_u + user_shrink)

Sums are integers (thousandths of a star) over the users' ratings in the windows, a user's newest of each item: order does not
matter, a rating can be taken back, and who rates an item again has still one voice.
`reco.BiasedMF` (Koren, Bell, Volinsky, 2009) goes by gradient steps: it depends a little on the order of ratings, cannot take one
back and is no part of the digest. It knows at most `max_factor_rows` users and items, and is never asked about others, because
its `predict_one` makes rows for whom it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river import optim, reco, stats
from river.optim import initializers

from models.config import Config
from models.history import REVIEW, Follower, History, Step
from models.kept import Kept, Saved, Value, fitting
from models.kernel import kernel
from models.rows import Array, grown

_GENERATOR: Final = "MT19937"
"""What numpy calls the generator that river uses."""
UNKNOWN = 3.0
"""The middle of the scale: what is expected before the first rating."""


@kernel
def _newest(data: Array, rows: Array, user: int, item: int) -> int:
    """The user's newest rating of an item, thousandths of a star; 0: none."""
    start = rows[user].start
    for k in range(start + rows[user].size - 1, start - 1, -1):
        if data[k].item == item and data[k].kind == 2:
            return int(data[k].rating)
    return 0


class Ratings(Follower, Kept):
    """Follows the steps of the history (see `history.Follower`)."""

    kept = ("total", "count", "item_sum", "item_count", "factors")
    scratch = ("_before",)

    def __init__(self, config: Config, history: History) -> None:
        self.config, self.history = config, history
        self.total = 0
        self.count = 0
        self.item_sum: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.item_count: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self.factors = Factors(config) if config.factors else None
        self._before = 0

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many items."""
        self.item_sum = grown(self.item_sum, items)
        self.item_count = grown(self.item_count, items)

    def before(self, step: Step) -> None:
        """Note what the user's rating of the item has been."""
        if step.kind == REVIEW:
            self._before = self._rating(step)

    def after(self, step: Step) -> None:
        """Count a rating in, out, or in place of another."""
        if step.kind == REVIEW:
            before, rating = self._before, self._rating(step)
            change = int(rating > 0) - int(before > 0)
            self.total += rating - before
            self.count += change
            self.item_sum[step.item] += rating - before
            self.item_count[step.item] += change

    def _rating(self, step: Step) -> int:
        windows = self.history.windows
        return int(_newest(windows.data, windows.rows, step.user, step.item))

    def taught(self, step: Step) -> None:
        """A new rating: one gradient step."""
        if step.kind == REVIEW and step.teaches and self.factors is not None:
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


class Factors(Kept):
    """river's BiasedMF with bounds."""

    kept = ("users", "items", "model")
    gradient = True

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

    def save(self) -> Saved:
        """The rows of both sides, the running mean and where the generator of new rows stands."""
        model = self.model
        saved: Saved = {"mean": np.array([model.global_mean.n, model.global_mean.get()])}
        for side, biases, latents in self._sides():
            saved[f"{side}.index"] = np.fromiter(latents, np.int64, len(latents))
            saved[f"{side}.bias"] = np.array([biases[index] for index in latents], np.float64)
            saved[f"{side}.latent"] = np.array([*latents.values()], np.float64).reshape(len(latents), model.n_factors)
        _, key, place, has_normal, normal = model.latent_initializer._rng.get_state()
        return saved | {"random.key": key, "random.place": place, "random.has_normal": has_normal, "random.normal": normal}

    def restore(self, saved: Mapping[str, Value]) -> None:
        model = self.model
        count, mean = fitting("mean", saved, np.zeros(2)).tolist()
        model.global_mean = stats.Mean._from_state(count, mean)
        for side, biases, latents in self._sides():
            index = fitting(f"{side}.index", saved, np.zeros(0, np.int64)).tolist()
            biases.clear()
            biases.update(zip(index, fitting(f"{side}.bias", saved, np.zeros(0)).tolist(), strict=True))
            latents.clear()
            latents.update(zip(index, fitting(f"{side}.latent", saved, np.zeros((0, 0))), strict=True))
        self.users, self.items = set(model.u_latents), set(model.i_latents)
        key = fitting("random.key", saved, np.zeros(0, np.uint32))
        rest = [fitting(f"random.{name}", saved, None) for name in ("place", "has_normal", "normal")]
        model.latent_initializer._rng.set_state((_GENERATOR, key, *rest))

    def _sides(self) -> list[tuple[str, dict[int, float], dict[int, Any]]]:
        """river's dictionaries: name, biases, factors."""
        return [
            ("users", self.model.u_biases, self.model.u_latents),
            ("items", self.model.i_biases, self.model.i_latents),
        ]
