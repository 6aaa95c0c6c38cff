"""Where a user stands among the item vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.cosines import LEAST, lean
from models.rows import Array
from models.vectors import Vectors


def taste(profile: Array, vectors: Vectors, length: int, decay: float) -> npt.NDArray[np.float32] | None:
    """Unit vector (dim,), the direction of

        sum over the newest `length` items j of the profile of decay^age(j) * weight(j) * (v_j - mean) / |v_j - mean|

    over those that have a vector; None if there is none or they cancel out. Without subtracting the mean of all item vectors a
    taste would point at what all texts have in common.
    """
    if not vectors.count or not len(profile):
        return None
    direction = np.empty(vectors.dim, np.float32)  # np.zeros would let go of the interpreter
    direction.fill(0.0)
    lean(profile, length, decay, vectors.row_of, vectors.matrix, vectors.mean(), direction)
    norm = float(np.sqrt(direction @ direction))
    return direction / np.float32(norm) if norm > LEAST else None
