"""Neighbours on top of shrunk biases: what is left of a rating when the biases are taken out goes by similarity.

    p(u, i) = b_ui + sum_j s_ij (r_uj - b_uj) / (sum_j |s_ij| + LENIENCE)         over K items j rated by u
    p(u, i) = b_ui + sum_v s_uv (r_vi - mean_v - b_i) / (sum_v |s_uv| + LENIENCE)   over K raters v of i
    s       = n / (n + DOUBT) * similarity, n: what the two have in common; K: the largest |s|, unlike ones count against
                                                                    (Bell & Koren 2007; Koren 2010, section 2.2)

Adjusted cosine for items, Pearson for users. Unlike the plain mean-centred systems a chance likeness over one common item
moves little, and without neighbours what remains is the best that biases know.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.rating_neighbours.neighbours import DIGITS, Around, Neighbours
from models.ratings import Ratings

DOUBT: Final = 20.0
"""A similarity from so many common ratings counts half."""
LENIENCE: Final = 2.0
"""Weight of the neighbour that agrees with the biases."""
NEIGHBOURS: Final = 30


class Expected(NamedTuple):
    """Expected ratings, not clipped."""

    biases: float
    items: float
    """Biases and what the user thinks of similar items."""
    users: float
    """Biases and what similar users think of the item."""
    blend: float
    """The mean of `items`, `users` and the factors (of the biases where there are none)."""


class Residuals:
    """Answers from the windows and the sums of `Ratings`; holds nothing of its own."""

    def __init__(self, ratings: Ratings, neighbours: Neighbours) -> None:
        self.ratings, self.neighbours = ratings, neighbours

    def expected(self, user: int, item: int, around: Around | None = None) -> Expected:
        """What to expect of a user and an item (-1: unknown), `around` being `neighbours.around` of them. Changes no state."""
        around = around or self.neighbours.around(user, item)
        ratings, history = self.ratings, self.neighbours.history
        mean = ratings.mean()
        biases = ratings.biases(user, item)
        of_user = ratings.user_bias(user, mean)
        of_item = biases - mean - of_user
        things, people = around.things, around.people
        left = things["rating"] - (mean + of_user + ratings.item_biases(things["item"], mean))
        items = biases + pull(things["adjusted"], things["common"], left, history.items.keys[things["item"]])
        left = people["rating"] - (people["mean"] + of_item)
        users = biases + pull(people["pearson"], people["common"], left, history.users.keys[people["user"]])
        factors = ratings.factors
        known = factors is not None and factors.knows(user, item)
        third = factors.predict(user, item) if factors is not None and known else biases
        return Expected(biases, items, users, (items + users + third) / 3)


def pull(
    similar: npt.NDArray[np.float64],
    common: npt.NDArray[np.int32],
    left: npt.NDArray[np.float64],
    keys: npt.NDArray[np.uint64],
) -> float:
    """sum s d / (sum |s| + LENIENCE) over the K largest |s|. All arrays (n,), `keys` break ties."""
    weights = np.round(similar * (common / (common + DOUBT)), DIGITS)
    near = np.lexsort((keys, -np.abs(weights)))[:NEIGHBOURS]
    weights = weights[near]
    return float(weights @ left[near]) / (float(np.abs(weights).sum()) + LENIENCE)
