"""From a request to candidates: the query, and the union of what all sources find for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from models.catalogue import Catalogue
from models.config import Config
from models.fusion import Union
from models.habit import Habit
from models.history import Follower, History
from models.kept import Kept
from models.kernel import kernel
from models.rows import Array, grown
from models.sources.base import Found, Query, Source
from models.window import PROFILE


@kernel
def _mark(window: Array, profile: Array, seen: Array, stamp: int, repeats: bool, at_ms: int) -> int:
    """Mark the items the user knows; with `repeats` only those they did not like. Returns `Query.pause_ms`."""
    for k in range(len(window)):
        if window[k].item >= 0:
            seen[window[k].item] = stamp
    if repeats:
        for k in range(len(profile)):
            seen[profile[k].item] = 0
    return max(0, at_ms - window[len(window) - 1].ts) if len(window) > 0 else -1


class Asking(Follower, Kept):
    """Makes queries and collects candidates. All it holds is scratch, overwritten by the next query."""

    scratch = ("sources", "union", "_found", "_nobody", "_seen", "_stamp")

    def __init__(self, config: Config, history: History, catalogue: Catalogue, sources: list[Source], habit: Habit) -> None:
        self.config, self.history, self.catalogue, self.sources, self.habit = config, history, catalogue, sources, habit
        self._seen: npt.NDArray[np.int64] = np.zeros(16, np.int64)
        self._stamp = 0
        self._nobody: Array = np.zeros(0, PROFILE)
        self._make_union(config.candidates)

    def _make_union(self, k: int) -> None:
        self.union = Union(self.sources, k)
        self.union.ensure(len(self._seen))
        self._found = [
            Found(items, scores) for items, scores in zip(self.union.found_items, self.union.found_scores, strict=True)
        ]

    # the hooks of a follower: scratch grows with the state, nothing else matters here
    def ensure(self, users: int, items: int) -> None:
        """Make place for so many items."""
        self._seen = grown(self._seen, items)
        self.union.ensure(items)

    def query(
        self,
        user_id: str | None,
        n: int,
        *,
        context: Mapping[str, str] | None = None,
        near: Sequence[tuple[str, float]] | None = None,
        repeats: bool | None = None,
        at_ms: int | None = None,
    ) -> Query:
        """What the sources are asked; `user_id` None: a stranger's; `at_ms` None: now, as far as the log knows."""
        history = self.history
        at_ms = history.now_ms if at_ms is None else at_ms
        user = history.users.get(user_id) if user_id is not None else -1
        profile = history.profile(user) if user >= 0 else self._nobody
        self._stamp += 1
        again = self.repeats if repeats is None else repeats
        pause_ms = -1
        if user >= 0:
            pause_ms = _mark(history.window(user), profile, self._seen, self._stamp, again, at_ms)
        return Query(
            user=user, profile=profile, now_ms=history.now_ms, k=max(n, self.config.candidates),
            open_items=self.catalogue.open, seen=self._seen, stamp=self._stamp, context=context, near=near,
            repeats=again, at_ms=at_ms, pause_ms=pause_ms, key=int(history.users.keys[user]) if user >= 0 else 0,
        )  # fmt: skip

    @property
    def repeats(self) -> bool:
        """Whether lists hold the user's own items where the request does not say."""
        return self.config.repeats == "always" or (self.config.repeats == "auto" and self.habit.returns)

    def candidates(self, query: Query, *, complete: bool) -> Union:
        """The union of all sources' candidates."""
        if query.k > self.union.k:
            self._make_union(query.k)
        for s, (source, found) in enumerate(zip(self.sources, self._found, strict=True)):
            self.union.counts[s] = source.find(query, found)
        self.union.merge(query, complete=complete)
        return self.union
