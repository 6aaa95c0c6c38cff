"""Errors of many predictors of ratings side by side, and the running median."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.ratings import UNKNOWN
from models.rows import grown


class Errors:
    """Absolute and squared errors of named predictors. Holds one cell per predictor and user."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.n = 0
        self._squared: npt.NDArray[np.float64] = np.zeros(len(names))
        self._absolute: npt.NDArray[np.float64] = np.zeros((16, len(names)))  # by user
        self._tests: npt.NDArray[np.int64] = np.zeros(16, np.int64)  # by user
        self._users: dict[str, int] = {}

    def add(self, user_id: str, rating: float, predicted: npt.NDArray[np.float64]) -> None:
        """Count one rating of the user; `predicted` (names,) is clipped to 1..5 here."""
        errors = np.clip(predicted, 1.0, 5.0) - rating
        row = self._users.setdefault(user_id, len(self._users))
        self._absolute = grown(self._absolute, row + 1)
        self._tests = grown(self._tests, row + 1)
        self._absolute[row] += np.abs(errors)
        self._tests[row] += 1
        self._squared += errors * errors
        self.n += 1

    def table(self) -> dict[str, dict[str, float]]:
        """MAE, its standard error clustered by user, and RMSE by name. Empty where nothing was counted."""
        if not self.n:
            return {}
        mae = self._absolute.sum(axis=0) / self.n
        spread = self._absolute - self._tests[:, None] * mae
        error = np.sqrt((spread * spread).sum(axis=0)) / self.n
        rmse = np.sqrt(self._squared / self.n)
        return {
            name: {"mae": float(mae[k]), "mae_se": float(error[k]), "rmse": float(rmse[k])} for k, name in enumerate(self.names)
        }


class Median:
    """The running lower median of ratings. Holds one counter per distinct rating."""

    def __init__(self) -> None:
        self._seen: Counter[float] = Counter()

    def learn(self, rating: float) -> None:
        self._seen[rating] += 1

    def value(self) -> float:
        """The median so far, 3 before the first rating."""
        half, passed = (self._seen.total() + 1) // 2, 0
        for rating in sorted(self._seen):
            passed += self._seen[rating]
            if passed >= half:
                return rating
        return UNKNOWN
