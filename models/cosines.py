"""Cosines of centred vectors, in one pass over those that are asked for: nothing is copied.

With m the mean of all vectors, texts are compared by v - m: all texts are alike, and that says nothing. `models.coarse` compares
many with one.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.kernel import allocating_loose_kernel, loose_kernel
from models.rows import Array

LEAST: Final = 1e-6
"""Of shorter vectors the direction means nothing."""


@loose_kernel
def lean(profile: Array, length: int, decay: float, row_of: Array, matrix: Array, mean: Array, out: Array) -> None:
    """Sum over the newest `length` items j of the profile of decay^age(j) * weight(j) * (v_j - m) / |v_j - m| into `out` (dim,),
    which is all 0; where nobody's direction means anything (a single item is its own mean), of v_j itself."""
    usable = False
    for centred in (True, False):
        if usable:
            break
        age = 1.0
        for x in range(len(profile) - 1, max(-1, len(profile) - 1 - length), -1):
            item = profile[x].item
            weight = age * (profile[x].weight / 256.0)
            age *= decay
            if item >= len(row_of) or row_of[item] < 0:
                continue
            v = matrix[row_of[item]]
            square = np.float32(0.0)
            for d in range(len(mean)):
                difference = v[d] - mean[d]
                square += difference * difference
            norm = np.sqrt(square) if centred else np.float32(1.0)
            if norm > LEAST:
                usable = True
                part = np.float32(weight / norm)
                for d in range(len(mean)):
                    out[d] += part * (v[d] - mean[d] if centred else v[d])


@loose_kernel
def _product(one: Array, other: Array) -> float:
    total = np.float32(0.0)
    for d in range(len(one)):
        total += one[d] * other[d]
    return float(total)


@allocating_loose_kernel
def nearest(matrix: Array, rows: Array, owns: Array, items: Array, mean: Array, out: Array) -> None:
    """For the vector at each of `rows` which of `items`, whose vectors are at `owns`, has the largest cosine with it, both
    centred; the first of equals, and -1 where there is no vector. (How long the first of the two is makes no difference.)"""
    unit = np.empty((len(owns), len(mean)), np.float32)
    common = np.empty(len(owns))
    for e in range(len(owns)):
        v = matrix[owns[e]]
        centred = unit[e]
        square = np.float32(0.0)
        for d in range(len(mean)):
            centred[d] = v[d] - mean[d]
            square += centred[d] * centred[d]
        scale = np.float32(1.0) / max(np.sqrt(square), np.float32(LEAST))
        for d in range(len(mean)):
            centred[d] *= scale
        common[e] = _product(centred, mean)
    for x in range(len(rows)):
        out[x, 0] = -1
        if rows[x] < 0:
            continue
        best = -np.inf
        for e in range(len(owns)):
            cosine = _product(matrix[rows[x]], unit[e]) - common[e]
            if cosine > best:
                best = cosine
                out[x, 0] = items[e]
