"""Where a user stands among the item vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.rows import Array
from models.vectors import Vectors
from models.window import WEIGHT_ONE


def taste(profile: Array, vectors: Vectors, length: int, decay: float) -> npt.NDArray[np.float32] | None:
    """Unit vector (dim,), the direction of

        sum over the newest `length` items j of the profile of decay^age(j) * weight(j) * (v_j - mean) / |v_j - mean|

    over those that have a vector; None if there is none or they cancel out. Without subtracting the mean of all item vectors a
    taste would point at what all texts have in common.
    """
    if not vectors.count or not len(profile):
        return None
    newest = profile[-length:]
    rows = vectors.rows_of(newest["item"])
    has = rows >= 0
    if not has.any():
        return None
    ages = np.arange(len(newest) - 1, -1, -1)
    weights = (decay**ages * (newest["weight"] / WEIGHT_ONE))[has].astype(np.float32)
    centred = vectors.matrix[rows[has]] - vectors.mean()
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    usable = norms > 1e-6
    if not usable.any():
        # a single item is its own mean: its direction is all that is known
        centred, norms, usable = vectors.matrix[rows[has]], np.ones(len(centred), np.float32), np.ones(len(centred), bool)
    direction = (weights[usable] / norms[usable]) @ centred[usable]
    norm = float(np.sqrt(direction @ direction))
    return (direction / norm).astype(np.float32) if norm > 1e-6 else None
