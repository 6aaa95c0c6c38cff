"""How alike items are, for lists whose items differ.

By *vectors*: max(0, cosine of v_i - mean and v_j - mean), with v an item's text vector and mean that of all items (uncentred,
all texts are alike). By *categories*: the Jaccard coefficient of their sets of categories. An item without vector, or without
categories, is like no other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.calibration import Mix
from models.kernel import allocating_kernel
from models.rows import Array
from models.vectors import Vectors


def by_vectors(vectors: Vectors, items: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """(n, n) similarities, each 0 to 1."""
    unit = np.zeros((len(items), max(1, vectors.dim)), np.float32)
    rows = vectors.rows_of(items)
    has = np.flatnonzero(rows >= 0)
    if len(has):
        centred = vectors.matrix[rows[has]] - vectors.mean()
        norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
        unit[has] = np.where(norms[:, None] > 1e-6, centred / np.maximum(norms, 1e-6)[:, None], 0.0)
    return np.clip((unit @ unit.T).astype(np.float64), 0.0, 1.0)


def by_categories(categories: Mix) -> npt.NDArray[np.float64]:
    """(n, n) similarities, each 0 to 1."""
    n = len(categories.starts) - 1
    out = np.zeros((n, n))
    _jaccard(categories.starts, categories.members, len(categories.categories), out)
    return out


@allocating_kernel
def _jaccard(starts: Array, members: Array, categories: int, out: Array) -> None:
    mark = np.full(categories, -1, np.int64)
    for x in range(len(starts) - 1):
        size = starts[x + 1] - starts[x]
        for k in range(starts[x], starts[x + 1]):
            mark[members[k]] = x
        for y in range(x + 1):
            common = 0
            for k in range(starts[y], starts[y + 1]):
                common += mark[members[k]] == x
            union = size + starts[y + 1] - starts[y] - common
            if union > 0:
                out[x, y] = out[y, x] = common / union
