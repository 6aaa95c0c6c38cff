"""Which items are taken by the same people: C_ij, the users whose profile holds both i and j.

Counted exactly, one step at a time (Huang et al., TencentRec, SIGMOD 2015, eq. 8), for all sources that look at it: `ItemCF`
makes cosines of it, `Ease` a regression.
"""

from __future__ import annotations

from models.config import Config
from models.history import Follower, History, Step
from models.kept import Kept
from models.pairs import Pairs


class Together(Follower, Kept):
    """Follows the steps of the history (see `history.Follower`). Bounds: `max_pairs`, `max_neighbours`."""

    kept = ("pairs",)
    scratch = ("wanted",)

    def __init__(self, config: Config, history: History) -> None:
        self.history = history
        self.pairs = Pairs(config.max_pairs, config.max_neighbours)
        self.wanted = False
        """Whether any source looks at the counts: else nothing is counted. Set once, before the first event."""

    def ensure(self, users: int, items: int) -> None:
        """Make place for so many items."""
        if self.wanted:
            self.pairs.ensure(items)

    def after(self, step: Step) -> None:
        """The step's item has come into the user's profile, or gone out of it."""
        if self.wanted and (step.joined or step.left):
            self.pairs.count(step.item, self.history.profile(step.user), 1 if step.joined else -1)

    def forget_item(self, item: int) -> None:
        """Its row is empty: nobody has the item."""
        if self.wanted:
            self.pairs.overflowed[item] = 0

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name -> (used, bound)."""
        return self.pairs.sizes() if self.wanted else {}
